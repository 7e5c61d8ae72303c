//! A card as vfio-user's server shows it.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::unix::net::UnixListener;

use ixgbe_model::Card;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_BAR4_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, Error, IrqInfo, Server, ServerBackend, ServerRegion};

use crate::configuration::{self, Configuration};
use crate::{Port, VECTORS};

/// Serves a card to the one process that connects to the socket, until that closes the connection.
///
/// # Errors
/// What the socket says.
pub fn serve(port: &Port, socket: UnixListener) -> Result<(), Error> {
    let server = Server::from_owned_fd(socket.into(), true, irqs(), regions());
    let mut backend = Backend {
        port: port.clone(),
        configuration: Configuration::new(),
        msix: vec![0; configuration::BAR4 as usize],
    };
    let ended = server.run(&mut backend);
    // Whoever is gone has taken its memory along.
    let _ = backend.reset();
    port.memory().clear();
    ended
}

fn regions() -> Vec<ServerRegion> {
    let sizes = |index| match index {
        VFIO_PCI_BAR0_REGION_INDEX => configuration::BAR0,
        VFIO_PCI_BAR4_REGION_INDEX => configuration::BAR4,
        VFIO_PCI_CONFIG_REGION_INDEX => configuration::LEN as u64,
        _ => 0,
    };
    let region = |index| ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            index,
            size: sizes(index),
            flags: match sizes(index) {
                0 => 0,
                _ => VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
            },
            ..Default::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

fn irqs() -> Vec<IrqInfo> {
    let irq = |index| match index {
        VFIO_PCI_MSIX_IRQ_INDEX => IrqInfo {
            index,
            flags: VFIO_IRQ_INFO_EVENTFD,
            count: VECTORS as u32,
        },
        _ => IrqInfo {
            index,
            flags: 0,
            count: 0,
        },
    };
    (0..VFIO_PCI_NUM_IRQS).map(irq).collect()
}

struct Backend {
    port: Port,
    configuration: Configuration,
    /// What the other side keeps in BAR 4, which it emulates itself.
    msix: Vec<u8>,
}

impl Backend {
    /// Does something with the card, unless that has refused something.
    fn card<T>(&self, action: impl FnOnce(&mut Card) -> T) -> io::Result<T> {
        self.port.card(action).ok_or_else(|| failed(libc::EIO))
    }

    /// The bytes of BAR 4 that an access means.
    fn msix(&mut self, offset: u64, len: usize) -> io::Result<&mut [u8]> {
        let start = usize::try_from(offset).map_err(|_| failed(libc::EINVAL))?;
        let tail = self.msix.get_mut(start..);
        tail.and_then(|tail| tail.get_mut(..len))
            .ok_or_else(|| failed(libc::EINVAL))
    }
}

fn failed(error: i32) -> io::Error {
    io::Error::from_raw_os_error(error)
}

/// The first register that an access to BAR 0 means: one of 32 bits, or two that follow each other, as
/// Linux's driver writes a filter of the flow director.
fn register(offset: u64, len: usize) -> io::Result<u32> {
    let inside = offset < configuration::BAR0 && offset.is_multiple_of(len as u64);
    if inside && matches!(len, 4 | 8) {
        Ok(offset as u32)
    } else {
        Err(failed(libc::EINVAL))
    }
}

impl ServerBackend for Backend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_BAR0_REGION_INDEX => {
                let mut register = register(offset, data.len())?;
                let (words, _) = data.as_chunks_mut();
                for word in words {
                    *word = self.card(|card| card.read(register))?.to_le_bytes();
                    register += 4;
                }
                Ok(())
            }
            VFIO_PCI_BAR4_REGION_INDEX => {
                data.copy_from_slice(self.msix(offset, data.len())?);
                Ok(())
            }
            VFIO_PCI_CONFIG_REGION_INDEX => {
                let read = self.configuration.read(offset, data);
                read.ok_or_else(|| failed(libc::EINVAL))
            }
            _ => Err(failed(libc::EINVAL)),
        }
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_BAR0_REGION_INDEX => {
                let mut register = register(offset, data.len())?;
                let (words, _) = data.as_chunks();
                for &word in words {
                    self.card(|card| card.write(register, u32::from_le_bytes(word)))?;
                    register += 4;
                }
                self.port.wake();
                Ok(())
            }
            VFIO_PCI_BAR4_REGION_INDEX => {
                self.msix(offset, data.len())?.copy_from_slice(data);
                Ok(())
            }
            VFIO_PCI_CONFIG_REGION_INDEX => {
                let slept = self.configuration.is_asleep();
                let written = self.configuration.write(offset, data);
                written.ok_or_else(|| failed(libc::EINVAL))?;
                if slept && !self.configuration.is_asleep() {
                    // It keeps nothing while it sleeps (No_Soft_Reset is clear).
                    return self.reset();
                }
                let master = self.configuration.is_bus_master();
                self.card(|card| card.set_bus_master(master))
            }
            _ => Err(failed(libc::EINVAL)),
        }
    }

    /// Memory without a descriptor is no memory that a card uses, such as a BIOS.
    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        match file {
            Some(file) => self.port.memory().map(address, size, &file, offset),
            None => Ok(()),
        }
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        if flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            self.port.memory().clear();
            Ok(())
        } else {
            self.port.memory().unmap(address, size)
        }
    }

    fn reset(&mut self) -> io::Result<()> {
        self.configuration = Configuration::new();
        self.card(Card::reset_function)
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        let last = start.checked_add(count);
        if index != VFIO_PCI_MSIX_IRQ_INDEX || last.is_none_or(|last| last > VECTORS as u32) {
            return Err(failed(libc::EINVAL));
        }
        let (first, count) = match (flags & VFIO_IRQ_SET_DATA_EVENTFD, count) {
            // All of them are taken away.
            (0, 0) => (0, VECTORS),
            // One is rung by hand, for a test; or given up.
            _ => (start as usize, count as usize),
        };
        let mut files = files.into_iter();
        self.port
            .connect(first, (0..count).map(|_| files.next()).collect());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> Backend {
        Backend {
            port: Port::new([0, 1, 2, 3, 4, 5], 1),
            configuration: Configuration::new(),
            msix: vec![0; configuration::BAR4 as usize],
        }
    }

    #[test]
    fn accesses_that_no_register_answers_are_errors() {
        let mut backend = backend();
        let wrong = [
            (VFIO_PCI_BAR0_REGION_INDEX, 0x80000, 4),
            (VFIO_PCI_BAR0_REGION_INDEX, 2, 4),
            (VFIO_PCI_BAR0_REGION_INDEX, 4, 8),
            (VFIO_PCI_BAR0_REGION_INDEX, 0, 16),
            (VFIO_PCI_BAR0_REGION_INDEX, 0, 0),
            (VFIO_PCI_BAR0_REGION_INDEX, u64::MAX - 3, 4),
            (VFIO_PCI_BAR4_REGION_INDEX, 16 << 10, 1),
            (VFIO_PCI_BAR4_REGION_INDEX, u64::MAX, 2),
            (VFIO_PCI_CONFIG_REGION_INDEX, 4095, 2),
            (VFIO_PCI_CONFIG_REGION_INDEX, u64::MAX, 1),
            (VFIO_PCI_NUM_REGIONS, 0, 4),
        ];
        for (region, offset, len) in wrong {
            let mut bytes = vec![0xff; len];
            assert!(backend.region_read(region, offset, &mut bytes).is_err());
            assert!(backend.region_write(region, offset, &bytes).is_err());
        }
    }

    #[test]
    fn an_access_of_64_bits_reaches_two_registers() {
        let mut backend = backend();
        let (region, rssrk) = (VFIO_PCI_BAR0_REGION_INDEX, 0x5c80);
        let written = [1, 2, 3, 4, 5, 6, 7, 8];
        let write = backend.region_write(region, rssrk, &written);
        write.expect("two registers");
        let mut both = [0; 8];
        backend.region_read(region, rssrk, &mut both).expect("two");
        assert_eq!(both, written);
        let mut second = [0; 4];
        let read = backend.region_read(region, rssrk + 4, &mut second);
        read.expect("one");
        assert_eq!(second, written[4..]);
    }

    #[test]
    fn a_card_that_sleeps_uses_no_memory_and_wakes_up_as_after_a_reset() {
        let mut backend = backend();
        let region = VFIO_PCI_CONFIG_REGION_INDEX;
        let (command, power) = (0x04, 0x44);
        backend.region_write(region, command, &[6, 0]).expect("on");
        assert!(backend.configuration.is_bus_master());
        backend
            .region_write(region, power, &[3, 0])
            .expect("asleep");
        let mut state = [0; 2];
        backend
            .region_read(region, power, &mut state)
            .expect("told");
        assert_eq!(state, [3, 0]);
        assert!(!backend.configuration.is_bus_master());
        backend.region_write(region, power, &[0, 0]).expect("awake");
        backend
            .region_read(region, power, &mut state)
            .expect("told");
        assert_eq!(state, [0, 0]);
        assert!(!backend.configuration.is_bus_master());
    }

    #[test]
    fn only_the_command_register_and_the_power_state_keep_what_is_written() {
        let mut backend = backend();
        let region = VFIO_PCI_CONFIG_REGION_INDEX;
        let mut before = vec![0; configuration::LEN];
        backend.region_read(region, 0, &mut before).expect("inside");
        let ones = vec![0xff; configuration::LEN];
        backend.region_write(region, 0, &ones).expect("inside");
        let mut after = vec![0; configuration::LEN];
        backend.region_read(region, 0, &mut after).expect("inside");
        before[4..6].copy_from_slice(&[0x06, 0x04]);
        before[0x44] = 3;
        assert_eq!(after, before);
    }

    #[test]
    fn vectors_that_there_are_not_are_refused() {
        let mut backend = backend();
        let msix = VFIO_PCI_MSIX_IRQ_INDEX;
        for (index, start, count) in [(msix, 63, 2), (msix, u32::MAX, 1), (0, 0, 1)] {
            let set = backend.set_irqs(index, VFIO_IRQ_SET_DATA_EVENTFD, start, count, vec![]);
            assert!(set.is_err());
        }
    }

    #[test]
    fn memory_beyond_its_file_or_over_other_memory_or_a_part_of_a_mapping_is_refused() {
        let mut backend = backend();
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8192).expect("room");
        let mut map = |offset, address, size| {
            let file = file.try_clone().expect("a descriptor");
            backend.dma_map(DmaMapFlags::READ_WRITE, offset, address, size, Some(file))
        };
        for (offset, address, size) in [
            (4096, 0, 8192),
            (0, 0, 0),
            (u64::MAX - 4095, 0, 4096),
            (0, u64::MAX - 4095, 8192),
        ] {
            assert!(map(offset, address, size).is_err());
        }
        map(0, 0x1000, 8192).expect("all of the file");
        assert!(map(0, 0x2000, 4096).is_err());
        map(0, 0x3000, 4096).expect("next to it");
        let mut unmap = |address, size| backend.dma_unmap(DmaUnmapFlags::empty(), address, size);
        for (address, size) in [(0x1000, 4096), (0x2000, 8192), (0, 0x2000)] {
            assert!(unmap(address, size).is_err(), "a mapping is not cut");
        }
        unmap(0x1000, 0x3000).expect("both of them");
        unmap(0x1000, 0x3000).expect("nothing is there");
        let flags = DmaMapFlags::READ_WRITE;
        let mapped = backend.dma_map(flags, 0, 0x2000, 8192, Some(file));
        mapped.expect("there is room again");
    }
}
