//! From the driver's ring to the wire.

use crate::queues::State;
use crate::{Card, WIRE, refuse};

const DMATXCTL: u32 = 0x4a80;

/// Pieces that one frame may consist of.
const MOST_PIECES: usize = 40;

/// The longest frame that goes out uncut, in bytes.
const LONGEST: usize = 15_872;

/// The shortest frame, in bytes.
const SHORTEST: usize = 17;

// Bits of a descriptor's second word.
const CONTEXT: u64 = 2;
const DATA: u64 = 3;
const END_OF_PACKET: u64 = 1 << 24;
const INSERT_FCS: u64 = 1 << 25;
const REPORT: u64 = 1 << 27;
const ADVANCED: u64 = 1 << 29;
const TAG: u64 = 1 << 30;
pub const SEGMENT: u64 = 1 << 31;
const CHECK_CONTEXT: u64 = 1 << 39;
pub const IP_CHECKSUM: u64 = 1 << 40;
pub const L4_CHECKSUM: u64 = 1 << 41;
/// What a descriptor that is done says.
const DONE: u64 = 1 << 32;

/// What a context descriptor says of the frames that refer to it.
#[derive(Clone, Copy)]
pub struct Context {
    pub mac_len: usize,
    pub ip_len: usize,
    pub v4: bool,
    pub tcp: bool,
    /// Layer 4 is left alone, as DPDK's driver says it for frames of which it wants the IP checksum only.
    no_l4: bool,
    pub l4_len: usize,
    pub mss: usize,
}

/// A piece of a frame.
#[derive(Clone, Copy)]
pub struct Piece {
    address: u64,
    len: usize,
}

/// A descriptor that was fetched.
pub struct Flight {
    index: u32,
    words: [u64; 2],
    /// Its piece, and the sum of its bytes when they were sent.
    piece: Option<(Piece, u64)>,
    /// Its frame has left.
    sent: bool,
}

impl Card {
    /// Descriptors of a transmit queue that were fetched and not written back.
    pub fn in_flight(&self, queue: usize) -> usize {
        self.tx[queue].flights.len()
    }

    /// Sends frames of a queue and writes descriptors back: some, or all; false if there was nothing
    /// to do.
    pub(crate) fn work_tx(&mut self, queue: usize, all: bool) -> bool {
        let tx = &self.tx[queue];
        if tx.state == State::Off || (tx.flights.is_empty() && tx.ring.waiting() == 0) {
            return false;
        }
        let able = self.control.link && self.is_master() && self.file.get(DMATXCTL) & 1 != 0;
        if !tx.state.runs() || !able {
            return false;
        }
        let most = if all {
            usize::MAX
        } else {
            self.random.below(96)
        };
        let mut fetched = 0;
        while fetched < most && self.tx[queue].ring.waiting() > 0 && self.sent.bytes() < WIRE {
            self.fetch_tx(queue);
            fetched += 1;
        }
        let most = if all {
            usize::MAX
        } else {
            self.random.below(96)
        };
        fetched + self.write_back_tx(queue, most) > 0
    }

    fn fetch_tx(&mut self, queue: usize) {
        let ring = &mut self.tx[queue].ring;
        let index = ring.fetched;
        let Some(words) = self.memory.read_descriptor(ring.address(index)) else {
            refuse!("transmit queue {queue}: descriptor {index} is outside mapped memory");
        };
        ring.fetched = ring.next(index);
        if words[1] & ADVANCED == 0 {
            refuse!(
                "transmit queue {queue}: descriptor {index} is a legacy one, which is not modelled"
            );
        }
        match words[1] >> 20 & 0xf {
            CONTEXT => self.take_context(queue, index, words),
            DATA => self.take_data(queue, index, words),
            kind => refuse!("transmit queue {queue}: descriptor {index} is of unknown type {kind}"),
        }
    }

    fn take_context(&mut self, queue: usize, index: u32, words: [u64; 2]) {
        if !self.tx[queue].pieces.is_empty() {
            refuse!("transmit queue {queue}: context {index} comes in the middle of a frame");
        }
        let slot = (words[1] >> 36 & 7) as usize;
        let context = Context {
            mac_len: (words[0] >> 9 & 0x7f) as usize,
            ip_len: (words[0] & 0x1ff) as usize,
            v4: words[1] >> 10 & 1 != 0,
            tcp: words[1] >> 11 & 3 == 1,
            no_l4: words[1] >> 11 & 3 == 3,
            l4_len: (words[1] >> 40 & 0xff) as usize,
            mss: (words[1] >> 48) as usize,
        };
        if slot > 1 || words[1] >> 11 & 3 == 2 {
            refuse!("transmit queue {queue}: context {index} has slot {slot}, or is for SCTP");
        }
        if context.mac_len < 14 || context.ip_len < 20 {
            refuse!("transmit queue {queue}: context {index} has headers that are too short");
        }
        let tx = &mut self.tx[queue];
        tx.contexts[slot] = Some(context);
        tx.flights.push_back(Flight {
            index,
            words,
            piece: None,
            sent: true,
        });
    }

    fn take_data(&mut self, queue: usize, index: u32, words: [u64; 2]) {
        let piece = Piece {
            address: words[0],
            len: words[1] as usize & 0xffff,
        };
        let last = words[1] & END_OF_PACKET != 0;
        if piece.len == 0 || !self.memory.is_mapped(piece.address, piece.len) {
            refuse!(
                "transmit queue {queue}: descriptor {index} has {} bytes at {:#x}, outside mapped memory",
                piece.len,
                piece.address
            );
        }
        if words[1] & INSERT_FCS == 0 || words[1] & REPORT != 0 && !last || words[1] & TAG != 0 {
            refuse!("transmit queue {queue}: descriptor {index} has flags that make no sense");
        }
        let tx = &mut self.tx[queue];
        if tx.pieces.is_empty() {
            tx.bits = words[1];
        }
        tx.pieces.push(piece);
        if tx.pieces.len() > MOST_PIECES {
            refuse!("transmit queue {queue}: a frame in more than {MOST_PIECES} pieces");
        }
        tx.flights.push_back(Flight {
            index,
            words,
            piece: Some((piece, 0)),
            sent: false,
        });
        if last {
            let bits = tx.bits;
            self.send(queue, index, bits);
        }
    }

    /// Gathers a frame's pieces and sends it.
    fn send(&mut self, queue: usize, index: u32, bits: u64) {
        let mut pieces = std::mem::take(&mut self.tx[queue].pieces);
        let mut frame = Vec::with_capacity(pieces.iter().map(|piece| piece.len).sum());
        let flights = self.tx[queue].flights.len() - pieces.len();
        for (at, piece) in pieces.drain(..).enumerate() {
            let start = frame.len();
            frame.resize(start + piece.len, 0);
            self.memory.read(piece.address, &mut frame[start..]);
            let flight = &mut self.tx[queue].flights[flights + at];
            flight.piece = Some((piece, fingerprint(&frame[start..])));
            flight.sent = true;
        }
        self.tx[queue].pieces = pieces;
        let context = self.context(queue, index, bits);
        let cut = bits & SEGMENT != 0;
        let headers = match context {
            Some(context) if cut => context.mac_len + context.ip_len + context.l4_len,
            _ => 0,
        };
        let payload = (bits >> 46) as usize;
        if payload + headers != frame.len() {
            refuse!(
                "transmit queue {queue}: descriptor {index} says {payload} bytes of payload, but the \
                 frame has {} and {headers} of headers",
                frame.len()
            );
        }
        if frame.len() < SHORTEST || !cut && frame.len() > LONGEST {
            refuse!("transmit queue {queue}: a frame of {} bytes", frame.len());
        }
        self.emit(queue, frame, context, bits);
    }

    /// The context that a frame refers to.
    fn context(&self, queue: usize, index: u32, bits: u64) -> Option<Context> {
        // Offloads take their context whether "check context" is set, as our driver does, or not, as
        // Linux's does.
        if bits & (SEGMENT | IP_CHECKSUM | L4_CHECKSUM | CHECK_CONTEXT) == 0 {
            return None;
        }
        let slot = (bits >> 36 & 7) as usize;
        match self.tx[queue].contexts.get(slot) {
            Some(Some(context)) if context.no_l4 && bits & (SEGMENT | L4_CHECKSUM) != 0 => {
                refuse!(
                    "transmit queue {queue}: descriptor {index} wants layer 4, and its context does not"
                )
            }
            Some(Some(context)) => Some(*context),
            _ => {
                refuse!("transmit queue {queue}: descriptor {index} refers to an empty slot {slot}")
            }
        }
    }

    /// Writes at most `most` descriptors back, in order; returns how many.
    fn write_back_tx(&mut self, queue: usize, most: usize) -> usize {
        let mut done = 0;
        let mut reported = false;
        while done < most
            && let Some(flight) = self.tx[queue].flights.front()
            && flight.sent
        {
            let Flight {
                index,
                words,
                piece,
                ..
            } = *flight;
            let at = self.tx[queue].ring.address(index);
            if self.memory.read_descriptor(at) != Some(words) {
                refuse!(
                    "transmit queue {queue}: descriptor {index} was changed before it was done"
                );
            }
            if let Some((piece, sum)) = piece {
                self.check_untouched(queue, piece, sum);
            }
            let tx = &mut self.tx[queue];
            tx.ring.head = tx.ring.next(index);
            if words[1] & REPORT != 0 {
                self.memory.write_descriptor(at, [0, DONE]);
                tx.known = tx.ring.head;
                reported = true;
            }
            tx.flights.pop_front();
            done += 1;
        }
        if reported {
            self.raise_tx(queue);
        }
        done
    }

    /// A frame is the card's until it is reported as sent, for only then it was read for sure.
    fn check_untouched(&mut self, queue: usize, piece: Piece, sum: u64) {
        let mut now = [0; 256];
        let mut sum_now = Fingerprint::default();
        let mut at = 0;
        while at < piece.len {
            let len = now.len().min(piece.len - at);
            if self
                .memory
                .read(piece.address + at as u64, &mut now[..len])
                .is_none()
            {
                refuse!("transmit queue {queue}: a frame was unmapped before it was done");
            }
            sum_now.add(&now[..len]);
            at += len;
        }
        if sum_now.0 != sum {
            refuse!("transmit queue {queue}: a frame was changed before it was done");
        }
    }
}

/// A sum by which a change is noticed.
#[derive(Default)]
struct Fingerprint(u64);

impl Fingerprint {
    /// Adds bytes; a multiple of eight but for the last.
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            let mixed = self.0 ^ u64::from_le_bytes(*word);
            self.0 = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut sum = Fingerprint::default();
    for piece in bytes.chunks(256) {
        sum.add(piece);
    }
    sum.0
}
