//! A snapshot of a connection for TCP_INFO and for tools.

use super::congestion::Algorithm;
use super::recovery::Phase;
use super::tcb::{Counters, State, Tcb};
use super::time::{Duration, Instant};

/// What is known of a connection. Sizes are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Connection state.
    pub state: State,
    /// Congestion control in use.
    pub congestion: Algorithm,
    /// Fast recovery is under way.
    pub fast_recovery: bool,
    /// Recovery after a timeout is under way.
    pub loss_recovery: bool,
    /// Retransmissions or probes without answer so far.
    pub retries: u8,
    /// Window probes and timeouts that doubled the timeout since the last measurement.
    pub backoff: u8,
    /// Timestamps were negotiated.
    pub timestamps: bool,
    /// SACK was negotiated.
    pub sack: bool,
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
    /// MSS that this side announced.
    pub own_mss: u16,
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
    /// Bytes written and not yet sent.
    pub unsent: u64,
    /// Bytes of the stream acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes of the stream received in order.
    pub bytes_received: u64,
    /// Time since data was last sent.
    pub last_sent: Duration,
    /// Time since the peer was last heard.
    pub last_heard: Duration,
    /// Counters.
    pub counters: Counters,
}

impl Tcb {
    /// A snapshot of the connection.
    pub fn info(&self, now: Instant) -> Info {
        let scales = (self.snd.scale.shift(), self.rcv.scale.shift());
        Info {
            state: self.state,
            congestion: self.cc.algorithm(),
            fast_recovery: self.recovery.phase() == Phase::Fast,
            loss_recovery: self.recovery.phase() == Phase::Loss,
            retries: self.retries,
            backoff: self.rtt.backoff(),
            timestamps: self.ts.on,
            sack: self.recovery.sack,
            window_scale: self.scaling.then_some(scales),
            rto: self.rtt.rto(),
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            min_rtt: self.rtt.min_rtt(),
            send_mss: self.mss,
            own_mss: self.set.own_mss,
            cwnd: self.cc.cwnd(),
            ssthresh: self.cc.ssthresh(),
            send_window: self.snd.wnd,
            recv_window: self.rcv.window(),
            recv_buffer: self.rcv.buffer(),
            in_flight: self.in_flight(),
            unsent: self.unsent(),
            bytes_acked: self.acked(),
            bytes_received: self.received(),
            last_sent: now.since(self.sent_at),
            last_heard: now.since(self.heard_at),
            counters: self.counters,
        }
    }
}
