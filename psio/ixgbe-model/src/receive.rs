//! From the wire to the driver's buffers.

use crate::filter::Hash;
use crate::frame::{ETHERNET, Ip, L4, u16_at};
use crate::frames::Frames;
use crate::queues::Buffer;
use crate::statistics::FCS;
use crate::{Card, QUEUES, refuse};

const RXCTRL: u32 = 0x3000;
const RXPBSIZE: u32 = 0x3c00;
const HLREG0: u32 = 0x4240;
const MAXFRS: u32 = 0x4268;
const RXDCTL: u32 = 0x1028;
const SRRCTL: u32 = 0x1014;
const DROP_EN: u32 = 1 << 28;

/// Descriptors fetched ahead at once, at most.
const PREFETCH: usize = 32;

// What a descriptor says in its second word.
pub const DONE: u64 = 1;
pub const END_OF_PACKET: u64 = 1 << 1;
const VLAN: u64 = 1 << 3;
const L4_CHECKED: u64 = 1 << 5;
const IP_CHECKED: u64 = 1 << 6;
const L4_ERROR: u64 = 1 << 30;
const IP_ERROR: u64 = 1 << 31;

/// Frames that wait for their queue.
#[derive(Default)]
pub struct PacketBuffer {
    frames: Frames,
}

/// What became of a frame.
#[derive(PartialEq, Eq)]
enum Fate {
    /// Written, or dropped.
    Gone,
    /// Its queue has no descriptor, and it must wait.
    Waits,
}

/// What descriptors say of a frame.
#[derive(Clone, Copy)]
pub struct Verdict {
    /// Hash and packet type, the first word.
    pub low: u64,
    /// Checksums and tag, bits of the second.
    pub high: u64,
    /// All checksums are right.
    pub good: bool,
}

impl Card {
    /// A frame comes off the wire, without its check sequence.
    pub fn arrive(&mut self, frame: &[u8]) {
        if !self.control.link || self.file.get(RXCTRL) & 1 == 0 || frame.len() < ETHERNET {
            return;
        }
        self.counters.rx_total += 1;
        let tagged = u16_at(frame, 12) == 0x8100;
        let longest = match self.file.get(HLREG0) >> 2 & 1 {
            0 => 1518,
            _ => self.file.get(MAXFRS) as usize >> 16,
        };
        let longest = longest + if tagged { 4 } else { 0 };
        let wanted = frame.len() + 4 <= longest
            && self.is_wanted(frame)
            && (!tagged || frame.len() >= 18 && self.is_vlan_wanted(u16_at(frame, 14)));
        if !wanted {
            return;
        }
        let room = (self.file.get(RXPBSIZE) >> 10 & 0x3ff) as usize * 1024;
        if self.buffer.frames.bytes() + frame.len() > room {
            self.counters.missed += 1;
            return;
        }
        self.count_rx(frame.len());
        self.carried.current.frames_in += 1;
        self.carried.current.bytes_in += frame.len() as u64 + FCS;
        self.buffer.frames.push(frame);
    }

    /// A frame comes off the wire whose check sequence is wrong.
    pub fn arrive_damaged(&mut self) {
        self.counters.rx_total += 1;
        self.counters.crc_errors += 1;
    }

    /// Frames that wait in the packet buffer.
    pub fn waiting(&self) -> usize {
        self.buffer.frames.len()
    }

    /// Takes frames out of the packet buffer and writes descriptors back: some, or all; false if there
    /// was nothing to do.
    pub(crate) fn work_rx(&mut self, all: bool) -> bool {
        if !self.is_master() {
            return false;
        }
        let most = if all {
            usize::MAX
        } else {
            self.random.below(96)
        };
        let mut frames = std::mem::take(&mut self.buffer.frames);
        let mut moved = 0;
        while moved < most
            && let Some(frame) = frames.front()
        {
            if self.deliver(frame) == Fate::Waits {
                break;
            }
            frames.pop();
            moved += 1;
        }
        self.buffer.frames = frames;
        let mut written = 0;
        for queue in 0..QUEUES {
            if self.rx[queue].buffers.is_empty() {
                continue;
            }
            if all || self.random.one_in(8) {
                self.close_merges(queue);
            }
            let most = if all {
                usize::MAX
            } else {
                self.random.below(64)
            };
            written += self.write_back_rx(queue, most);
        }
        moved + written > 0
    }

    /// Brings a frame to its queue.
    fn deliver(&mut self, frame: &[u8]) -> Fate {
        let tag = (u16_at(frame, 12) == 0x8100).then(|| u16_at(frame, 14));
        let mut untagged = Vec::new();
        let mut plain = frame;
        if tag.is_some() {
            untagged.extend_from_slice(&frame[..12]);
            untagged.extend_from_slice(&frame[16..]);
            plain = &untagged;
        }
        let ip = Ip::of(plain);
        let route = self.classify(plain, tag, ip.as_ref());
        let fate = match route.queue {
            Some(queue) if queue < QUEUES && self.rx[queue].state.runs() => {
                self.deliver_to(queue, route.hash, frame, plain, tag, ip.as_ref())
            }
            _ => Fate::Gone,
        };
        if fate == Fate::Gone {
            self.count_directed(route.matched);
        }
        fate
    }

    /// Brings a frame to a queue that runs; `plain` is the frame without its tag.
    fn deliver_to(
        &mut self,
        queue: usize,
        hash: Hash,
        frame: &[u8],
        plain: &[u8],
        tag: Option<u16>,
        ip: Option<&Ip>,
    ) -> Fate {
        let strips = self.file.get(RXDCTL + 0x40 * queue as u32) >> 30 & 1 != 0;
        let mut verdict = verdict(plain, ip, hash);
        let data = match (tag, strips) {
            (Some(tag), true) => {
                verdict.high |= VLAN | u64::from(tag) << 48;
                plain
            }
            _ => frame,
        };
        let control = self.file.get(SRRCTL + 0x40 * queue as u32);
        let size = (control as usize & 0x1f) * 1024;
        if tag.is_none()
            && let Some(ip) = ip
            && self.merge(queue, data, ip, verdict, size)
        {
            self.count_queue_rx(queue);
            return Fate::Gone;
        }
        if self.free_buffers(queue) < data.len().div_ceil(size) {
            if control & DROP_EN == 0 {
                return Fate::Waits;
            }
            self.count_queue_drop(queue);
            return Fate::Gone;
        }
        self.count_queue_rx(queue);
        let mut pieces = data.chunks(size).peekable();
        while let Some(piece) = pieces.next() {
            let number = self.take_buffer(queue);
            self.fill(queue, number, piece);
            let last = match pieces.peek() {
                Some(_) => 0,
                None => END_OF_PACKET | verdict.high,
            };
            let words = [verdict.low, DONE | last | (piece.len() as u64) << 32];
            self.buffer_of(queue, number).written = Some(words);
        }
        Fate::Gone
    }

    /// Descriptors of a queue that can take something.
    pub(crate) fn free_buffers(&self, queue: usize) -> usize {
        let rx = &self.rx[queue];
        rx.buffers.len() - rx.used + rx.ring.waiting() as usize
    }

    pub(crate) fn buffer_of(&mut self, queue: usize, number: u64) -> &mut Buffer {
        let rx = &mut self.rx[queue];
        &mut rx.buffers[(number - rx.first) as usize]
    }

    /// The next buffer of a queue, by its number, of which there must be one.
    pub(crate) fn take_buffer(&mut self, queue: usize) -> u64 {
        if self.rx[queue].used == self.rx[queue].buffers.len() {
            let most = 1 + self.random.below(PREFETCH);
            for _ in 0..most.min(self.rx[queue].ring.waiting() as usize) {
                self.fetch_buffer(queue);
            }
        }
        let rx = &mut self.rx[queue];
        rx.used += 1;
        rx.first + rx.used as u64 - 1
    }

    /// Fetches a descriptor, and marks its buffer.
    fn fetch_buffer(&mut self, queue: usize) {
        let size = (self.file.get(SRRCTL + 0x40 * queue as u32) as usize & 0x1f) * 1024;
        let canary = self.random.next().to_le_bytes();
        let ring = &mut self.rx[queue].ring;
        let index = ring.fetched;
        let Some([address, rest]) = self.memory.read_descriptor(ring.address(index)) else {
            refuse!("receive queue {queue}: descriptor {index} is outside mapped memory");
        };
        if rest & DONE != 0 && !self.file.tolerant {
            refuse!(
                "receive queue {queue}: descriptor {index} is handed over as it was written back"
            );
        }
        if !self.memory.is_mapped(address, size) {
            refuse!("receive queue {queue}: the buffer at {address:#x} is outside mapped memory");
        }
        self.memory.write(address, &canary);
        ring.fetched = ring.next(index);
        self.rx[queue].buffers.push_back(Buffer {
            index,
            fetched: [address, rest],
            address,
            canary,
            written: None,
        });
    }

    /// Writes a buffer from its beginning.
    pub(crate) fn fill(&mut self, queue: usize, number: u64, bytes: &[u8]) {
        let buffer = self.buffer_of(queue, number);
        let (address, canary, index) = (buffer.address, buffer.canary, buffer.index);
        let mut found = [0; 8];
        if self.memory.read(address, &mut found).is_none() {
            refuse!("receive queue {queue}: the buffer at {address:#x} was unmapped");
        }
        if found != canary {
            refuse!("receive queue {queue}: buffer {index} was touched while the card owned it");
        }
        self.memory.write(address, bytes);
    }

    /// Writes at most `most` descriptors back, in order; returns how many.
    fn write_back_rx(&mut self, queue: usize, most: usize) -> usize {
        let mut done = 0;
        let mut ended = false;
        while done < most {
            let rx = &mut self.rx[queue];
            let Some(buffer) = rx.buffers.front() else {
                break;
            };
            let Some(words) = buffer.written else {
                break;
            };
            let (at, index) = (rx.ring.address(buffer.index), buffer.index);
            if self.memory.read_descriptor(at) != Some(buffer.fetched) {
                refuse!(
                    "receive queue {queue}: descriptor {index} was changed while the card owned it"
                );
            }
            self.memory.write_descriptor(at, words);
            ended |= words[1] & END_OF_PACKET != 0;
            rx.buffers.pop_front();
            rx.used -= 1;
            rx.first += 1;
            rx.ring.head = rx.ring.next(index);
            done += 1;
        }
        if ended {
            self.raise_rx(queue);
        }
        done
    }
}

/// What the card finds out about a frame.
fn verdict(frame: &[u8], ip: Option<&Ip>, hash: Hash) -> Verdict {
    let mut low = u64::from(hash.kind) | u64::from(hash.value) << 32;
    let mut high = 0;
    let Some(ip) = ip else {
        return Verdict {
            low,
            high,
            good: false,
        };
    };
    low |= if ip.v4 { 0x10 } else { 0x40 };
    low |= match ip.l4 {
        Some(L4::Tcp) => 0x100,
        Some(L4::Udp) => 0x200,
        None => 0,
    };
    let header = ip.header_is_good(frame);
    let body = ip.l4_is_good(frame);
    if let Some(good) = header {
        high |= if good {
            IP_CHECKED
        } else {
            IP_CHECKED | IP_ERROR
        };
    }
    if let Some(good) = body {
        high |= if good {
            L4_CHECKED
        } else {
            L4_CHECKED | L4_ERROR
        };
    }
    Verdict {
        low,
        high,
        good: header != Some(false) && body == Some(true),
    }
}
