//! `struct tcp_info` (`linux/tcp.h`), as `TCP_INFO` of `tcp(7)` returns it.

use super::commands::state_number;
use crate::tcp::{Duration, Info};

/// Bytes of the part of `struct tcp_info` that is filled in: up to `tcpi_bytes_retrans`.
const LEN: usize = 224;
/// `TCPI_OPT_TIMESTAMPS`, `TCPI_OPT_SACK`, `TCPI_OPT_WSCALE`, `TCPI_OPT_SYN_DATA`.
const OPTIONS: [u8; 4] = [1, 2, 4, 32];

/// The struct as 64-bit words in memory order.
pub fn words(info: &Info) -> Vec<u64> {
    let mut b = [0u8; LEN];
    let put = |b: &mut [u8; LEN], at: usize, value: u32| {
        b[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    };
    let put64 = |b: &mut [u8; LEN], at: usize, value: u64| {
        b[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    };
    let micros = |d: Duration| d.as_micros().min(u64::from(u32::MAX)) as u32;
    let millis = |d: Duration| d.as_millis().min(u64::from(u32::MAX)) as u32;
    let small = |n: u64| n.min(u64::from(u32::MAX)) as u32;
    let mss = u32::from(info.send_mss.max(1));

    b[0] = state_number(info.state) as u8;
    // TCP_CA_Open 0, TCP_CA_Recovery 3, TCP_CA_Loss 4.
    b[1] = match (info.loss_recovery, info.fast_recovery) {
        (true, _) => 4,
        (_, true) => 3,
        _ => 0,
    };
    b[2] = info.retries;
    b[4] = info.backoff;
    let on = [
        info.timestamps,
        info.sack,
        info.window_scale.is_some(),
        info.syn_data,
    ];
    b[5] = OPTIONS
        .iter()
        .zip(on)
        .map(|(bit, on)| if on { *bit } else { 0 })
        .sum();
    let (snd_scale, rcv_scale) = info.window_scale.unwrap_or((0, 0));
    b[6] = snd_scale | rcv_scale << 4;
    put(&mut b, 8, micros(info.rto));
    put(&mut b, 16, mss);
    put(&mut b, 20, u32::from(info.own_mss));
    put(&mut b, 24, small(info.in_flight.div_ceil(u64::from(mss))));
    put(&mut b, 44, millis(info.last_sent));
    put(&mut b, 52, millis(info.last_heard));
    put(&mut b, 56, millis(info.last_heard));
    // tcpi_pmtu: the segment with its headers and timestamps.
    put(&mut b, 60, mss + 40 + if info.timestamps { 12 } else { 0 });
    put(&mut b, 68, info.srtt.map_or(0, micros));
    put(&mut b, 72, micros(info.rttvar));
    put(&mut b, 76, info.ssthresh / mss);
    put(&mut b, 80, (info.cwnd / mss).max(1));
    put(&mut b, 84, u32::from(info.own_mss));
    put(&mut b, 88, 3);
    put(&mut b, 96, info.recv_buffer);
    put(&mut b, 100, info.counters.retransmits);
    put64(&mut b, 120, info.bytes_acked);
    put64(&mut b, 128, info.bytes_received);
    put(&mut b, 136, small(info.counters.segments_out));
    put(&mut b, 140, small(info.counters.segments_in));
    put(&mut b, 144, small(info.unsent));
    put(&mut b, 148, info.min_rtt.map_or(u32::MAX, micros));
    put64(&mut b, 200, info.bytes_acked + info.in_flight);
    b.as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect()
}
