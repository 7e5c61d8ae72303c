//! Receive-side scaling, RSS (§7.1.2.8 of the datasheet): frames go to queues by a Toeplitz hash of
//! their addresses and ports, whose low seven bits choose an entry of a table.

use super::access::Bus;
use super::regs::*;
pub use crate::rss::{KEY_LEN, MICROSOFT_KEY as DEFAULT_KEY, TABLE_LEN};

/// Queues that the table can name: its entries have four bits.
pub const MAX_QUEUES: usize = 16;

/// A table that spreads hashes evenly over the first `queues` queues, as far as it can name them.
pub fn even_table(queues: usize) -> [u8; TABLE_LEN] {
    let queues = queues.clamp(1, MAX_QUEUES);
    std::array::from_fn(|entry| (entry % queues) as u8)
}

/// Programs key and table, and which headers are hashed: addresses and ports of TCP, addresses alone
/// of all else, for the fragments of a datagram must meet in one queue.
pub fn set_up<B: Bus>(bus: &B, key: &[u8; KEY_LEN], table: &[u8; TABLE_LEN]) {
    let (words, _) = key.as_chunks();
    for (register, &word) in RSSRK.all().zip(words) {
        bus.write(register, u32::from_le_bytes(word));
    }
    set_table(bus, table);
    let hashed = MRQC_TCP4 | MRQC_IPV4 | MRQC_TCP6 | MRQC_IPV6;
    bus.write(MRQC, MRQC_RSS | hashed);
}

/// Programs the table. Frames on their way go by the old one.
///
/// # Panics
/// If an entry is not below [`MAX_QUEUES`].
pub fn set_table<B: Bus>(bus: &B, table: &[u8; TABLE_LEN]) {
    assert!(table.iter().all(|&queue| usize::from(queue) < MAX_QUEUES));
    let (words, _) = table.as_chunks();
    for (register, &word) in RETA.all().zip(words) {
        bus.write(register, u32::from_le_bytes(word));
    }
}
