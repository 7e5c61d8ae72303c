//! A card bound to vfio-pci: registers, memory and interrupts through the kernel's VFIO
//! (linux/vfio.h), behind an IOMMU that keeps the card to the memory it was given. When the process
//! ends, however it ends, the kernel resets the card.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::access::{Bus, Dma, Registers, Vectors};
use super::bar::{BAR_LEN, Bar};
use super::dma::DmaMemory;
use super::pages::{Mapper, Pool};
use super::pci::{Function, Roots, missing, open};
use crate::Error;
use crate::sys::{Bell, check};

// Requests, `_IO(VFIO_TYPE, VFIO_BASE + n)`.
const GET_API_VERSION: libc::Ioctl = 0x3b64;
const CHECK_EXTENSION: libc::Ioctl = 0x3b65;
const SET_IOMMU: libc::Ioctl = 0x3b66;
const GROUP_GET_STATUS: libc::Ioctl = 0x3b67;
const GROUP_SET_CONTAINER: libc::Ioctl = 0x3b68;
const GROUP_GET_DEVICE_FD: libc::Ioctl = 0x3b6a;
const DEVICE_GET_REGION_INFO: libc::Ioctl = 0x3b6c;
const DEVICE_GET_IRQ_INFO: libc::Ioctl = 0x3b6d;
const DEVICE_SET_IRQS: libc::Ioctl = 0x3b6e;
const DEVICE_RESET: libc::Ioctl = 0x3b6f;
const IOMMU_MAP_DMA: libc::Ioctl = 0x3b71;
const IOMMU_UNMAP_DMA: libc::Ioctl = 0x3b72;

const API_VERSION: libc::c_int = 0;
const TYPE1_IOMMU: libc::c_ulong = 1;
const GROUP_VIABLE: u32 = 1;
const REGION_MMAP: u32 = 1 << 2;
const BAR0_REGION: u32 = 0;
const CONFIG_REGION: u32 = 7;
const MSIX_IRQ: u32 = 2;
const IRQ_DATA_EVENTFD: u32 = 1 << 2;
const IRQ_ACTION_TRIGGER: u32 = 1 << 5;
const DMA_READ_WRITE: u32 = 3;

/// The command register of PCI's configuration space: memory and bus master.
const COMMAND: u64 = 4;
const COMMAND_BITS: u16 = 1 << 1 | 1 << 2;

/// Vectors that the card has.
const MAX_VECTORS: usize = 64;

/// Where the card sees its first page. Low addresses are left to the interrupt controller's range and
/// to what firmware has reserved.
const FIRST_ADDRESS: u64 = 1 << 32;

#[repr(C)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct RegionInfo {
    argsz: u32,
    flags: u32,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
}

#[repr(C)]
struct IrqInfo {
    argsz: u32,
    flags: u32,
    index: u32,
    count: u32,
}

#[repr(C)]
struct IrqSet {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    eventfds: [RawFd; MAX_VECTORS],
}

#[repr(C)]
struct DmaMap {
    argsz: u32,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
}

#[repr(C)]
struct DmaUnmap {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
}

/// Calls with a structure that the kernel reads and fills in.
///
/// # Safety
/// `argument` is what `request` takes, its own size first.
unsafe fn ask<T>(file: &File, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: the structure outlives the call, which stays within the size that it begins with.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut *argument) }).map(drop)
}

/// The address space that the IOMMU gives the card. It lasts as long as a group is in it.
struct Container {
    file: File,
    next: AtomicU64,
    _group: File,
}

impl Mapper for Container {
    fn map(&self, base: NonNull<u8>, len: usize) -> Result<u64, Error> {
        let address = self.next.fetch_add(len as u64, Ordering::Relaxed);
        let mut map = DmaMap {
            argsz: size_of::<DmaMap>() as u32,
            flags: DMA_READ_WRITE,
            vaddr: base.as_ptr().addr() as u64,
            iova: address,
            size: len as u64,
        };
        // SAFETY: the request takes this structure; the memory it names is the caller's own page.
        match unsafe { ask(&self.file, IOMMU_MAP_DMA, &mut map) } {
            Ok(()) => Ok(address),
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => Err(missing(
                "the card may not have more memory locked",
                "raise the limit of locked memory (ulimit -l unlimited), or run as root",
            )),
            Err(error) => Err(Error::io("VFIO_IOMMU_MAP_DMA")(error)),
        }
    }

    fn unmap(&self, address: u64, len: usize) {
        let mut unmap = DmaUnmap {
            argsz: size_of::<DmaUnmap>() as u32,
            flags: 0,
            iova: address,
            size: len as u64,
        };
        // SAFETY: the request takes this structure.
        if let Err(error) = unsafe { ask(&self.file, IOMMU_UNMAP_DMA, &mut unmap) } {
            tracing::error!("VFIO_IOMMU_UNMAP_DMA: {error}");
        }
    }
}

/// A card bound to vfio-pci.
#[derive(Clone)]
pub struct VfioCard(Arc<Inner>);

/// Fields are dropped in this order: nothing of the card's is used once its files are closed.
struct Inner {
    name: String,
    bar: Bar,
    pool: Pool,
    bells: Vec<Bell>,
    device: File,
    config: u64,
}

impl VfioCard {
    /// Opens a card, a member of an IOMMU group, with so many interrupts.
    ///
    /// # Errors
    /// [`Error::Missing`] where permission is missing, or the group is not ours alone; else what the
    /// system says.
    pub fn open(
        roots: &Roots,
        function: &Function,
        group: &str,
        vectors: usize,
    ) -> Result<VfioCard, Error> {
        let container = open(&roots.dev.join("vfio/vfio"))?;
        check_container(&container)?;
        let group_file = open(&roots.dev.join("vfio").join(group))?;
        check_viable(&group_file, function, group)?;
        join(&group_file, &container)?;
        let device = device(&group_file, &function.address)?;
        // SAFETY: no argument.
        if let Err(error) = check(unsafe { libc::ioctl(device.as_raw_fd(), DEVICE_RESET) }) {
            tracing::debug!("VFIO_DEVICE_RESET: {error}");
        }
        let registers = region(&device, BAR0_REGION)?;
        if registers.flags & REGION_MMAP == 0 || registers.size < BAR_LEN as u64 {
            return Err(Error::Refused {
                name: function.address.clone(),
                reason: format!("its BAR 0 of {} bytes cannot be mapped", registers.size),
            });
        }
        let bar = Bar::map(&device, registers.offset, &function.address)?;
        let bells = interrupts(&device, vectors)?;
        let config = region(&device, CONFIG_REGION)?.offset;
        let mapper = Container {
            file: container,
            next: AtomicU64::new(FIRST_ADDRESS),
            _group: group_file,
        };
        Ok(VfioCard(Arc::new(Inner {
            name: function.address.clone(),
            bar,
            pool: Pool::new(Arc::new(mapper), function.node()),
            bells,
            device,
            config,
        })))
    }
}

/// Whether the kernel's VFIO is the one that we know, with an IOMMU as x86 has it.
fn check_container(container: &File) -> Result<(), Error> {
    let fd = container.as_raw_fd();
    // SAFETY: no argument.
    let version = unsafe { libc::ioctl(fd, GET_API_VERSION) };
    // SAFETY: the argument is a number.
    let type1 = unsafe { libc::ioctl(fd, CHECK_EXTENSION, TYPE1_IOMMU) };
    if version != API_VERSION || type1 != 1 {
        return Err(missing(
            format!("this kernel's VFIO (version {version}) has no type 1 IOMMU"),
            "switch the IOMMU on, and load vfio_iommu_type1",
        ));
    }
    Ok(())
}

/// Whether all members of the group are VFIO's.
fn check_viable(group_file: &File, function: &Function, group: &str) -> Result<(), Error> {
    let mut status = GroupStatus {
        argsz: size_of::<GroupStatus>() as u32,
        flags: 0,
    };
    // SAFETY: the request takes this structure.
    unsafe { ask(group_file, GROUP_GET_STATUS, &mut status) }
        .map_err(Error::io("VFIO_GROUP_GET_STATUS"))?;
    if status.flags & GROUP_VIABLE == 0 {
        return Err(missing(
            format!(
                "IOMMU group {group} has other members: {}",
                function.strangers().join(", ")
            ),
            "bind them all to vfio-pci, or to no driver",
        ));
    }
    Ok(())
}

/// Puts the group into the container and gives it an address space.
fn join(group_file: &File, container: &File) -> Result<(), Error> {
    let mut fd = container.as_raw_fd();
    // SAFETY: the request reads one descriptor.
    unsafe { ask(group_file, GROUP_SET_CONTAINER, &mut fd) }
        .map_err(Error::io("VFIO_GROUP_SET_CONTAINER"))?;
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(container.as_raw_fd(), SET_IOMMU, TYPE1_IOMMU) })
        .map_err(Error::io("VFIO_SET_IOMMU"))?;
    Ok(())
}

fn device(group_file: &File, address: &str) -> Result<File, Error> {
    let name = std::ffi::CString::new(address)
        .map_err(|_| Error::Description(format!("{address:?} is no PCI address")))?;
    // SAFETY: the argument is a string that ends with a zero; the result is a new descriptor.
    let fd =
        check(unsafe { libc::ioctl(group_file.as_raw_fd(), GROUP_GET_DEVICE_FD, name.as_ptr()) })
            .map_err(Error::io("VFIO_GROUP_GET_DEVICE_FD"))?;
    // SAFETY: fresh from the kernel: nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

fn region(device: &File, index: u32) -> Result<RegionInfo, Error> {
    let mut info = RegionInfo {
        argsz: size_of::<RegionInfo>() as u32,
        index,
        ..RegionInfo::default()
    };
    // SAFETY: the request takes this structure.
    unsafe { ask(device, DEVICE_GET_REGION_INFO, &mut info) }
        .map_err(Error::io("VFIO_DEVICE_GET_REGION_INFO"))?;
    Ok(info)
}

/// Has the first `vectors` vectors of MSI-X ring a bell each.
fn interrupts(device: &File, vectors: usize) -> Result<Vec<Bell>, Error> {
    let mut info = IrqInfo {
        argsz: size_of::<IrqInfo>() as u32,
        flags: 0,
        index: MSIX_IRQ,
        count: 0,
    };
    // SAFETY: the request takes this structure.
    unsafe { ask(device, DEVICE_GET_IRQ_INFO, &mut info) }
        .map_err(Error::io("VFIO_DEVICE_GET_IRQ_INFO"))?;
    let count = vectors.min(info.count as usize).min(MAX_VECTORS);
    let bells = (0..count).map(|_| Bell::new());
    let bells: Vec<Bell> = bells
        .collect::<Result<_, _>>()
        .map_err(Error::io("eventfd"))?;
    if bells.is_empty() {
        return Ok(bells);
    }
    let mut eventfds = [-1; MAX_VECTORS];
    for (fd, bell) in eventfds.iter_mut().zip(&bells) {
        *fd = bell.as_raw_fd();
    }
    let unused = (MAX_VECTORS - count) * size_of::<RawFd>();
    let mut set = IrqSet {
        argsz: (size_of::<IrqSet>() - unused) as u32,
        flags: IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER,
        index: MSIX_IRQ,
        start: 0,
        count: count as u32,
        eventfds,
    };
    // SAFETY: the request takes this structure, with as many descriptors as it says.
    unsafe { ask(device, DEVICE_SET_IRQS, &mut set) }.map_err(Error::io("VFIO_DEVICE_SET_IRQS"))?;
    Ok(bells)
}

impl Registers for VfioCard {
    fn read(&self, offset: u32) -> u32 {
        self.0.bar.read(offset)
    }

    fn write(&self, offset: u32, value: u32) {
        self.0.bar.write(offset, value);
    }
}

impl Dma for VfioCard {
    fn allocate(&self, bytes: usize) -> Result<DmaMemory, Error> {
        self.0.pool.allocate(bytes)
    }
}

impl Vectors for VfioCard {
    fn vector(&self, index: usize) -> Option<OwnedFd> {
        self.0.bells.get(index)?.share().ok()
    }
}

impl Bus for VfioCard {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn start_dma(&self) -> Result<(), Error> {
        let failed = |error| Error::io(format!("configuration space of {}", self.0.name))(error);
        let at = self.0.config + COMMAND;
        let mut command = [0; 2];
        let device = &self.0.device;
        device.read_exact_at(&mut command, at).map_err(failed)?;
        let command = u16::from_le_bytes(command) | COMMAND_BITS;
        device
            .write_all_at(&command.to_le_bytes(), at)
            .map_err(failed)
    }
}
