//! Places in `struct tcp_info` (linux/tcp.h), as the engine answers with it.

use context::context::REPLY_WORDS;

/// Its bytes: up to `tcpi_reord_seen`, as in Linux 4.19.
pub const LEN: usize = 224;

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

/// A socket that the engine does not know: its state, and Linux's initial timeout (in microseconds)
/// and segment size.
pub fn of_no_connection(state: u32) -> [u64; REPLY_WORDS] {
    let mut words = [0; REPLY_WORDS];
    words[0] = u64::from(state);
    words[1] = 1_000_000;
    words[2] = super::tcp::DEFAULT_SEGMENT as u64;
    words
}
