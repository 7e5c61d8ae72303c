//! Places in `struct tcp_info` (linux/tcp.h), as the engine answers with it.

use context::context::{INFO_WORDS, REPLY_WORDS};

/// Its bytes.
pub const LEN: usize = INFO_WORDS * 8;

/// `union tcp_cc_info`, which stands behind it, in as many bytes as the congestion control has.
pub fn congestion(words: &[u64; REPLY_WORDS]) -> Vec<u8> {
    let bytes = words[INFO_WORDS + 1..].iter().flat_map(|w| w.to_ne_bytes());
    bytes.take(words[INFO_WORDS] as usize).collect()
}

/// `tcpi_snd_mss`
pub fn send_mss(words: &[u64; REPLY_WORDS]) -> i32 {
    u32_at(words, 16)
}

/// `tcpi_pmtu`
pub fn path_mtu(words: &[u64; REPLY_WORDS]) -> i32 {
    u32_at(words, 60)
}

/// `tcpi_notsent_bytes`
pub fn not_sent(words: &[u64; REPLY_WORDS]) -> u64 {
    u64::from(u32_at(words, 144) as u32)
}

fn u32_at(words: &[u64; REPLY_WORDS], at: usize) -> i32 {
    (words[at / 8] >> (at % 8 * 8)) as u32 as i32
}

/// A socket that the engine does not know: its state, and what Linux begins with. Times are in
/// microseconds, windows in segments.
pub fn of_no_connection(state: u32, pacing_limit: u64) -> [u64; REPLY_WORDS] {
    let mut words = [0; REPLY_WORDS];
    words[0] = u64::from(state);
    words[1] = 1_000_000;
    words[2] = super::tcp::DEFAULT_SEGMENT as u64;
    let mut put = |at: usize, value: u32| words[at / 8] |= u64::from(value) << (at % 8 * 8);
    put(72, 250_000); // tcpi_rttvar
    put(76, 0x7fff_ffff); // tcpi_snd_ssthresh
    put(80, 10); // tcpi_snd_cwnd
    put(88, 3); // tcpi_reordering
    put(148, u32::MAX); // tcpi_min_rtt
    words[104 / 8] = pacing_limit; // tcpi_pacing_rate
    words[112 / 8] = pacing_limit; // tcpi_max_pacing_rate
    words
}
