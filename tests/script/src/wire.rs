//! IP datagrams as bytes: written here for the tests, apart from the engine's own formats, so that
//! neither hides the other's mistakes.

mod options;

pub use options::TcpOption;
use std::net::IpAddr;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// An IP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Who sends it.
    pub src: IpAddr,
    /// Who is to get it.
    pub dst: IpAddr,
    /// Type of service or traffic class; ECN is the lower two bits.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// What it carries.
    pub payload: Payload,
}

/// What a datagram carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// TCP.
    Tcp(Segment),
    /// ICMP of the datagram's own version.
    Icmp(Message),
}

/// A TCP segment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flag bits.
    pub flags: u8,
    /// Window field.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, padding left out.
    pub options: Vec<TcpOption>,
    /// Data.
    pub payload: Vec<u8>,
}

/// An ICMP message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum.
    pub rest: u32,
    /// What follows.
    pub data: Vec<u8>,
}

/// TCP flag bits.
pub mod flag {
    /// FIN
    pub const FIN: u8 = 1;
    /// SYN
    pub const SYN: u8 = 2;
    /// RST
    pub const RST: u8 = 4;
    /// PSH
    pub const PSH: u8 = 8;
    /// ACK
    pub const ACK: u8 = 16;
}

impl Segment {
    /// The header and data, the checksum still zero.
    pub fn bytes(&self) -> Vec<u8> {
        let options = options::encode(&self.options);
        let mut bytes = Vec::with_capacity(60 + self.payload.len());
        bytes.extend(self.src_port.to_be_bytes());
        bytes.extend(self.dst_port.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([((20 + options.len()) << 2) as u8, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.payload);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Segment, String> {
        let header = bytes
            .get(12)
            .map_or(usize::MAX, |b| usize::from(b >> 4) * 4);
        if header < 20 || header > bytes.len() {
            return Err("a TCP header that is cut short".into());
        }
        Ok(Segment {
            src_port: be16(bytes, 0),
            dst_port: be16(bytes, 2),
            seq: be32(bytes, 4),
            ack: be32(bytes, 8),
            flags: bytes[13],
            window: be16(bytes, 14),
            urgent: be16(bytes, 18),
            options: options::decode(&bytes[20..header])?,
            payload: bytes[header..].to_vec(),
        })
    }
}

impl Datagram {
    /// The datagram as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let (protocol, mut payload, sum_at) = match &self.payload {
            Payload::Tcp(segment) => (TCP, segment.bytes(), 16),
            Payload::Icmp(message) => {
                let mut bytes = vec![message.kind, message.code, 0, 0];
                bytes.extend(message.rest.to_be_bytes());
                bytes.extend(&message.data);
                (if self.src.is_ipv4() { ICMP } else { ICMP6 }, bytes, 2)
            }
        };
        let sum = checksum(&payload, self.pseudo(protocol, payload.len()));
        payload[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut bytes = self.header(protocol, payload.len());
        bytes.extend(payload);
        bytes
    }

    fn header(&self, protocol: u8, len: usize) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = vec![0x45, self.tos];
                header.extend(((20 + len) as u16).to_be_bytes());
                header.extend([0, 0, 0x40, 0, self.ttl, protocol, 0, 0]);
                header.extend(src.octets());
                header.extend(dst.octets());
                let sum = checksum(&header, 0);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (src, dst) => {
                let mut header = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
                header.extend((len as u16).to_be_bytes());
                header.extend([protocol, self.ttl]);
                header.extend(octets(src));
                header.extend(octets(dst));
                header
            }
        }
    }

    /// The sum of the pseudo-header; ICMP has none in IPv4.
    fn pseudo(&self, protocol: u8, len: usize) -> u64 {
        if protocol == ICMP {
            return 0;
        }
        let mut bytes = octets(self.src);
        bytes.extend(octets(self.dst));
        sum(&bytes) + u64::from(protocol) + len as u64
    }

    /// Reads a datagram. `Ok(None)`: it carries something that no script speaks of (neighbour
    /// discovery, multicast housekeeping).
    ///
    /// # Errors
    /// What is wrong with its lengths or checksums.
    pub fn parse(bytes: &[u8]) -> Result<Option<Datagram>, String> {
        let short = "an IP header that is cut short";
        let (src, dst, tos, ttl, protocol, payload): (IpAddr, IpAddr, _, _, _, &[u8]);
        match bytes.first().map(|b| b >> 4) {
            Some(4) if bytes.len() >= 20 => {
                let header = usize::from(bytes[0] & 15) * 4;
                let total = usize::from(be16(bytes, 2));
                payload = bytes.get(header..total).ok_or(short)?;
                if checksum(&bytes[..header], 0) != 0 {
                    return Err("a wrong checksum of the IP header".into());
                }
                (tos, ttl, protocol) = (bytes[1], bytes[8], bytes[9]);
                let address = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).map(IpAddr::from);
                src = address(12).map_err(|_| short)?;
                dst = address(16).map_err(|_| short)?;
            }
            Some(6) if bytes.len() >= 40 => {
                let end = 40 + usize::from(be16(bytes, 4));
                payload = bytes.get(40..end).ok_or(short)?;
                tos = bytes[0] << 4 | bytes[1] >> 4;
                (protocol, ttl) = (bytes[6], bytes[7]);
                let address =
                    |at: usize| <[u8; 16]>::try_from(&bytes[at..at + 16]).map(IpAddr::from);
                src = address(8).map_err(|_| short)?;
                dst = address(24).map_err(|_| short)?;
            }
            _ => return Err(short.into()),
        }
        let mut datagram = Datagram {
            src,
            dst,
            tos,
            ttl,
            payload: Payload::Tcp(Segment::default()),
        };
        if ![TCP, ICMP, ICMP6].contains(&protocol) {
            return Ok(None);
        }
        if checksum(payload, datagram.pseudo(protocol, payload.len())) != 0 {
            return Err("a wrong checksum of the transport header".into());
        }
        if protocol == TCP {
            datagram.payload = Payload::Tcp(Segment::parse(payload)?);
            return Ok(Some(datagram));
        }
        if payload.len() < 8 {
            return Err("an ICMP message that is cut short".into());
        }
        if protocol == ICMP6 && (130..=143).contains(&payload[0]) {
            return Ok(None);
        }
        datagram.payload = Payload::Icmp(Message {
            kind: payload[0],
            code: payload[1],
            rest: be32(payload, 4),
            data: payload[8..].to_vec(),
        });
        Ok(Some(datagram))
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let whole: u64 = pairs
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)))
        .sum();
    whole + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// RFC 1071; 0 over bytes that hold their own checksum.
fn checksum(bytes: &[u8], pseudo: u64) -> u16 {
    let mut total = sum(bytes) + pseudo;
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(src: &str, dst: &str) -> Datagram {
        Datagram {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            tos: 2,
            ttl: 64,
            payload: Payload::Tcp(Segment {
                src_port: 8080,
                dst_port: 40000,
                seq: 0xffff_fff0,
                ack: 7,
                flags: 0x18,
                window: 1000,
                urgent: 0,
                options: vec![
                    TcpOption::Nop,
                    TcpOption::Nop,
                    TcpOption::Timestamps { val: 5, ecr: 6 },
                ],
                payload: b"odd".to_vec(),
            }),
        }
    }

    #[test]
    fn datagrams_of_both_versions_are_read_as_they_were_written() {
        for (src, dst) in [("192.0.2.1", "192.168.0.1"), ("fd00::1", "fd00::2")] {
            let datagram = datagram(src, dst);
            assert_eq!(Datagram::parse(&datagram.bytes()), Ok(Some(datagram)));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let bytes = datagram("192.0.2.1", "192.168.0.1").bytes();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            assert!(Datagram::parse(&wrong).is_err() || at == 9, "byte {at}");
        }
    }
}
