//! Frames for the tests.

use psio::segment::fill_checksum;

use super::bed::MAC;

/// A sender that is not the card.
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A frame of no known protocol to the card, `len` bytes long, that carries a number.
pub fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    write_numbered(&mut frame, number);
    frame
}

/// The same, where it is to be sent from.
pub fn write_numbered(frame: &mut [u8], number: u64) {
    frame[..6].copy_from_slice(&MAC);
    frame[6..12].copy_from_slice(&PEER);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame[14..22].copy_from_slice(&number.to_be_bytes());
    let end = frame.len();
    frame[end - 1] = number as u8;
}

/// The number that a frame carries.
pub fn number(frame: &[u8]) -> u64 {
    u64::from_be_bytes(frame[14..22].try_into().expect("eight bytes"))
}

/// A TCP segment to be built.
#[derive(Clone, Copy)]
pub struct Tcp<'a> {
    pub v6: bool,
    pub source: ([u8; 4], u16),
    pub destination: ([u8; 4], u16),
    pub sequence: u32,
    pub flags: u8,
    pub payload: &'a [u8],
}

impl Default for Tcp<'_> {
    fn default() -> Self {
        Tcp {
            v6: false,
            source: ([10, 0, 0, 1], 40_000),
            destination: ([10, 0, 0, 2], 80),
            sequence: 1,
            flags: 0x10,
            payload: &[],
        }
    }
}

impl Tcp<'_> {
    /// Bytes of all headers: TCP's with timestamps.
    pub fn headers(&self) -> usize {
        self.transport() + 32
    }

    /// Where the TCP header begins.
    pub fn transport(&self) -> usize {
        if self.v6 { 54 } else { 34 }
    }

    /// The frame, with good checksums.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = self.bare();
        assert!(fill_checksum(&mut frame));
        frame
    }

    /// The frame with the sum of the pseudo-header where the checksum belongs.
    pub fn unsummed(&self) -> Vec<u8> {
        let mut frame = self.bare();
        let field = self.transport() + 16;
        let addresses = if self.v6 { 22..54 } else { 26..34 };
        let words = frame[addresses].chunks(2);
        let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        sum += 6 + (frame.len() - self.transport()) as u32;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[field..field + 2].copy_from_slice(&(sum as u16).to_be_bytes());
        frame
    }

    fn bare(&self) -> Vec<u8> {
        let mut frame = [MAC, PEER].concat();
        let tcp_len = (32 + self.payload.len()) as u16;
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(tcp_len.to_be_bytes());
            frame.extend([6, 64]);
            for end in [self.source.0, self.destination.0] {
                frame.extend([0xfd; 12]);
                frame.extend(end);
            }
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend((20 + tcp_len).to_be_bytes());
            frame.extend([0, 7, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(self.source.0);
            frame.extend(self.destination.0);
            fill_ip(&mut frame);
        }
        frame.extend(self.source.1.to_be_bytes());
        frame.extend(self.destination.1.to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend([0, 0, 0, 9, 8 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend([1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9]);
        frame.extend(self.payload);
        frame
    }
}

/// Fills in the checksum of an IPv4 header without options.
pub fn fill_ip(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let mut sum: u32 = frame[14..34]
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!sum as u16).to_be_bytes());
}

/// Whether the checksum of an IPv4 header without options is right.
pub fn ip_is_good(frame: &[u8]) -> bool {
    let mut again = frame.to_vec();
    fill_ip(&mut again);
    again == frame
}

/// A UDP datagram over IPv4 with good checksums.
pub fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = [MAC, PEER].concat();
    let len = (8 + payload.len()) as u16;
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + len).to_be_bytes());
    frame.extend([0, 7, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(source.0);
    frame.extend(destination.0);
    fill_ip(&mut frame);
    frame.extend(source.1.to_be_bytes());
    frame.extend(destination.1.to_be_bytes());
    frame.extend(len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    assert!(fill_checksum(&mut frame));
    frame
}

/// Bytes that look alike nowhere.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}
