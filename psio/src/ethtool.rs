//! What an interface does by itself, as ethtool(8) lists it (linux/ethtool.h).
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, RawFd};

use crate::interface::request;
use crate::sys::{check, datagram_socket};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// The set of the features' names, `ETH_SS_FEATURES`.
const FEATURES: u32 = 4;

/// Features that are read at most; today's kernels have about 60.
const MOST: usize = 256;

/// Segmentation of TCP over each version of IP, by the names that the kernel gives it.
const SEGMENTATION: [&[u8]; 2] = [b"tx-tcp-segmentation", b"tx-tcp6-segmentation"];

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
struct SetInfo {
    command: u32,
    reserved: u32,
    mask: u64,
    len: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    command: u32,
    set: u32,
    len: u32,
    names: [[u8; 32]; MOST],
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    command: u32,
    blocks: u32,
    features: [FeatureBlock; MOST / 32],
}

/// `struct ethtool_get_features_block`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FeatureBlock {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// The queues that an interface uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queues {
    pub receive: usize,
    pub transmit: usize,
}

/// `struct ethtool_channels`; a combined channel is a receive queue and a transmit queue.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

/// The queues that an interface uses; `None` if it does not say.
pub fn queues(interface: &str) -> Option<Queues> {
    let socket = datagram_socket().ok()?;
    let mut channels = Channels {
        command: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    // SAFETY: the kernel writes one `ethtool_channels`.
    unsafe { ask(socket.as_raw_fd(), interface, &mut channels) }?;
    Some(Queues {
        receive: channels.receive.saturating_add(channels.combined) as usize,
        transmit: channels.transmit.saturating_add(channels.combined) as usize,
    })
}

/// Whether an interface segments TCP over IPv4 and over IPv6. One that does not answer does not.
pub fn segments_tcp(interface: &str) -> bool {
    let Ok(socket) = datagram_socket() else {
        return false;
    };
    let Some((names, active)) = features(socket.as_raw_fd(), interface) else {
        return false;
    };
    let is_active = |index: usize| active[index / 32].active >> (index % 32) & 1 != 0;
    SEGMENTATION.iter().all(|wanted| {
        let is_it = |name: &[u8; 32]| name.split(|byte| *byte == 0).next() == Some(wanted);
        names.iter().position(is_it).is_some_and(is_active)
    })
}

/// The features' names, and which of them are active.
fn features(socket: RawFd, interface: &str) -> Option<(Vec<[u8; 32]>, [FeatureBlock; MOST / 32])> {
    let mut info = SetInfo {
        command: ETHTOOL_GSSET_INFO,
        reserved: 0,
        mask: 1 << FEATURES,
        len: 0,
    };
    // SAFETY: the kernel writes one count for the one set asked for.
    unsafe { ask(socket, interface, &mut info) }?;
    let len = usize::try_from(info.len).ok()?;
    if info.mask != 1 << FEATURES || len > MOST {
        return None;
    }
    let mut strings = Box::new(Strings {
        command: ETHTOOL_GSTRINGS,
        set: FEATURES,
        len: info.len,
        names: [[0; 32]; MOST],
    });
    // SAFETY: the kernel writes as many names as it has, which is `len`, fixed while it runs, and at
    // most `MOST`.
    unsafe { ask(socket, interface, &mut *strings) }?;
    let none = FeatureBlock {
        available: 0,
        requested: 0,
        active: 0,
        never_changed: 0,
    };
    let mut features = Features {
        command: ETHTOOL_GFEATURES,
        blocks: (MOST / 32) as u32,
        features: [none; MOST / 32],
    };
    // SAFETY: the kernel writes no more blocks than `blocks` says.
    unsafe { ask(socket, interface, &mut features) }?;
    Some((strings.names[..len].to_vec(), features.features))
}

/// Has the kernel fill in what is known of an interface.
///
/// # Safety
/// `about` begins with a command of ethtool and has room for all that this command writes.
unsafe fn ask<T>(socket: RawFd, interface: &str, about: &mut T) -> Option<()> {
    let mut request = request(interface);
    request.ifr_ifru.ifru_data = (&raw mut *about).cast();
    // SAFETY: the call reads one ifreq and, through its pointer, reads and writes `about`, which
    // outlives the call and has the room, as the caller says.
    check(unsafe { libc::ioctl(socket, libc::SIOCETHTOOL, &raw mut request) })
        .ok()
        .map(drop)
}
