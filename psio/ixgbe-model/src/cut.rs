//! What the card does to a frame on its way out: checksums, cutting, padding.

use crate::Card;
use crate::frame::sum;
use crate::refuse;
use crate::statistics::FCS;
use crate::transmit::{Context, IP_CHECKSUM, L4_CHECKSUM, SEGMENT};

const HLREG0: u32 = 0x4240;

/// The shortest frame of Ethernet, without its check sequence.
const SHORTEST: usize = 60;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

impl Card {
    /// Sends a frame, cut if that is wanted.
    pub(crate) fn emit(
        &mut self,
        queue: usize,
        frame: Vec<u8>,
        context: Option<Context>,
        bits: u64,
    ) {
        match context {
            Some(context) if bits & SEGMENT != 0 => self.emit_cut(queue, &frame, context, bits),
            Some(context) => {
                let mut frame = frame;
                if bits & IP_CHECKSUM != 0 {
                    fill_ip(&mut frame, context);
                }
                if bits & L4_CHECKSUM != 0 {
                    fill_l4(&mut frame, context, 0);
                }
                self.put(queue, frame);
            }
            None => self.put(queue, frame),
        }
    }

    fn emit_cut(&mut self, queue: usize, frame: &[u8], context: Context, bits: u64) {
        let tcp = context.mac_len + context.ip_len;
        let headers = tcp + context.l4_len;
        if !context.tcp || context.l4_len < 20 || context.mss == 0 || headers >= frame.len() {
            refuse!("transmit queue {queue}: a frame is to be cut by a context that does not fit");
        }
        if bits & L4_CHECKSUM == 0 || context.v4 != (bits & IP_CHECKSUM != 0) {
            refuse!(
                "transmit queue {queue}: a frame is to be cut without its checksums, or with others"
            );
        }
        let (headers, payload) = frame.split_at(headers);
        let sequence = u32::from_be_bytes(headers[tcp + 4..tcp + 8].try_into().expect("four"));
        let count = payload.len().div_ceil(context.mss);
        self.offloaded.cut += count as u64;
        for (index, piece) in payload.chunks(context.mss).enumerate() {
            let mut segment = [headers, piece].concat();
            let at = sequence.wrapping_add((index * context.mss) as u32);
            segment[tcp + 4..tcp + 8].copy_from_slice(&at.to_be_bytes());
            if index > 0 {
                segment[tcp + 13] &= !CWR;
            }
            if index + 1 < count {
                segment[tcp + 13] &= !(FIN | PSH);
            }
            self.fill_segment(&mut segment, context, index);
            self.put(queue, segment);
        }
    }

    /// Lengths, identification and checksums of a segment.
    fn fill_segment(&mut self, segment: &mut [u8], context: Context, index: usize) {
        let len = segment.len();
        let ip = &mut segment[context.mac_len..];
        if context.v4 {
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(index as u16);
            ip[2..4].copy_from_slice(&((len - context.mac_len) as u16).to_be_bytes());
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            fill_ip(segment, context);
        } else {
            let payload = len - context.mac_len - 40;
            ip[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
        }
        let body = len - context.mac_len - context.ip_len;
        fill_l4(segment, context, body as u16);
    }

    /// Puts a frame on the wire.
    fn put(&mut self, queue: usize, mut frame: Vec<u8>) {
        if frame.len() < SHORTEST && self.file.get(HLREG0) >> 10 & 1 != 0 {
            frame.resize(SHORTEST, 0);
        }
        self.count_tx(queue, frame.len());
        self.carried.current.frames_out += 1;
        self.carried.current.bytes_out += frame.len() as u64 + FCS;
        self.sent.push(&frame);
    }
}

/// The checksum of an IPv4 header, whose field the driver has cleared.
fn fill_ip(frame: &mut [u8], context: Context) {
    let header = &mut frame[context.mac_len..context.mac_len + context.ip_len];
    if !context.v4 || header[10..12] != [0, 0] {
        refuse!("an IP checksum is to be filled in where there is none, or one already");
    }
    let checksum = !sum(header, 0);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// The layer 4 checksum, whose field holds the sum of the pseudo-header, but for a length of `extra`.
fn fill_l4(frame: &mut [u8], context: Context, extra: u16) {
    let body = &mut frame[context.mac_len + context.ip_len..];
    let field = if context.tcp { 16 } else { 6 };
    if body.len() < field + 2 {
        refuse!("a layer 4 checksum is to be filled in beyond the frame's end");
    }
    let sum = !sum(body, extra);
    // In UDP, zero would mean that there is none.
    let sum = if sum == 0 && !context.tcp {
        0xffff
    } else {
        sum
    };
    body[field..field + 2].copy_from_slice(&sum.to_be_bytes());
}
