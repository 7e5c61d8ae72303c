//! A card in another thread, as a driver reaches it over a socket: through the client of the crate that
//! serves it.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex};

use psio::Error;
use psio::ixgbe::{Bus, Dma, DmaMemory, Registers, Vectors};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX,
};
use vfio_user::Client;

/// Vectors that are asked for.
const VECTORS: usize = 4;

/// A handle on the card.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    client: Mutex<Client>,
    /// Where the next memory goes, in the card's addresses.
    next: Mutex<u64>,
    bells: Vec<OwnedFd>,
}

impl Remote {
    /// Connects to the server, and its first vectors to eventfds.
    pub fn connect(socket: &Path) -> Remote {
        let mut client = Client::new(socket).expect("a server");
        // SAFETY: no pointers; the result is checked and owned by nobody else.
        let bell = || unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            assert!(fd >= 0);
            OwnedFd::from_raw_fd(fd)
        };
        let bells: Vec<_> = (0..VECTORS).map(|_| bell()).collect();
        for (vector, bell) in bells.iter().enumerate() {
            let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
            let (index, fds) = (VFIO_PCI_MSIX_IRQ_INDEX, [bell.as_raw_fd()]);
            client
                .set_irqs(index, flags, vector as u32, 1, &fds)
                .expect("a vector");
        }
        Remote(Arc::new(Inner {
            client: Mutex::new(client),
            next: Mutex::new(1 << 33),
            bells,
        }))
    }

    /// Reads configuration space.
    pub fn configuration(&self, offset: u64, into: &mut [u8]) {
        let mut client = self.0.client.lock().unwrap();
        client
            .region_read(VFIO_PCI_CONFIG_REGION_INDEX, offset, into)
            .expect("configuration space");
    }

    /// Closes the connection.
    pub fn shutdown(&self) {
        let client = self.0.client.lock().unwrap();
        client.shutdown().expect("an open connection");
    }
}

impl Registers for Remote {
    fn read(&self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        let mut client = self.0.client.lock().unwrap();
        client
            .region_read(VFIO_PCI_BAR0_REGION_INDEX, offset.into(), &mut bytes)
            .expect("a register");
        u32::from_le_bytes(bytes)
    }

    fn write(&self, offset: u32, value: u32) {
        let mut client = self.0.client.lock().unwrap();
        let bytes = value.to_le_bytes();
        client
            .region_write(VFIO_PCI_BAR0_REGION_INDEX, offset.into(), &bytes)
            .expect("a register");
    }
}

impl Dma for Remote {
    fn allocate(&self, bytes: usize) -> Result<DmaMemory, Error> {
        let len = bytes.next_multiple_of(4096);
        // SAFETY: the name ends with 0; the result is checked and owned by nobody else.
        let file = unsafe {
            let fd = libc::memfd_create(c"dma".as_ptr(), libc::MFD_CLOEXEC);
            assert!(fd >= 0);
            File::from_raw_fd(fd)
        };
        file.set_len(len as u64).expect("memory");
        // SAFETY: a new mapping at a place that the kernel chooses; the result is checked.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let fd = file.as_raw_fd();
            libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0)
        };
        assert_ne!(base, libc::MAP_FAILED);
        let mut next = self.0.next.lock().unwrap();
        let address = *next;
        *next += len as u64 + (1 << 16);
        let mut client = self.0.client.lock().unwrap();
        client
            .dma_map(0, address, len as u64, file.as_raw_fd())
            .expect("a mapping");
        let base = NonNull::new(base.cast()).expect("not at 0");
        let owner = Mapping {
            remote: self.clone(),
            base,
            address,
            len,
        };
        // SAFETY: the mapping is at least `bytes` long, zeroed, page-aligned, shared with the card
        // alone, and stays until its owner is dropped.
        Ok(unsafe { DmaMemory::new(base, bytes, address, Box::new(owner)) })
    }
}

/// Memory that is taken away from the card, and then given back.
struct Mapping {
    remote: Remote,
    base: NonNull<u8>,
    address: u64,
    len: usize,
}

// SAFETY: nothing but its place and length is used.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut client = self.remote.0.client.lock().unwrap();
        client
            .dma_unmap(self.address, self.len as u64)
            .expect("what was mapped");
        // SAFETY: mapped in `allocate` with this length, and used by nobody any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

impl Vectors for Remote {
    fn vector(&self, index: usize) -> Option<OwnedFd> {
        self.0.bells.get(index)?.as_fd().try_clone_to_owned().ok()
    }
}

impl Bus for Remote {
    fn name(&self) -> &str {
        "vfio-user"
    }

    fn start_dma(&self) -> Result<(), Error> {
        let mut client = self.0.client.lock().unwrap();
        client
            .region_write(VFIO_PCI_CONFIG_REGION_INDEX, 4, &[6, 0])
            .expect("the command register");
        Ok(())
    }
}
