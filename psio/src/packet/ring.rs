//! The receive ring of a packet socket, `TPACKET_V2` (packet_mmap.rst in the kernel's documentation).
//! Slots hold frames of usual size; of a longer one the slot holds the beginning and the socket's
//! queue the whole (`PACKET_COPY_THRESH`).
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::socket::PacketSocket;
use crate::sys::check;
use crate::vnet;

/// Bytes of a slot: its header, and a frame of 1,500 bytes with room to spare.
const SLOT: usize = 2048;

/// Bytes that the kernel allocates in one piece.
const BLOCK: usize = 1 << 16;

/// `TP_STATUS_*` of linux/if_packet.h that the libc crate lacks.
const STATUS_VLAN_VALID: u32 = 1 << 4;

/// The oldest frame of the ring.
pub enum Slot<'a> {
    /// All of it lies in the slot.
    Whole {
        /// Its virtio header.
        header: &'a [u8; vnet::LEN],
        /// From the Ethernet header on.
        frame: &'a [u8],
    },
    /// It waits in the socket's queue.
    Queued,
    /// It was cut short, or belongs to a VLAN.
    Bad,
}

/// The ring, mapped.
pub struct RxRing {
    memory: NonNull<u8>,
    slots: usize,
    /// The slot that comes next.
    at: usize,
}

// SAFETY: the mapping belongs to this value alone and may be used from any one thread.
unsafe impl Send for RxRing {}

impl RxRing {
    /// Sets up and maps a ring of about `slots` slots. Before the socket is bound, so that the slots
    /// come in order.
    pub fn map(socket: &PacketSocket, slots: usize) -> io::Result<RxRing> {
        let blocks = (slots * SLOT).div_ceil(BLOCK).max(1);
        let slots = blocks * (BLOCK / SLOT);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as libc::c_uint,
            tp_block_nr: u32::try_from(blocks).map_err(io::Error::other)?,
            tp_frame_size: SLOT as libc::c_uint,
            tp_frame_nr: u32::try_from(slots).map_err(io::Error::other)?,
        };
        socket.set(libc::PACKET_RX_RING, &request)?;
        let bytes = blocks * BLOCK;
        // SAFETY: a new shared mapping of the socket's ring, whose size is what was just set.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                socket.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("no memory"))?;
        Ok(RxRing {
            memory,
            slots,
            at: 0,
        })
    }

    fn slot(&self) -> NonNull<u8> {
        // SAFETY: `at` is below `slots`, so the slot lies inside the mapping.
        unsafe { self.memory.add(self.at * SLOT) }
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: a slot begins with a tpacket2_hdr, and that with its status, a u32 that the kernel
        // changes as we do; slots are aligned to 2 KB.
        unsafe { self.slot().cast::<AtomicU32>().as_ref() }
    }

    /// The oldest frame, if there is one. It is the kernel's again after [`release`](Self::release).
    pub fn first(&self) -> Option<Slot<'_>> {
        // Acquire: what the kernel wrote before it handed the slot over is seen.
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        if status & libc::TP_STATUS_COPY != 0 {
            return Some(Slot::Queued);
        }
        // SAFETY: the slot is ours until it is released; the kernel has filled its header in.
        let header = unsafe { self.slot().cast::<libc::tpacket2_hdr>().read() };
        let (mac, len) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        let whole = header.tp_snaplen == header.tp_len
            && len > 0
            && mac >= size_of::<libc::tpacket2_hdr>() + vnet::LEN
            && mac + len <= SLOT;
        let tagged = status & STATUS_VLAN_VALID != 0 && header.tp_vlan_tci & 0xfff != 0;
        if !whole || tagged {
            return Some(Slot::Bad);
        }
        // SAFETY: as checked, both ranges lie inside the slot, behind its header, and the kernel does
        // not touch them before the slot is released, which takes `&mut self`.
        Some(unsafe {
            Slot::Whole {
                header: self.slot().add(mac - vnet::LEN).cast().as_ref(),
                frame: NonNull::slice_from_raw_parts(self.slot().add(mac), len).as_ref(),
            }
        })
    }

    /// Gives the oldest frame's slot back.
    pub fn release(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.at = (self.at + 1) % self.slots;
    }
}

impl Drop for RxRing {
    fn drop(&mut self) {
        let bytes = self.slots * SLOT;
        // SAFETY: the mapping that `map` made, used by nobody else.
        let result = check(unsafe { libc::munmap(self.memory.as_ptr().cast(), bytes) });
        debug_assert!(result.is_ok(), "{result:?}");
    }
}
