//! How a card is to be set up.

use std::time::Duration;

use super::rss::{DEFAULT_KEY, KEY_LEN};
use crate::Error;

/// Queues that the driver drives; RSS reaches the first sixteen, filters reach all.
pub const MAX_QUEUES: usize = 64;

/// The largest IP packet whose frame the card takes, as Linux's driver allows it.
pub const MAX_MTU: usize = 9710;

/// Ethernet header and frame check sequence, and the tag of a VLAN.
const FRAME_EXTRA: usize = 14 + 4 + 4;

/// How a card is to be set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IxgbeConfig {
    /// Queue pairs, one to each worker: 1 to 64.
    pub queues: usize,
    /// Largest IP packet, in bytes: 68 to 9,710; beyond 1,500 the frames are jumbo frames.
    pub mtu: usize,
    /// Descriptors of each receive ring: a power of two from 64 to 4,096.
    pub rx_descriptors: usize,
    /// Descriptors of each transmit ring, likewise.
    pub tx_descriptors: usize,
    /// Has the card merge TCP segments (RSC).
    pub coalescing: bool,
    /// Takes frames to any address.
    pub promiscuous: bool,
    /// The key of the Toeplitz hash that spreads frames over the queues.
    pub rss_key: [u8; KEY_LEN],
    /// Least time between two interrupts of a queue, up to a millisecond.
    pub moderation: Duration,
}

impl Default for IxgbeConfig {
    /// One queue, 1,500 bytes, 512 descriptors each way, and interrupts 50 µs apart.
    fn default() -> IxgbeConfig {
        IxgbeConfig {
            queues: 1,
            mtu: 1500,
            rx_descriptors: 512,
            tx_descriptors: 512,
            coalescing: true,
            promiscuous: false,
            rss_key: DEFAULT_KEY,
            moderation: Duration::from_micros(50),
        }
    }
}

impl IxgbeConfig {
    /// # Errors
    /// [`Error::Description`] for what no card can do.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Description(what));
        crate::check_queue_count("an 82599", self.queues, MAX_QUEUES)?;
        if !(68..=MAX_MTU).contains(&self.mtu) {
            return wrong(format!(
                "the MTU of an 82599 is 68 to {MAX_MTU} bytes, not {}",
                self.mtu
            ));
        }
        for count in [self.rx_descriptors, self.tx_descriptors] {
            if !count.is_power_of_two() || !(64..=4096).contains(&count) {
                return wrong(format!(
                    "a ring of an 82599 has a power of two of descriptors, 64 to 4096, not {count}"
                ));
            }
        }
        Ok(())
    }

    /// The longest frame on the wire, in bytes.
    pub(super) fn longest_frame(&self) -> usize {
        self.mtu + FRAME_EXTRA
    }

    /// The size of a receive buffer as a power of two, so that a frame off the wire fits in one.
    pub(super) fn buffer_shift(&self) -> u32 {
        self.longest_frame().next_power_of_two().ilog2().max(11)
    }

    /// How many descriptors a coalesced frame may take, as RSCCTL has it: 1, 4, 8 or 16, such that
    /// the frame stays below 64 KB.
    pub(super) fn coalesced_descriptors(&self) -> u32 {
        match self.buffer_shift() {
            ..=11 => 3,
            12 => 2,
            13 => 1,
            _ => 0,
        }
    }
}
