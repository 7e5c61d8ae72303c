//! PCI's configuration space, as far as the other side does not emulate it.

use std::ops::Range;

/// Bytes of configuration space, PCI Express's part included.
pub const LEN: usize = 4096;

/// Bytes of BAR 0, the registers.
pub const BAR0: u64 = 512 << 10;

/// Bytes of BAR 4, the table of MSI-X and its pending bits.
pub const BAR4: u64 = 16 << 10;

const COMMAND: usize = 0x04;
/// The card may answer to memory accesses, and may make its own.
const COMMAND_BITS: u16 = 1 << 1 | 1 << 2 | 1 << 10;
const BUS_MASTER: u16 = 1 << 2;
const PM: usize = 0x40;
/// Power management's control: the state, D0 or D3hot.
const PMCSR: usize = PM + 4;
const D3HOT: u8 = 3;
const MSIX: usize = 0x70;
const EXPRESS: usize = 0xa0;

/// Configuration space of one card.
pub struct Configuration {
    bytes: Vec<u8>,
}

impl Configuration {
    /// An 82599 for backplanes (KX4), which has no module that would have to be identified.
    pub fn new() -> Configuration {
        let mut space = Configuration {
            bytes: vec![0; LEN],
        };
        space.put(0x00, &[0x86, 0x80, 0xf7, 0x10]);
        // It has a list of capabilities, and is an Ethernet controller.
        space.put(0x06, &[0x10, 0x00, 0x01, 0x00, 0x00, 0x02]);
        // BAR 0 and BAR 4 have 64 bits.
        space.put(0x10, &[0x04]);
        space.put(0x20, &[0x04]);
        space.put(0x2c, &[0x86, 0x80, 0x0c, 0x00]);
        space.put(0x34, &[PM as u8]);
        space.put(PM, &[0x01, MSIX as u8, 0x03, 0x00]);
        // 64 vectors, the table at 0 and the pending bits at 0x2000 of BAR 4.
        let msix = [
            0x11,
            EXPRESS as u8,
            63,
            0x00,
            0x04,
            0,
            0,
            0,
            0x04,
            0x20,
            0,
            0,
        ];
        space.put(MSIX, &msix);
        // An endpoint, version 2, with eight lanes of 5 GT/s, payloads of up to 512 bytes.
        space.put(EXPRESS, &[0x10, 0x00, 0x02, 0x00, 0x02, 0x80, 0x00, 0x00]);
        space.put(EXPRESS + 0x0c, &[0x82, 0x04, 0x00, 0x00]);
        space.put(EXPRESS + 0x12, &[0x82, 0x00]);
        space
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn range(offset: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len)?;
        (end <= LEN).then_some(start..end)
    }

    /// Reads bytes; `None` outside.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let range = Configuration::range(offset, into.len())?;
        into.copy_from_slice(&self.bytes[range]);
        Some(())
    }

    /// Writes bytes, of which only the command register and the power state keep some; `None` outside.
    pub fn write(&mut self, offset: u64, from: &[u8]) -> Option<()> {
        let range = Configuration::range(offset, from.len())?;
        let masks = COMMAND_BITS.to_le_bytes();
        for (at, byte) in range.zip(from) {
            if let Some(mask) = at.checked_sub(COMMAND).and_then(|at| masks.get(at)) {
                self.bytes[at] = byte & mask;
            }
            // A state that there is not leaves the card in the one that it is in.
            if at == PMCSR && matches!(byte & 3, 0 | D3HOT) {
                self.bytes[at] = byte & 3;
            }
        }
        Some(())
    }

    /// Whether the card may use memory.
    pub fn is_bus_master(&self) -> bool {
        let command = [self.bytes[COMMAND], self.bytes[COMMAND + 1]];
        u16::from_le_bytes(command) & BUS_MASTER != 0 && !self.is_asleep()
    }

    /// Whether the card has been put to sleep (D3hot).
    pub fn is_asleep(&self) -> bool {
        self.bytes[PMCSR] & 3 == D3HOT
    }
}
