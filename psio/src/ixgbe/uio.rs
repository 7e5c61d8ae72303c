//! A card that sysfs alone shows, bound to uio_pci_generic or to no driver: its registers are mapped
//! from `resource0`, and it is given physical addresses, which /proc/self/pagemap tells root. It does
//! not interrupt us. No IOMMU keeps the card from other memory, and nobody stops it when the process
//! is killed: prefer VFIO.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::access::{Bus, Dma, Registers, Vectors};
use super::bar::Bar;
use super::dma::DmaMemory;
use super::pages::{Mapper, Pool};
use super::pci::{Function, missing};
use crate::Error;

/// Bytes of a page, and of what pagemap says of it (Documentation/admin-guide/mm/pagemap.rst).
const PAGE: u64 = 4096;
const ENTRY: u64 = 8;
const PRESENT: u64 = 1 << 63;
const FRAME_NUMBER: u64 = (1 << 55) - 1;

/// The command register of PCI's configuration space: memory, and bus master.
const COMMAND: u64 = 4;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;

/// Physical addresses of this process's pages.
struct Pagemap(File);

impl Pagemap {
    /// Where in physical memory a huge page lies.
    fn physical(&self, address: u64) -> Result<u64, Error> {
        let mut entry = [0; ENTRY as usize];
        self.0
            .read_exact_at(&mut entry, address / PAGE * ENTRY)
            .map_err(Error::io("read /proc/self/pagemap"))?;
        let entry = u64::from_le_bytes(entry);
        if entry & PRESENT == 0 || entry & FRAME_NUMBER == 0 {
            return Err(missing(
                "the kernel does not tell physical addresses",
                "run as root (CAP_SYS_ADMIN), or bind the card to vfio-pci",
            ));
        }
        Ok((entry & FRAME_NUMBER) * PAGE)
    }
}

impl Mapper for Pagemap {
    fn map(&self, base: NonNull<u8>, _len: usize) -> Result<u64, Error> {
        self.physical(base.as_ptr().addr() as u64)
    }

    fn unmap(&self, _address: u64, _len: usize) {}
}

/// A card that sysfs alone shows.
#[derive(Clone)]
pub struct UioCard(Arc<Inner>);

struct Inner {
    name: String,
    bar: Bar,
    pool: Pool,
    config: File,
    /// By which the kernel was asked to wake the card up.
    enabled: Option<File>,
}

impl UioCard {
    /// Opens a card, and keeps it from using memory until it has been reset.
    ///
    /// # Errors
    /// [`Error::Missing`] where permission is missing or another program has the card; else what the
    /// system says.
    pub fn open(function: &Function) -> Result<UioCard, Error> {
        let config = function.open("config")?;
        if config.try_lock().is_err() {
            return Err(missing(
                format!("{} is in use", function.address),
                "end the program that has it open",
            ));
        }
        let inner = Inner {
            bar: Bar::map(&function.open("resource0")?, 0, &function.address)?,
            name: function.address.clone(),
            pool: Pool::new(
                Arc::new(Pagemap(
                    File::open("/proc/self/pagemap").map_err(Error::io("open pagemap"))?,
                )),
                function.node(),
            ),
            config,
            enabled: enable(function)?,
        };
        inner.command(COMMAND_MEMORY, COMMAND_MASTER)?;
        Ok(UioCard(Arc::new(inner)))
    }
}

/// Has the kernel wake the card up, which may sleep (D3hot) while it has no driver. `None` if it has one,
/// which has done so.
fn enable(function: &Function) -> Result<Option<File>, Error> {
    let mut file = function.open("enable")?;
    match file.write_all(b"1") {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(Error::io(format!("enable {}", function.address))(error)),
    }
}

impl Inner {
    /// Sets and clears bits of the command register.
    fn command(&self, set: u16, clear: u16) -> Result<(), Error> {
        let failed = |error| Error::io(format!("configuration space of {}", self.name))(error);
        let mut command = [0; 2];
        self.config
            .read_exact_at(&mut command, COMMAND)
            .map_err(failed)?;
        let command = u16::from_le_bytes(command) & !clear | set;
        self.config
            .write_all_at(&command.to_le_bytes(), COMMAND)
            .map_err(failed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.command(0, COMMAND_MASTER) {
            tracing::warn!("{error}");
        }
        // It is no longer needed awake; nobody is there to be told if that fails.
        if let Some(mut enabled) = self.enabled.take() {
            let _ = enabled.write_all(b"0");
        }
    }
}

impl Registers for UioCard {
    fn read(&self, offset: u32) -> u32 {
        self.0.bar.read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.0.bar.write(offset, value);
    }
}

impl Dma for UioCard {
    fn allocate(&self, bytes: usize) -> Result<DmaMemory, Error> {
        self.0.pool.allocate(bytes)
    }
}

impl Vectors for UioCard {
    fn vector(&self, _index: usize) -> Option<OwnedFd> {
        None
    }
}

impl Bus for UioCard {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn start_dma(&self) -> Result<(), Error> {
        self.0.command(COMMAND_MEMORY | COMMAND_MASTER, 0)
    }
}
