//! The flow director: thousands of filters, each of which sends one flow to a queue, found by a hash of
//! the frame's fields. A filter names the fields themselves ("perfect"), or a second hash of them
//! ("signature").

use std::collections::BTreeMap;

use crate::filter::{Hash, Route};
use crate::frame::{Ip, L4, u16_at};
use crate::{Card, refuse};

const FDIRCTRL: u32 = 0xee00;
const FDIRIPSA: u32 = 0xee18;
const FDIRIPDA: u32 = 0xee1c;
const FDIRPORT: u32 = 0xee20;
const FDIRVLAN: u32 = 0xee24;
const FDIRHASH: u32 = 0xee28;
const FDIRCMD: u32 = 0xee2c;
const FDIRFREE: u32 = 0xee38;
const FDIRDIP4M: u32 = 0xee3c;
const FDIRSIP4M: u32 = 0xee40;
const FDIRTCPM: u32 = 0xee44;
const FDIRUDPM: u32 = 0xee48;
const FDIRUSTAT: u32 = 0xee50;
const FDIRFSTAT: u32 = 0xee54;
const FDIRMATCH: u32 = 0xee58;
const FDIRMISS: u32 = 0xee5c;
const FDIRHKEY: u32 = 0xee68;
const FDIRSKEY: u32 = 0xee6c;
const FDIRM: u32 = 0xee70;

// FDIRCTRL: memory, the tables are clear, kind of filter, the hash and number of the filter are told.
const MEMORY: u32 = 3;
const INIT_DONE: u32 = 1 << 3;
const PERFECT: u32 = 1 << 4;
const REPORT: u32 = 1 << 5;

// FDIRCMD: command, the filter asked for is there, clear the tables, drop, use the queue.
const COMMAND: u32 = 3;
const ADD: u32 = 1;
const REMOVE: u32 = 2;
const QUERY: u32 = 3;
const VALID: u32 = 1 << 2;
const TYPE: u32 = 7 << 5;
const CLEAR: u32 = 1 << 8;
const DROP: u32 = 1 << 9;
const USE_QUEUE: u32 = 1 << 15;

// FDIRM: fields that do not count.
const NO_VLAN: u32 = 1;
const NO_PRIORITY: u32 = 1 << 1;
const NO_PROTOCOL: u32 = 1 << 3;
const NO_FLEX: u32 = 1 << 4;

/// Bits of the hash by which the list is found that a filter stands in.
const BUCKET: u32 = 0x7fff;

/// How a descriptor says that its hash is a filter's.
const MATCHED_KIND: u32 = 0xf;

/// The fields of a frame that a filter may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Fields {
    /// As FDIRCMD has it: bits 0 and 1 the protocol, bit 2 for IPv6.
    kind: u32,
    /// The tag, as FDIRVLAN has it.
    vlan: u32,
    /// Addresses, as they stand in the frame; of IPv4 only the first word of each.
    destination: [u32; 4],
    source: [u32; 4],
    /// Destination port above source port.
    ports: u32,
    /// Two bytes of the frame: here always its type.
    flex: u32,
}

struct Filter {
    fields: Fields,
    command: u32,
}

#[derive(Default)]
pub struct Director {
    /// By what FDIRHASH held: the bucket's hash, above it the signature or the driver's number.
    filters: BTreeMap<u32, Filter>,
    /// Readings until the tables are clear, or the last command is done.
    clearing: usize,
    commanding: usize,
    matches: u32,
    misses: u32,
    /// Filters added and removed, and what of that was refused.
    added: u32,
    removed: u32,
    add_failed: u32,
    remove_failed: u32,
}

impl Card {
    pub(crate) fn read_director(&mut self, offset: u32) -> u32 {
        let director = &mut self.director;
        match offset {
            FDIRCTRL if director.clearing > 0 => {
                director.clearing -= 1;
                self.file.get(FDIRCTRL) & !INIT_DONE
            }
            FDIRCMD if director.commanding > 0 => {
                director.commanding -= 1;
                self.file.get(FDIRCMD) | COMMAND
            }
            FDIRFREE => self.most_filters() as u32 - self.director.filters.len() as u32,
            _ => self.file.get(offset),
        }
    }

    /// Its counters, which reading clears.
    pub(crate) fn read_director_counter(&mut self, offset: u32) -> u32 {
        let director = &mut self.director;
        let take = std::mem::take::<u32>;
        match offset {
            FDIRUSTAT => take(&mut director.added) | take(&mut director.removed) << 16,
            FDIRFSTAT => take(&mut director.add_failed) | take(&mut director.remove_failed) << 8,
            FDIRMATCH => take(&mut director.matches),
            FDIRMISS => take(&mut director.misses),
            _ => 0,
        }
    }

    pub(crate) fn write_director(&mut self, offset: u32, value: u32) {
        match offset {
            FDIRCTRL => {
                // It becomes INIT_DONE by itself, once the tables are clear.
                self.director.filters.clear();
                self.director.clearing = self.random.below(4);
                let done = if value & MEMORY == 0 { 0 } else { INIT_DONE };
                return self.file.set(FDIRCTRL, value & !INIT_DONE | done);
            }
            FDIRCMD if value & CLEAR != 0 => self.director.filters.clear(),
            FDIRCMD if value & COMMAND != 0 => return self.command(value),
            _ => {}
        }
        self.file.set(offset, value);
    }

    /// Filters that there is room for in the memory that FDIRCTRL gives them (64, 128 or 256 KB).
    fn most_filters(&self) -> usize {
        let control = self.file.get(FDIRCTRL);
        let smallest = if control & PERFECT == 0 { 8192 } else { 2048 };
        match control & MEMORY {
            0 => 0,
            size => smallest << (size - 1),
        }
    }

    fn command(&mut self, value: u32) {
        if self.director.clearing > 0 || self.file.get(FDIRCTRL) & MEMORY == 0 {
            refuse!(
                "the flow director is commanded before its tables are clear (FDIRCTRL.INIT_DONE)"
            );
        }
        let perfect = self.file.get(FDIRCTRL) & PERFECT != 0;
        let key = self.file.get(FDIRHASH);
        let room = self.director.filters.len() < self.most_filters();
        let fields = self.programmed(value);
        let director = &mut self.director;
        let mut shown = value & !(COMMAND | VALID);
        match value & COMMAND {
            ADD if room || director.filters.contains_key(&key) => {
                let command = value;
                director.filters.insert(key, Filter { fields, command });
                director.added += 1;
            }
            ADD => director.add_failed += 1,
            REMOVE if director.filters.remove(&key).is_some() => director.removed += 1,
            REMOVE => director.remove_failed += 1,
            QUERY if perfect && director.filters.contains_key(&key) => shown |= VALID,
            _ => {}
        }
        director.commanding = self.random.below(3);
        self.file.set(FDIRCMD, shown);
    }

    /// The fields that the registers hold for a new filter.
    fn programmed(&self, command: u32) -> Fields {
        let vlan = self.file.get(FDIRVLAN);
        let mut fields = Fields {
            kind: (command & TYPE) >> 5,
            vlan: vlan & 0xffff,
            ports: self.file.get(FDIRPORT),
            flex: (vlan >> 16).swap_bytes() >> 16,
            ..Fields::default()
        };
        fields.source[0] = self.file.get(FDIRIPSA);
        fields.destination[0] = self.file.get(FDIRIPDA);
        self.masked(fields)
    }

    /// What of a frame's fields counts.
    fn masked(&self, mut fields: Fields) -> Fields {
        let ignored = self.file.get(FDIRM);
        let ignores = |bit: u32| ignored & bit != 0;
        if ignores(NO_VLAN) {
            fields.vlan &= 0xf000;
        }
        if ignores(NO_PRIORITY) {
            fields.vlan &= 0x0fff;
        }
        if ignores(NO_FLEX) {
            fields.flex = 0;
        }
        let ports = match fields.kind & 3 {
            2 => self.file.get(FDIRTCPM),
            _ => self.file.get(FDIRUDPM),
        };
        // These two are written with the bits of each half in reverse order.
        let reversed = |half: u32| u32::from((half as u16).reverse_bits());
        fields.ports &= !(reversed(ports >> 16) << 16 | reversed(ports));
        if fields.kind & 4 == 0 {
            fields.source[0] &= !self.file.get(FDIRSIP4M);
            fields.destination[0] &= !self.file.get(FDIRDIP4M);
        }
        if ignores(NO_PROTOCOL) {
            fields.kind &= 4;
            fields.ports = 0;
        }
        fields
    }

    /// Changes a frame's route, if there is a filter for it.
    pub(crate) fn direct(&self, frame: &[u8], tag: Option<u16>, ip: &Ip, route: &mut Route) {
        let control = self.file.get(FDIRCTRL);
        if control & MEMORY == 0 {
            return;
        }
        let fields = self.masked(Fields::of(frame, tag, ip));
        let bucket = fields.hash(self.file.get(FDIRHKEY)) & BUCKET;
        let filters = &self.director.filters;
        let found = if control & PERFECT == 0 {
            let signature = fields.hash(self.file.get(FDIRSKEY)) & BUCKET;
            filters.get_key_value(&(signature << 16 | bucket))
        } else {
            // The list of a bucket: its hash has 13 bits, as there are no more buckets.
            let bucket = bucket & 0x1fff;
            let same = |(key, filter): &(&u32, &Filter)| {
                **key & 0x1fff == bucket && filter.fields == fields
            };
            filters.iter().find(same)
        };
        route.matched = Some(found.is_some());
        let Some((key, filter)) = found else {
            return;
        };
        if filter.command & DROP != 0 {
            route.queue = None;
        } else if filter.command & USE_QUEUE != 0 {
            route.queue = Some((filter.command >> 16 & 0x7f) as usize);
        }
        if control & (PERFECT | REPORT) == PERFECT | REPORT {
            route.hash = Hash {
                kind: MATCHED_KIND,
                value: (key & BUCKET) << 16 | key >> 16,
            };
        }
    }

    /// A frame has gone where the director sent it, or not.
    pub(crate) fn count_directed(&mut self, matched: Option<bool>) {
        match matched {
            Some(true) => self.director.matches += 1,
            Some(false) => self.director.misses += 1,
            None => {}
        }
    }
}

impl Fields {
    fn of(frame: &[u8], tag: Option<u16>, ip: &Ip) -> Fields {
        let words = |at: usize, count: usize| {
            let mut words = [0; 4];
            let (bytes, _) = frame[at..at + 4 * count].as_chunks();
            for (word, bytes) in words.iter_mut().zip(bytes) {
                *word = u32::from_le_bytes(*bytes);
            }
            words
        };
        let count = if ip.v4 { 1 } else { 4 };
        let start = if ip.v4 { ip.start + 12 } else { ip.start + 8 };
        let (kind, ports) = match ip.l4 {
            Some(L4::Udp) => (1, true),
            Some(L4::Tcp) => (2, true),
            None => (0, false),
        };
        let port = |at: usize| u32::from(u16_at(frame, ip.next + at));
        Fields {
            kind: kind | if ip.v4 { 0 } else { 4 },
            vlan: u32::from(tag.unwrap_or(0)),
            source: words(start, count),
            destination: words(start + 4 * count, count),
            ports: if ports { port(2) << 16 | port(0) } else { 0 },
            flex: u32::from(u16_at(frame, 12)),
        }
    }

    /// The hash by a key: the sum of the stream of all fields, shifted by the place of each bit of the
    /// key. The stream's words are folded first, as it repeats itself every 32 bits; the one with the
    /// tag counts twice, but not for bit 0.
    fn hash(&self, key: u32) -> u32 {
        let addresses = self.source.iter().chain(&self.destination);
        let addresses = addresses.fold(0, |sum, word| sum ^ word.swap_bytes());
        // Source port above destination port, the flexible bytes above nothing.
        let folded = addresses ^ self.ports.rotate_left(16) ^ self.flex << 16;
        let first = self.kind << 16 | self.vlan;
        let high = folded ^ first ^ first >> 16;
        let low = folded.rotate_left(16);
        let mut hash = 0;
        for bit in 0..16 {
            if key >> bit & 1 != 0 {
                let low = if bit == 0 {
                    low
                } else {
                    low ^ first ^ first << 16
                };
                hash ^= low >> bit;
            }
            if key >> (bit + 16) & 1 != 0 {
                hash ^= high >> bit;
            }
        }
        hash
    }
}
