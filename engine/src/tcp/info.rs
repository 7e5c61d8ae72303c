//! A snapshot of a connection for TCP_INFO and for tools.

use super::congestion::{Algorithm, Details};
use super::counters::Counters;
use super::options::TIMESTAMPS_LEN;
use super::recovery::Phase;
use super::tcb::{State, Tcb};
use super::time::{Duration, Instant};

/// What is known of a connection. Sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Connection state.
    pub state: State,
    /// Congestion control in use.
    pub congestion: Algorithm,
    /// What this congestion control tells of itself.
    pub details: Details,
    /// Fast recovery is under way.
    pub fast_recovery: bool,
    /// Recovery after a timeout is under way.
    pub loss_recovery: bool,
    /// The window falls because of a mark, with nothing known to be lost.
    pub reduction: bool,
    /// Retransmissions or probes without answer so far.
    pub retries: u8,
    /// Window probes and timeouts that doubled the timeout since the last measurement.
    pub backoff: u8,
    /// Timestamps were negotiated.
    pub timestamps: bool,
    /// Both ends understand congestion marks (RFC 3168).
    pub ecn: bool,
    /// A segment that may be marked has come.
    pub ecn_seen: bool,
    /// SACK was negotiated.
    pub sack: bool,
    /// Data rode in a SYN and was taken (RFC 7413).
    pub syn_data: bool,
    /// Shift counts of the peer's windows and of ours, if scaling was negotiated.
    pub window_scale: Option<(u8, u8)>,
    /// Retransmission timeout.
    pub rto: Duration,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// Variation of the round-trip time.
    pub rttvar: Duration,
    /// Least round-trip time measured.
    pub min_rtt: Option<Duration>,
    /// Payload of a full segment sent.
    pub send_mss: u16,
    /// The same, but no more than half of the peer's largest window.
    pub bounded_mss: u16,
    /// Payload of a full segment of the peer's, as far as one has come.
    pub recv_mss: u16,
    /// MSS that this side announced, less what the options of each segment take.
    pub own_mss: u16,
    /// MSS that the path takes.
    pub path_mss: u16,
    /// Delay of an ACK; zero before there was data to acknowledge.
    pub ack_delay: Duration,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold.
    pub ssthresh: u32,
    /// Window that the peer offers.
    pub send_window: u32,
    /// Window offered to the peer.
    pub recv_window: u64,
    /// Receive buffer, as tuned by now.
    pub recv_buffer: u32,
    /// Sequence numbers sent and not acknowledged.
    pub in_flight: u64,
    /// Segments sent and not acknowledged.
    pub unacked_segments: u32,
    /// Of these, those that the peer reports to hold (or that duplicate ACKs stand for).
    pub sacked_segments: u32,
    /// Of these, those believed lost.
    pub lost_segments: u32,
    /// Of these, those sent again and in flight.
    pub resent_segments: u32,
    /// Degree of reordering in segments.
    pub reordering: u32,
    /// Times that reordering was seen.
    pub reordering_seen: u32,
    /// Segments known to have arrived.
    pub delivered_segments: u32,
    /// Delivery rate in bytes a second, 0 before it was measured.
    pub delivery_rate: u64,
    /// The application limited the measured rate.
    pub delivery_rate_app_limited: bool,
    /// Bytes a second at which data leaves; `None` if it is not paced.
    pub pacing_rate: Option<u64>,
    /// Bytes written and not yet sent.
    pub unsent: u64,
    /// Bytes of the stream acknowledged by the peer.
    pub bytes_acked: u64,
    /// Payload sent in bytes, each time that it was.
    pub bytes_sent: u64,
    /// The part of it that was sent again.
    pub bytes_resent: u64,
    /// Bytes of the stream received in order.
    pub bytes_received: u64,
    /// Round trip as measured by the receiver, if it was.
    pub recv_rtt: Option<Duration>,
    /// Most bytes that the application read in a round trip.
    pub recv_space: u32,
    /// Time during which there was data to send or to be acknowledged.
    pub busy: Duration,
    /// The part of it during which the peer's window held data back.
    pub window_limited: Duration,
    /// The part of it during which the send buffer did.
    pub buffer_limited: Duration,
    /// Time since data was last sent, at most since the handshake.
    pub last_sent: Duration,
    /// Time since data last came in order, at most since the handshake or a SYN that was answered
    /// before (RFC 7413).
    pub last_received: Duration,
    /// Time since an ACK last came.
    pub last_acked: Duration,
    /// Counters.
    pub counters: Counters,
}

impl Tcb {
    /// A snapshot of the connection.
    pub fn info(&self, now: Instant) -> Info {
        let (delivery_rate, delivery_rate_app_limited) = self.rate.measured();
        let held_back = self.held_back(now);
        let stamped = if self.ts.on { TIMESTAMPS_LEN as u16 } else { 0 };
        let scales = (self.snd.scale.shift(), self.rcv.scale.shift());
        Info {
            state: self.state,
            congestion: self.cc.algorithm(),
            details: self.cc.details(self.ecn.on, self.ecn.echo),
            fast_recovery: self.recovery.phase() == Phase::Fast,
            loss_recovery: self.recovery.phase() == Phase::Loss,
            reduction: self.recovery.phase() == Phase::Reduction,
            retries: self.retries,
            backoff: self.rtt.backoff(),
            timestamps: self.ts.on,
            syn_data: self.syn_data,
            ecn: self.ecn.on,
            ecn_seen: self.ecn.seen,
            sack: self.recovery.sack,
            window_scale: self.scaling.then_some(scales),
            rto: self.rtt.rto(),
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            min_rtt: self.rtt.min_rtt(),
            send_mss: self.mss,
            bounded_mss: u16::try_from(self.send_mss()).unwrap_or(self.mss),
            recv_mss: u16::try_from(self.ack.segment()).unwrap_or(u16::MAX),
            own_mss: self.set.own_mss.saturating_sub(stamped),
            path_mss: self.path.segment(),
            ack_delay: match self.received() {
                0 => Duration::ZERO,
                _ => self.set.delayed_ack.get(),
            },
            cwnd: self.cc.cwnd(),
            ssthresh: self.cc.ssthresh(),
            send_window: self.snd.wnd,
            recv_window: self.rcv.window(),
            recv_buffer: self.rcv.buffer(),
            in_flight: self.in_flight(),
            unacked_segments: self.sent.out.segments,
            sacked_segments: self.sent.sacked().segments + self.recovery.held,
            lost_segments: self.sent.lost().segments,
            resent_segments: self.sent.resent().segments,
            reordering: self.repair.reordering.degree.into(),
            reordering_seen: self.repair.reordering.seen,
            delivered_segments: self.rate.segments,
            delivery_rate,
            delivery_rate_app_limited,
            pacing_rate: self.pacing_rate(),
            unsent: self.unsent(),
            bytes_acked: self.acked(),
            bytes_sent: self.sent_once() + u64::from(self.repair.incidents.bytes_resent),
            bytes_resent: self.repair.incidents.bytes_resent.into(),
            bytes_received: self.received(),
            recv_rtt: self.rcv.rate.rtt(),
            recv_space: self.rcv.rate.space(),
            busy: held_back.network + held_back.window + held_back.buffer,
            window_limited: held_back.window,
            buffer_limited: held_back.buffer,
            last_sent: now.since(self.sent_at),
            last_received: now.since(self.ack.data_at()),
            last_acked: now.since(self.ack_at),
            counters: self.counters(),
        }
    }
}
