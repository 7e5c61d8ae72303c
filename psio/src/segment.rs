//! TCP segmentation and checksums in software: what a device without offloads leaves to be done.
//!
//! Works on whole Ethernet frames that hold IPv4 or IPv6 without extension headers.

use crate::{ChecksumOffload, MAX_FRAME};

const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Offset of the flags in a TCP header (RFC 9293 §3.1).
const TCP_FLAGS: usize = 13;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A frame that cannot be cut: it is no whole TCP segment in IPv4 or IPv6, or the size is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a TCP segment that can be cut")]
pub struct NotSegmentable;

/// Where the layers of a frame lie, all checked against its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    version: u8,
    protocol: u8,
    /// First byte of the layer 4 header.
    transport: usize,
    /// One past the last byte of the IP packet.
    end: usize,
}

impl Layout {
    fn of(frame: &[u8]) -> Option<Layout> {
        let ip = frame.get(ETHERNET..)?;
        match u16_at(frame, 12)? {
            0x0800 => {
                let first = *ip.first()?;
                let header = usize::from(first & 0x0f) * 4;
                let total = usize::from(u16_at(ip, 2)?);
                // Don't-fragment is the one bit that may be set.
                let fragment = u16_at(ip, 6)? & 0xbfff != 0;
                let fits = (20..=total).contains(&header) && total <= ip.len();
                (first >> 4 == 4 && fits && !fragment).then_some(Layout {
                    version: 4,
                    protocol: *ip.get(9)?,
                    transport: ETHERNET + header,
                    end: ETHERNET + total,
                })
            }
            0x86dd => {
                let total = IPV6_HEADER + usize::from(u16_at(ip, 4)?);
                (*ip.first()? >> 4 == 6 && total <= ip.len()).then_some(Layout {
                    version: 6,
                    protocol: *ip.get(6)?,
                    transport: ETHERNET + IPV6_HEADER,
                    end: ETHERNET + total,
                })
            }
            _ => None,
        }
    }

    /// Offset of the checksum in the layer 4 header, if that header is there in full.
    fn checksum_offset(&self) -> Option<usize> {
        let len = self.end - self.transport;
        match self.protocol {
            TCP if len >= 20 => Some(16),
            UDP if len >= 8 => Some(6),
            _ => None,
        }
    }

    /// First byte of the TCP payload.
    fn tcp_payload(&self, frame: &[u8]) -> Option<usize> {
        if self.protocol != TCP {
            return None;
        }
        let header = usize::from(*frame.get(self.transport + 12)? >> 4) * 4;
        (header >= 20 && self.transport + header <= self.end).then_some(self.transport + header)
    }

    /// The sum of the pseudo-header and the layer 4 header and payload.
    fn sum(&self, frame: &[u8]) -> u16 {
        let addresses = match self.version {
            4 => &frame[ETHERNET + 12..ETHERNET + 20],
            _ => &frame[ETHERNET + 8..ETHERNET + 40],
        };
        let body = &frame[self.transport..self.end];
        fold(
            u64::from(sum(addresses))
                + u64::from(self.protocol)
                // At most 65,535: what the length fields of both headers can say.
                + body.len() as u64
                + u64::from(sum(body)),
        )
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// A sum, folded into 16 bits with its carries.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The one's complement sum of 16-bit words (RFC 1071), not inverted.
fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    // The sum comes out right in any byte order if it is read back in the same (RFC 1071 §2 B).
    let total: u64 = words
        .iter()
        .chain([&last])
        .map(|&word| u64::from(u32::from_ne_bytes(word)))
        .sum();
    u16::from_be(fold(total))
}

/// A checksum as it is sent: zero, which means "none" in UDP, becomes its other form.
fn inverted(sum: u16) -> u16 {
    if sum == 0xffff { sum } else { !sum }
}

/// Finishes a checksum whose field holds the pseudo-header's sum. Returns false, and leaves the
/// frame alone, if the field lies outside it.
pub fn complete_checksum(frame: &mut [u8], offload: ChecksumOffload) -> bool {
    let start = usize::from(offload.start);
    let field = start + usize::from(offload.offset);
    if field + 2 > frame.len() {
        return false;
    }
    let sum = sum(&frame[start..]);
    put_u16(frame, field, inverted(sum));
    true
}

/// Computes the TCP or UDP checksum anew, whatever its field holds. Returns false, and leaves the
/// frame alone, if it holds neither.
pub fn fill_checksum(frame: &mut [u8]) -> bool {
    let Some(layout) = Layout::of(frame) else {
        return false;
    };
    let Some(offset) = layout.checksum_offset() else {
        return false;
    };
    put_u16(frame, layout.transport + offset, 0);
    let sum = layout.sum(frame);
    put_u16(frame, layout.transport + offset, inverted(sum));
    true
}

/// Whether the TCP or UDP checksum of `frame` is right; `None` if it holds neither.
pub fn verify_checksum(frame: &[u8]) -> Option<bool> {
    let layout = Layout::of(frame)?;
    layout.checksum_offset()?;
    Some(layout.sum(frame) == 0xffff)
}

/// Where the payload of a frame with TCP begins.
pub(crate) fn tcp_header_end(frame: &[u8]) -> Option<usize> {
    Layout::of(frame)?.tcp_payload(frame)
}

/// A TCP super-segment that is to go as frames with at most so many bytes of payload, checksums
/// filled in.
///
/// The sequence number and the IPv4 identification advance from frame to frame; FIN and PSH go
/// with the last alone, CWR with the first (RFC 3168 §6.1.2: once per window).
pub struct Cut<'a> {
    layout: Layout,
    headers: &'a [u8],
    payload: &'a [u8],
    size: usize,
}

impl<'a> Cut<'a> {
    /// # Errors
    /// [`NotSegmentable`].
    pub fn new(frame: &'a [u8], size: u16) -> Result<Cut<'a>, NotSegmentable> {
        let layout = Layout::of(frame).ok_or(NotSegmentable)?;
        let payload = layout.tcp_payload(frame).ok_or(NotSegmentable)?;
        if size == 0 || frame.len() > MAX_FRAME {
            return Err(NotSegmentable);
        }
        Ok(Cut {
            layout,
            headers: &frame[..payload],
            payload: &frame[payload..layout.end],
            size: size.into(),
        })
    }

    /// How many frames there are.
    pub fn frames(&self) -> usize {
        self.payload.len().div_ceil(self.size).max(1)
    }

    fn payload(&self, index: usize) -> &'a [u8] {
        let from = self.payload.len().min(index * self.size);
        let to = self.payload.len().min(from + self.size);
        &self.payload[from..to]
    }

    /// Bytes of a frame.
    pub fn frame_len(&self, index: usize) -> usize {
        self.headers.len() + self.payload(index).len()
    }

    /// Writes a frame.
    ///
    /// # Panics
    /// If `room` is not as long as it.
    pub fn write(&self, index: usize, room: &mut [u8]) {
        let (headers, payload) = room.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(self.payload(index));

        let transport = self.layout.transport;
        let sequence = &mut room[transport + 4..transport + 8];
        let first = u32::from_be_bytes([sequence[0], sequence[1], sequence[2], sequence[3]]);
        let advanced = first.wrapping_add((index * self.size) as u32);
        sequence.copy_from_slice(&advanced.to_be_bytes());
        let mut mask = 0xff;
        if index > 0 {
            mask &= !CWR;
        }
        if index + 1 < self.frames() {
            mask &= !(FIN | PSH);
        }
        room[transport + TCP_FLAGS] &= mask;
        set_ip_length(room, self.layout, index as u16);
        fill_checksum(room);
    }
}

/// Cuts a TCP super-segment as [`Cut`] does and shows each frame to `emit`; returns how many there
/// were. `room` is scratch space, kept by the caller so that it is allocated once.
///
/// # Errors
/// [`NotSegmentable`], before anything is emitted.
pub fn segment(
    frame: &[u8],
    size: u16,
    room: &mut Vec<u8>,
    emit: &mut dyn FnMut(&mut [u8]),
) -> Result<usize, NotSegmentable> {
    let cut = Cut::new(frame, size)?;
    for index in 0..cut.frames() {
        room.resize(cut.frame_len(index), 0);
        cut.write(index, room);
        emit(room);
    }
    Ok(cut.frames())
}

/// Makes the IP header of the `index`th frame cut fit the frame's length.
fn set_ip_length(frame: &mut [u8], layout: Layout, index: u16) {
    let len = frame.len();
    if layout.version == 6 {
        put_u16(frame, ETHERNET + 4, (len - ETHERNET - IPV6_HEADER) as u16);
        return;
    }
    let header = &mut frame[ETHERNET..layout.transport];
    let id = u16::from_be_bytes([header[4], header[5]]);
    put_u16(header, 2, (len - ETHERNET) as u16);
    put_u16(header, 4, id.wrapping_add(index));
    put_u16(header, 10, 0);
    let sum = sum(header);
    put_u16(header, 10, !sum);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A TCP frame with valid checksums, built field by field.
    pub(crate) fn tcp_frame(v6: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let tcp_len = (32 + payload.len()) as u16;
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(tcp_len.to_be_bytes());
            frame.extend([TCP, 64]);
            frame.extend([0xfd; 16]);
            frame.extend([0xfe; 16]);
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((tcp_len + 20).to_be_bytes());
            frame.extend([
                0xff, 0xfe, 0x40, 0, 64, TCP, 0, 0, 10, 77, 0, 1, 10, 77, 0, 2,
            ]);
            let header = sum(&frame[ETHERNET..ETHERNET + 20]);
            put_u16(&mut frame, ETHERNET + 10, !header);
        }
        frame.extend([0x1f, 0x90, 0xc0, 0x01]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([1, 2, 3, 4, 8 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend([1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
        frame.extend(payload);
        assert!(fill_checksum(&mut frame));
        frame
    }

    /// What a naive reading of RFC 1071 gives.
    fn plain_sum(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    fn cut(frame: &[u8], size: u16) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        segment(frame, size, &mut Vec::new(), &mut |f| {
            frames.push(f.to_vec())
        })
        .unwrap();
        frames
    }

    proptest! {
        #[test]
        fn sum_agrees_with_the_plain_algorithm(bytes: Vec<u8>) {
            // Both forms of zero are the same number.
            prop_assert_eq!(sum(&bytes) % 0xffff, plain_sum(&bytes) % 0xffff);
        }

        #[test]
        fn segments_put_together_are_the_super_segment(
            v6: bool,
            sequence: u32,
            flags: u8,
            payload in prop::collection::vec(any::<u8>(), 0..40_000),
            size in 1u16..9000,
        ) {
            let size = size.max((payload.len() / 200) as u16).max(1);
            let whole = tcp_frame(v6, sequence, flags, &payload);
            let headers = whole.len() - payload.len();
            let tcp = headers - 32;
            let frames = cut(&whole, size);
            let mut assembled = Vec::new();
            for (index, frame) in frames.iter().enumerate() {
                let (first, last) = (index == 0, index + 1 == frames.len());
                prop_assert_eq!(verify_checksum(frame), Some(true));
                let at = u32::from_be_bytes(frame[tcp + 4..tcp + 8].try_into().unwrap());
                prop_assert_eq!(at, sequence.wrapping_add(assembled.len() as u32));
                let want = flags
                    & if first { 0xff } else { !CWR }
                    & if last { 0xff } else { !(FIN | PSH) };
                prop_assert_eq!(frame[tcp + 13], want);
                if v6 {
                    prop_assert_eq!(usize::from(u16_at(frame, 18).unwrap()), frame.len() - 54);
                } else {
                    prop_assert_eq!(usize::from(u16_at(frame, 16).unwrap()), frame.len() - 14);
                    let id = 0xfffeu16.wrapping_add(index as u16);
                    prop_assert_eq!(u16_at(frame, 18).unwrap(), id);
                    prop_assert_eq!(plain_sum(&frame[14..34]), 0xffff);
                }
                // Addresses, ports, acknowledgment, window and options stay as they are.
                prop_assert_eq!(&frame[..14], &whole[..14]);
                prop_assert_eq!(&frame[tcp - 8..tcp + 4], &whole[tcp - 8..tcp + 4]);
                prop_assert_eq!(&frame[tcp + 8..tcp + 13], &whole[tcp + 8..tcp + 13]);
                prop_assert_eq!(&frame[tcp + 20..headers], &whole[tcp + 20..headers]);
                let body = &frame[headers..];
                prop_assert!(last || body.len() == usize::from(size));
                assembled.extend_from_slice(body);
            }
            prop_assert_eq!(assembled, payload);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes: Vec<u8>,
            size: u16,
            start: u16,
            offset: u16,
            kind in 0..3,
        ) {
            if bytes.len() > 15 {
                match kind {
                    0 => bytes[12..15].copy_from_slice(&[0x08, 0x00, 0x45]),
                    1 => bytes[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]),
                    _ => {}
                }
            }
            let len = bytes.len();
            let mut emitted = 0;
            if let Ok(n) = segment(&bytes, size, &mut Vec::new(), &mut |_| emitted += 1) {
                prop_assert_eq!(n, emitted);
            }
            complete_checksum(&mut bytes, ChecksumOffload { start, offset });
            fill_checksum(&mut bytes);
            prop_assert_eq!(bytes.len(), len);
        }

        #[test]
        fn a_completed_checksum_verifies(v6: bool, payload: Vec<u8>) {
            let mut frame = tcp_frame(v6, 1, 0x10, &payload);
            let want = frame.clone();
            let layout = Layout::of(&frame).unwrap();
            let field = layout.transport + 16;
            // Leave the pseudo-header's sum in the field, as a stack with an offload does.
            put_u16(&mut frame, field, 0);
            let body = sum(&frame[layout.transport..]);
            let pseudo = fold(u64::from(layout.sum(&frame)) + u64::from(!body));
            put_u16(&mut frame, field, pseudo);
            let offload = ChecksumOffload { start: layout.transport as u16, offset: 16 };
            prop_assert!(complete_checksum(&mut frame, offload));
            prop_assert_eq!(verify_checksum(&frame), Some(true));
            prop_assert_eq!(frame, want);
        }
    }

    #[test]
    fn a_segment_without_payload_stays_one_frame() {
        let frame = tcp_frame(false, 7, FIN | 0x10, &[]);
        assert_eq!(cut(&frame, 1460), [frame]);
    }

    #[test]
    fn ethernet_padding_is_not_payload() {
        let mut frame = tcp_frame(false, 7, 0x10, b"x");
        let unpadded = frame.clone();
        frame.extend([0; 20]);
        assert_eq!(cut(&frame, 1460), [unpadded]);
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        let good = tcp_frame(false, 7, 0x10, b"payload");
        let mut udp = good.clone();
        udp[23] = UDP;
        let mut fragment = good.clone();
        fragment[20] = 0x20;
        let mut long_header = good.clone();
        long_header[46] = 0xf0;
        let mut lying_length = good.clone();
        lying_length[16] = 0xff;
        for (frame, size) in [
            (&udp, 100),
            (&fragment, 100),
            (&long_header, 100),
            (&lying_length, 100),
            (&good, 0),
        ] {
            let mut emitted = 0;
            let result = segment(frame, size, &mut Vec::new(), &mut |_| emitted += 1);
            assert_eq!((result, emitted), (Err(NotSegmentable), 0));
        }
    }
}
