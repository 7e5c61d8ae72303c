//! Which frames are taken, and to which queue they go.

use crate::Card;
use crate::frame::{Ip, L4};

const FCTRL: u32 = 0x5080;
const FCTRL_ALL_GROUPS: u32 = 1 << 8;
const FCTRL_ALL: u32 = 1 << 9;
const FCTRL_BROADCAST: u32 = 1 << 10;
const MTA: u32 = 0x5200;
const RAL: u32 = 0xa200;
const VLNCTRL: u32 = 0x5088;
const VFTA: u32 = 0xa000;
const MRQC: u32 = 0x5818;
const RETA: u32 = 0x5c00;
const RSSRK: u32 = 0x5c80;
const SAQF: u32 = 0xe000;
const DAQF: u32 = 0xe200;
const SDPQF: u32 = 0xe400;
const FTQF: u32 = 0xe600;
const L34T_IMIR: u32 = 0xe800;

/// The hash of a frame, with the number by which descriptors say what went into it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Hash {
    pub kind: u32,
    pub value: u32,
}

/// Where a frame goes.
pub struct Route {
    /// `None` if a filter drops it.
    pub queue: Option<usize>,
    pub hash: Hash,
    /// Whether the flow director had a filter for it, if it was asked.
    pub matched: Option<bool>,
}

impl Route {
    fn to(queue: usize, hash: Hash) -> Route {
        Route {
            queue: Some(queue),
            hash,
            matched: None,
        }
    }
}

impl Card {
    /// Whether a frame is for this card.
    pub(crate) fn is_wanted(&self, frame: &[u8]) -> bool {
        let control = self.file.get(FCTRL);
        let to: [u8; 6] = frame[..6].try_into().expect("six bytes");
        if to == [0xff; 6] {
            return control & FCTRL_BROADCAST != 0;
        }
        if to[0] & 1 != 0 {
            // Bits 47 to 36 of the address, as MCSTCTRL chooses after a reset.
            let hash = (u32::from(to[4]) >> 4 | u32::from(to[5]) << 4) & 0xfff;
            let group = self.file.get(MTA + 4 * (hash >> 5)) >> (hash & 31) & 1;
            return control & FCTRL_ALL_GROUPS != 0 || group != 0;
        }
        control & FCTRL_ALL != 0 || (0..128).any(|index| self.address(index) == Some(to))
    }

    /// The receive address register `index`, if it is valid.
    fn address(&self, index: u32) -> Option<[u8; 6]> {
        let (low, high) = (
            self.file.get(RAL + 8 * index),
            self.file.get(RAL + 4 + 8 * index),
        );
        let [a, b, c, d] = low.to_le_bytes();
        let [e, f, ..] = high.to_le_bytes();
        (high >> 31 != 0).then_some([a, b, c, d, e, f])
    }

    /// Whether frames of a VLAN pass.
    pub(crate) fn is_vlan_wanted(&self, tag: u16) -> bool {
        let vlan = u32::from(tag & 0xfff);
        self.file.get(VLNCTRL) >> 30 & 1 == 0
            || self.file.get(VFTA + 4 * (vlan >> 5)) >> (vlan & 31) & 1 != 0
    }

    /// Where a frame goes.
    pub(crate) fn classify(&self, frame: &[u8], tag: Option<u16>, ip: Option<&Ip>) -> Route {
        let Some(ip) = ip else {
            return Route::to(0, Hash::default());
        };
        let hash = self.hash(frame, ip);
        if let Some(queue) = self.five_tuple(frame, ip) {
            return Route::to(queue, hash);
        }
        let mut route = Route::to(self.spread(hash), hash);
        self.direct(frame, tag, ip, &mut route);
        route
    }

    /// The queue that a hash chooses.
    fn spread(&self, hash: Hash) -> usize {
        if hash.kind == 0 {
            return 0;
        }
        let entry = hash.value & 127;
        let word = self.file.get(RETA + 4 * (entry / 4));
        (word >> (8 * (entry % 4)) & 0xf) as usize
    }

    /// The queue of the 5-tuple filter of highest priority that matches.
    fn five_tuple(&self, frame: &[u8], ip: &Ip) -> Option<usize> {
        let protocol = match ip.l4? {
            L4::Tcp => 0,
            L4::Udp => 1,
        };
        if !ip.v4 {
            return None;
        }
        let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().expect("four"));
        let (source, destination) = (word(ip.start + 12), word(ip.start + 16));
        let ports = word(ip.next);
        let matches = |index: &u32| {
            let control = self.file.get(FTQF + 4 * index);
            let ignored = |bit: u32| control >> (25 + bit) & 1 != 0;
            let filter_ports = self.file.get(SDPQF + 4 * index);
            control >> 31 != 0
                && (ignored(0) || self.file.get(SAQF + 4 * index) == source)
                && (ignored(1) || self.file.get(DAQF + 4 * index) == destination)
                && (ignored(2) || (filter_ports ^ ports) & 0xffff == 0)
                && (ignored(3) || (filter_ports ^ ports) >> 16 == 0)
                && (ignored(4) || control & 3 == protocol)
        };
        let priority = |index: &u32| self.file.get(FTQF + 4 * index) >> 2 & 7;
        let best = (0..128).filter(matches).max_by_key(priority)?;
        Some((self.file.get(L34T_IMIR + 4 * best) >> 21 & 0x7f) as usize)
    }

    /// The Toeplitz hash of the fields that MRQC names.
    fn hash(&self, frame: &[u8], ip: &Ip) -> Hash {
        let control = self.file.get(MRQC);
        if control & 0xf != 1 {
            return Hash::default();
        }
        let has = |bit: u32| control >> bit & 1 != 0;
        let (kind, ports) = match (ip.v4, ip.l4) {
            (true, Some(L4::Tcp)) if has(16) => (1, true),
            (true, Some(L4::Udp)) if has(22) => (7, true),
            (true, _) if has(17) => (2, false),
            (false, Some(L4::Tcp)) if has(21) => (3, true),
            (false, Some(L4::Udp)) if has(23) => (8, true),
            (false, _) if has(20) => (5, false),
            _ => return Hash::default(),
        };
        let ports = match ports {
            true => &frame[ip.next..ip.next + 4],
            false => &[],
        };
        let value = self.toeplitz(ip.addresses(frame).iter().chain(ports));
        Hash { kind, value }
    }

    fn toeplitz<'a>(&self, input: impl Iterator<Item = &'a u8>) -> u32 {
        let key = |byte: u32| {
            let word = self.file.get(RSSRK + 4 * (byte / 4));
            word >> (8 * (byte % 4)) & 0xff
        };
        let mut window = (0..4).fold(0, |window, byte| window << 8 | key(byte));
        let mut hash = 0;
        for (at, &byte) in input.enumerate() {
            let next = key(at as u32 + 4);
            for bit in 0..8 {
                if byte << bit & 0x80 != 0 {
                    hash ^= window;
                }
                window = window << 1 | next >> (7 - bit) & 1;
            }
        }
        hash
    }
}
