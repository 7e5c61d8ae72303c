//! `struct tcp_info` (`linux/tcp.h`), as `TCP_INFO` of `tcp(7)` returns it.

use super::Stack;
use super::commands::state_number;
use super::congestion_info;
use super::connection::Connection;
use super::slots::Role;
use crate::tcp::{Duration, Info, Instant};
use context::context::INFO_WORDS;
use context::socket::{Socket, state};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// Segments by which packets may be reordered before one counts as lost, as Linux begins.
const REORDERING: u32 = 3;

/// Fields one after the other, as they stand in memory; none of them needs padding.
struct Fields(Vec<u8>);

impl Fields {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_ne_bytes());
    }

    /// What does not fit counts as the largest that does.
    fn u32(&mut self, value: impl TryInto<u32>) {
        let value = value.try_into().unwrap_or(u32::MAX);
        self.0.extend(value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_ne_bytes());
    }

    fn micros(&mut self, span: Duration) {
        self.u32(span.as_micros());
    }

    fn millis(&mut self, span: Duration) {
        self.u32(span.as_millis());
    }

    /// As 64-bit words, with the struct of the congestion control behind its length.
    fn words(mut self, congestion: &[u8]) -> Vec<u64> {
        self.0.resize(INFO_WORDS * 8, 0);
        self.u64(congestion.len() as u64);
        self.0.extend(congestion);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let words = self.0.as_chunks::<8>().0.iter();
        words.map(|word| u64::from_ne_bytes(*word)).collect()
    }
}

/// What of the struct is not the protocol's business.
#[derive(Clone, Copy)]
pub struct Outside {
    /// Bytes of the headers of IP and TCP without options.
    pub headers: u32,
    /// `SO_MAX_PACING_RATE`, bytes per second.
    pub pacing_limit: u64,
}

/// The struct of a connection, and that of its congestion control.
pub fn of_connection(info: &Info, outside: Outside) -> Vec<u64> {
    let mut f = Fields(Vec::with_capacity((INFO_WORDS + 1) * 8));
    let mss = u64::from(info.send_mss.max(1));
    let is_probing = info.in_flight == 0;
    let retries = |on: bool| if on { info.retries } else { 0 };

    f.u8(state_number(info.state) as u8);
    f.u8(congestion_state(info));
    f.u8(retries(!is_probing));
    f.u8(retries(is_probing));
    f.u8(info.backoff);
    f.u8(options(info));
    let (snd_scale, rcv_scale) = info.window_scale.unwrap_or((0, 0));
    f.u8(snd_scale | rcv_scale << 4);
    // With it, tcpi_fastopen_client_fail: not told.
    f.u8(info.delivery_rate_app_limited.into());

    f.micros(info.rto);
    f.micros(info.ack_delay);
    f.u32(info.bounded_mss);
    f.u32(info.recv_mss);
    f.u32(info.unacked_segments);
    f.u32(info.sacked_segments);
    f.u32(info.lost_segments);
    f.u32(info.resent_segments);
    f.u32(0u32); // tcpi_fackets: no longer counted by Linux

    f.millis(info.last_sent);
    f.u32(0u32); // tcpi_last_ack_sent: never counted by Linux
    f.millis(info.last_received);
    f.millis(info.last_acked);

    f.u32(u32::from(info.path_mss) + outside.headers);
    f.u32(info.recv_buffer);
    f.micros(info.srtt.unwrap_or(Duration::ZERO));
    f.micros(info.rttvar);
    f.u32(threshold(info));
    f.u32((u64::from(info.cwnd) / mss).max(1));
    f.u32(info.own_mss);
    f.u32(info.reordering);
    f.micros(info.recv_rtt.unwrap_or(Duration::ZERO));
    f.u32(info.recv_space);
    f.u32(info.counters.retransmits);

    f.u64(pacing_rate(info).min(outside.pacing_limit));
    f.u64(outside.pacing_limit);
    f.u64(info.bytes_acked);
    f.u64(info.bytes_received);
    f.u32(info.counters.segments_out);
    f.u32(info.counters.segments_in);
    f.u32(info.unsent);
    f.u32(
        info.min_rtt
            .map_or(u64::from(u32::MAX), Duration::as_micros),
    );
    f.u32(info.counters.data_segments_in);
    f.u32(info.counters.data_segments_out);
    f.u64(info.delivery_rate);
    f.u64(info.busy.as_micros());
    f.u64(info.window_limited.as_micros());
    f.u64(info.buffer_limited.as_micros());
    f.u32(info.delivered_segments);
    f.u32(info.counters.marked_delivered);
    f.u64(info.bytes_sent);
    f.u64(info.bytes_resent);
    f.u32(info.counters.dsacks);
    f.u32(info.reordering_seen);
    f.u32(info.counters.out_of_order);
    f.u32(info.send_window);
    f.u32(info.recv_window);
    f.u32(0u32); // tcpi_rehash: the stack changes no flow labels
    f.u16(info.counters.timeouts);
    f.u16(0); // tcpi_total_rto_recoveries
    f.u32(0u32); // tcpi_total_rto_time
    f.u32(info.counters.marked_in);
    f.words(&congestion_info::bytes(&info.details))
}

/// `enum tcp_ca_state`.
fn congestion_state(info: &Info) -> u8 {
    const DISORDER: u8 = 1;
    const CWR: u8 = 2;
    const RECOVERY: u8 = 3;
    const LOSS: u8 = 4;
    match (info.loss_recovery, info.fast_recovery) {
        (true, _) => LOSS,
        (_, true) => RECOVERY,
        _ if info.reduction => CWR,
        _ if info.sacked_segments > 0 => DISORDER,
        _ => 0,
    }
}

/// `TCPI_OPT_TIMESTAMPS` and those that follow.
fn options(info: &Info) -> u8 {
    [
        (info.timestamps, 1),
        (info.sack, 2),
        (info.window_scale.is_some(), 4),
        (info.ecn, 8),
        (info.ecn_seen, 16),
        (info.syn_data, 32),
    ]
    .into_iter()
    .map(|(on, bit)| if on { bit } else { 0 })
    .sum()
}

/// The slow start threshold in segments, as Linux shows one that was never set.
fn threshold(info: &Info) -> u32 {
    const INFINITE: u32 = 0x7fff_ffff;
    match info.ssthresh {
        u32::MAX => INFINITE,
        bytes => bytes / u32::from(info.send_mss.max(1)),
    }
}

/// Bytes a second at which the window would leave evenly: Linux shows twice of that in slow start,
/// and 6/5 later, whether it paces or not.
fn pacing_rate(info: &Info) -> u64 {
    if let Some(rate) = info.pacing_rate {
        return rate;
    }
    let Some(rtt) = info.srtt.filter(|rtt| rtt.as_micros() > 0) else {
        return u64::MAX;
    };
    let percent = if info.cwnd < info.ssthresh / 2 {
        200
    } else {
        120
    };
    u64::from(info.cwnd) * percent * 10_000 / rtt.as_micros()
}

/// The struct of a connection that a socket's record shows.
pub fn of_record(c: &Connection, record: &Socket, now: Instant) -> Vec<u64> {
    let outside = Outside {
        headers: if c.flow.local.v4().is_some() { 40 } else { 60 },
        pacing_limit: !record.options.pacing_limit.load(Relaxed),
    };
    of_connection(&c.tcb.info(now), outside)
}

impl Stack {
    /// `TCP_INFO` of a socket: of its connection, or of the listener that it is. A socket that is
    /// neither has none, which an empty answer says.
    pub fn info_of(&mut self, socket: u32, connection: Option<u32>) -> Vec<u64> {
        let now = self.now;
        let shared = self.shared.clone();
        let Some(record) = shared.segment.socket(socket) else {
            return Vec::new();
        };
        if let Some(c) = connection.and_then(|id| self.connections.get(id)) {
            return of_record(c, record, now);
        }
        let backlog = match self.slots.get(socket).map(|slot| &slot.role) {
            Some(Role::Listener(listener)) => listener.backlog.load(Relaxed),
            _ => return self.last_info(socket),
        };
        of_listener(self.waiting(record), backlog, record)
    }

    /// Connections that wait to be accepted, at all workers.
    fn waiting(&self, listener: &Socket) -> u32 {
        let rings = listener.accept_rings.iter().map(|ring| ring.load(Acquire));
        rings
            .filter(|chunk| *chunk != 0)
            .filter_map(|chunk| self.shared.segment.accept_ring(chunk))
            .fold(0, |sum, ring| sum.saturating_add(ring.len()))
    }
}

/// A listener shows its queue where a connection shows its flight.
fn of_listener(waiting: u32, backlog: u32, record: &Socket) -> Vec<u64> {
    let mut f = Fields(vec![state::LISTEN as u8]);
    f.0.resize(24, 0);
    f.u32(waiting);
    f.u32(backlog);
    f.0.resize(88, 0);
    f.u32(REORDERING);
    f.0.resize(104, 0);
    let limit = !record.options.pacing_limit.load(Relaxed);
    f.u64(limit);
    f.u64(limit);
    f.words(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::{SeqNum, Settings, SocketOptions, Tcb, TcpConfig};

    /// Places in the struct, counted by hand from `linux/tcp.h`.
    fn at(words: &[u64], offset: usize, len: usize) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut value = [0; 8];
        value[..len].copy_from_slice(&bytes[offset..offset + len]);
        u64::from_ne_bytes(value)
    }

    #[test]
    fn each_field_stands_in_its_place() {
        let now = Instant::from_millis(5000);
        let settings = Settings::new(&TcpConfig::default(), &SocketOptions::default());
        let tcb = Tcb::connect(now, &settings, SeqNum(7), 0);
        let mut info = tcb.info(now);
        info.counters.retransmits = 31;
        info.counters.segments_out = 32;
        info.counters.segments_in = 33;
        info.counters.data_segments_in = 34;
        info.counters.data_segments_out = 35;
        info.counters.out_of_order = 36;
        info.bytes_sent = 37;
        info.counters.timeouts = 38;
        info.busy = Duration::from_micros(39);
        info.window_limited = Duration::from_micros(40);
        info.buffer_limited = Duration::from_micros(59);
        info.unsent = 41;
        info.bytes_acked = 42;
        info.bytes_received = 43;
        info.send_window = 44;
        info.recv_window = 45;
        info.recv_space = 46;
        info.unacked_segments = 48;
        info.sacked_segments = 49;
        info.lost_segments = 50;
        info.resent_segments = 51;
        info.reordering = 52;
        info.delivery_rate = 53;
        info.delivered_segments = 54;
        info.bytes_resent = 55;
        info.counters.dsacks = 56;
        info.reordering_seen = 57;
        info.counters.marked_in = 58;
        let outside = Outside {
            headers: 40,
            pacing_limit: 47,
        };
        let words = of_connection(&info, outside);
        assert_eq!(words.len(), INFO_WORDS + 1);
        for (offset, len, expected, what) in [
            (0, 1, 2, "state"),
            (8, 4, 1_000_000, "rto"),
            (24, 4, 48, "unacked"),
            (28, 4, 49, "sacked"),
            (32, 4, 50, "lost"),
            (36, 4, 51, "retrans"),
            (60, 4, 1500, "pmtu"),
            (76, 4, 0x7fff_ffff, "snd_ssthresh"),
            (80, 4, 10, "snd_cwnd"),
            (88, 4, 52, "reordering"),
            (96, 4, 46, "rcv_space"),
            (100, 4, 31, "total_retrans"),
            (104, 8, 47, "pacing_rate"),
            (112, 8, 47, "max_pacing_rate"),
            (120, 8, 42, "bytes_acked"),
            (128, 8, 43, "bytes_received"),
            (136, 4, 32, "segs_out"),
            (140, 4, 33, "segs_in"),
            (144, 4, 41, "notsent_bytes"),
            (148, 4, 0xffff_ffff, "min_rtt"),
            (152, 4, 34, "data_segs_in"),
            (156, 4, 35, "data_segs_out"),
            (160, 8, 53, "delivery_rate"),
            (168, 8, 39, "busy_time"),
            (176, 8, 40, "rwnd_limited"),
            (184, 8, 59, "sndbuf_limited"),
            (192, 4, 54, "delivered"),
            (200, 8, 37, "bytes_sent"),
            (208, 8, 55, "bytes_retrans"),
            (216, 4, 56, "dsack_dups"),
            (220, 4, 57, "reord_seen"),
            (224, 4, 36, "rcv_ooopack"),
            (228, 4, 44, "snd_wnd"),
            (232, 4, 45, "rcv_wnd"),
            (240, 2, 38, "total_rto"),
            (248, 4, 58, "received_ce"),
        ] {
            assert_eq!(at(&words, offset, len), expected, "{what}");
        }
    }
}
