//! Receive-side coalescing: TCP segments in order become one frame, in as many buffers as it takes.
//!
//! The first buffer holds the headers, which are updated when the frame ends, although its descriptor
//! may have been written back long before; each descriptor names the next.

use crate::frame::{Ip, L4, sum, u16_at};
use crate::receive::{DONE, END_OF_PACKET, Verdict};
use crate::{Card, refuse};

const RFCTL: u32 = 0x5008;
const RSCCTL: u32 = 0x102c;

/// Frames that are being put together at once, at most.
const MOST: usize = 32;

/// Segments that begin in one buffer, at most.
const MOST_IN_BUFFER: u64 = 14;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// A frame that is being put together.
pub struct Merge {
    /// Addresses and ports.
    flow: Vec<u8>,
    v4: bool,
    /// The headers, from the Ethernet header on, as they are in the first buffer.
    headers: Vec<u8>,
    /// Where the IP and the TCP header begin.
    ip: usize,
    tcp: usize,
    expected: u32,
    payload: usize,
    first_address: u64,
    /// The buffer that is being filled, how full it is, and how many segments begin in it.
    current: u64,
    filled: usize,
    begun: u64,
    buffers: usize,
    segments: usize,
    verdict: Verdict,
}

/// A segment that may be merged.
struct Segment<'a> {
    flow: Vec<u8>,
    headers: &'a [u8],
    payload: &'a [u8],
    sequence: u32,
    flags: u8,
}

impl<'a> Segment<'a> {
    fn of(frame: &'a [u8], ip: &Ip) -> Option<Segment<'a>> {
        if ip.l4 != Some(L4::Tcp) || ip.options {
            return None;
        }
        let tcp = &frame[ip.next..ip.end];
        let header = usize::from(tcp[12] >> 4) * 4;
        if header < 20 || header > tcp.len() {
            return None;
        }
        let mut flow = ip.addresses(frame).to_vec();
        flow.extend_from_slice(&tcp[..4]);
        Some(Segment {
            flow,
            headers: &frame[..ip.next + header],
            payload: &tcp[header..],
            sequence: u32::from_be_bytes(tcp[4..8].try_into().expect("four")),
            flags: tcp[13],
        })
    }
}

impl Card {
    /// Merges a frame, if its queue coalesces; false if it is to be delivered by itself.
    pub(crate) fn merge(
        &mut self,
        queue: usize,
        frame: &[u8],
        ip: &Ip,
        verdict: Verdict,
        size: usize,
    ) -> bool {
        let control = self.file.get(RSCCTL + 0x40 * queue as u32);
        if control & 1 == 0 || self.file.get(RFCTL) >> 5 & 1 != 0 {
            return false;
        }
        let Some(segment) = Segment::of(frame, ip) else {
            return false;
        };
        let most = [1, 4, 8, 16][(control >> 2 & 3) as usize];
        let same = |merge: &Merge| merge.flow == segment.flow;
        let open = self.rx[queue].merges.iter().position(same);
        let plain = segment.flags & !PSH == ACK && !segment.payload.is_empty() && verdict.good;
        if let Some(at) = open {
            let merge = &self.rx[queue].merges[at];
            let room = size - merge.filled + (most - merge.buffers) * size;
            let fits = plain
                && segment.sequence == merge.expected
                && segment.headers.len() == merge.headers.len()
                && segment.payload.len() <= room
                && segment.payload.len() <= size - merge.filled + self.free_buffers(queue) * size
                && merge.headers.len() + merge.payload + segment.payload.len() < 65_535
                && merge.begun < MOST_IN_BUFFER;
            if fits {
                self.append(queue, at, &segment, size);
                if segment.flags & PSH != 0 {
                    self.close_merge(queue, at);
                }
                return true;
            }
            self.close_merge(queue, at);
        }
        if !plain || segment.flags & PSH != 0 || self.free_buffers(queue) == 0 || frame.len() > size
        {
            return false;
        }
        if self.rx[queue].merges.len() == MOST {
            self.close_merge(queue, 0);
        }
        self.begin(queue, &segment, ip, verdict);
        true
    }

    fn begin(&mut self, queue: usize, segment: &Segment<'_>, ip: &Ip, verdict: Verdict) {
        let number = self.take_buffer(queue);
        let whole = [segment.headers, segment.payload].concat();
        self.fill(queue, number, &whole);
        let first_address = self.buffer_of(queue, number).address;
        self.rx[queue].merges.push(Merge {
            flow: segment.flow.clone(),
            v4: ip.v4,
            headers: segment.headers.to_vec(),
            ip: ip.start,
            tcp: ip.next,
            expected: segment.sequence.wrapping_add(segment.payload.len() as u32),
            payload: segment.payload.len(),
            first_address,
            current: number,
            filled: whole.len(),
            begun: 1,
            buffers: 1,
            segments: 1,
            verdict,
        });
    }

    /// Puts a segment's payload behind that of the others.
    fn append(&mut self, queue: usize, at: usize, segment: &Segment<'_>, size: usize) {
        let mut merge = self.rx[queue].merges.swap_remove(at);
        let mut left = segment.payload;
        let mut counted = false;
        while !left.is_empty() {
            if merge.filled == size {
                self.next_buffer(queue, &mut merge);
            }
            let piece = left.len().min(size - merge.filled);
            let address = self.buffer_of(queue, merge.current).address;
            if merge.filled == 0 {
                self.fill(queue, merge.current, &left[..piece]);
            } else {
                let address = address + merge.filled as u64;
                if self.memory.write(address, &left[..piece]).is_none() {
                    refuse!("receive queue {queue}: the buffer at {address:#x} was unmapped");
                }
            }
            merge.filled += piece;
            merge.begun += u64::from(!counted);
            counted = true;
            left = &left[piece..];
        }
        // The newest segment's acknowledgment, flags, window and options count.
        let tcp = merge.tcp;
        merge.headers[tcp + 8..].copy_from_slice(&segment.headers[tcp + 8..]);
        merge.expected = merge.expected.wrapping_add(segment.payload.len() as u32);
        merge.payload += segment.payload.len();
        merge.segments += 1;
        self.rx[queue].merges.push(merge);
    }

    /// Goes on in another buffer, which the full one's descriptor names.
    fn next_buffer(&mut self, queue: usize, merge: &mut Merge) {
        let next = self.take_buffer(queue);
        let index = u64::from(self.buffer_of(queue, next).index);
        let low = merge.verdict.low | (merge.begun + 1) << 17;
        let high = DONE | index << 4 | (merge.filled as u64) << 32;
        self.buffer_of(queue, merge.current).written = Some([low, high]);
        merge.current = next;
        merge.filled = 0;
        merge.begun = 0;
        merge.buffers += 1;
    }

    /// Ends a frame.
    fn close_merge(&mut self, queue: usize, at: usize) {
        let mut merge = self.rx[queue].merges.remove(at);
        // A single segment may or may not be described as one that was coalesced.
        let alone = merge.segments == 1;
        let count = match alone && self.random.one_in(2) {
            true => 0,
            false => merge.begun + 1,
        };
        if !alone {
            self.offloaded.merged += merge.segments as u64;
            self.update_headers(queue, &mut merge);
        }
        let words = [
            merge.verdict.low | count << 17,
            DONE | END_OF_PACKET | merge.verdict.high | (merge.filled as u64) << 32,
        ];
        self.buffer_of(queue, merge.current).written = Some(words);
    }

    /// Ends all frames of a queue, as the end of its vector's interval does.
    pub(crate) fn close_merges(&mut self, queue: usize) {
        while !self.rx[queue].merges.is_empty() {
            self.close_merge(queue, 0);
        }
    }

    /// Writes lengths and the newest segment's fields into the headers in the first buffer.
    fn update_headers(&mut self, queue: usize, merge: &mut Merge) {
        let mut there = vec![0; merge.tcp + 8];
        self.memory.read(merge.first_address, &mut there);
        if there != merge.headers[..merge.tcp + 8] {
            refuse!(
                "receive queue {queue}: the first buffer of a coalesced frame was used again before \
                 the frame's end"
            );
        }
        let total = merge.headers.len() + merge.payload - merge.ip;
        let ip = &mut merge.headers[merge.ip..merge.tcp];
        if merge.v4 {
            ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
            ip[10..12].fill(0);
            let checksum = !sum(ip, 0);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            ip[4..6].copy_from_slice(&((total - 40) as u16).to_be_bytes());
        }
        debug_assert!(u16_at(&merge.headers, 12) != 0x8100);
        self.memory.write(merge.first_address, &merge.headers);
    }
}
