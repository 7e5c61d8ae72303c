//! A station that sends anything: noise, frames broken at each layer, and segments that fit into
//! the connections it has, more or less.

use crate::app::App;
use crate::bed::{Bed, Family, address, address6, mac};
use crate::dice::Dice;
use crate::frames::{IP, TcpFrame, ethernet, fix_checksums, ipv4, ipv6, options};
use engine::tcp::Flags;
use engine::wire::icmpv6::kind;
use engine::wire::protocol;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The host that the hostile station pretends to be.
pub const HOST: u8 = 3;
/// The port at which the stack serves it.
pub const PORT: u16 = 81;
/// Frames and flows remembered.
const MEMORY: usize = 32;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// What the station knows.
pub struct Network {
    family: Family,
    /// The stack under attack.
    target: u8,
    /// Frames that were on the wire.
    templates: Vec<Vec<u8>>,
    /// The last segment that the stack sent in each flow.
    flows: Vec<TcpFrame>,
}

/// A process of the stack that serves whoever comes to [`PORT`].
pub struct Server {
    app: App,
    listener: u32,
    sockets: Vec<u32>,
}

impl Network {
    /// Against the stack of host `target`, by what `family` has to offer.
    pub fn new(family: Family, target: u8) -> Network {
        Network {
            family,
            target,
            templates: Vec::new(),
            flows: Vec::new(),
        }
    }

    /// Takes note of a frame that the stack has sent.
    pub fn see(&mut self, frame: &[u8]) {
        if let Some(segment) = TcpFrame::parse(frame)
            && segment.dst.0 == self.family.address(HOST)
        {
            self.flows.retain(|flow| flow.dst.1 != segment.dst.1);
            self.flows.push(segment);
            if self.flows.len() > MEMORY {
                self.flows.remove(0);
            }
        }
        if self.templates.len() >= MEMORY {
            self.templates.remove(0);
        }
        self.templates.push(frame.to_vec());
    }

    /// A frame to the stack.
    pub fn frame(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let mut frame = match dice.below(12) {
            0 => noise(dice, 2000),
            1 => {
                let ethertype = [IPV4, 0x0806, IPV6, 0x8100][dice.index(4)];
                let noise = noise(dice, 1600);
                ethernet(mac(self.target), mac(HOST), ethertype, &noise)
            }
            2 if self.family == Family::V4 => self.arp(dice),
            2 => self.discovery(dice),
            3 if self.family == Family::V4 => self.datagram(dice),
            3 => self.packet(dice),
            4 => self.icmp(dice),
            5 => self.syn(dice).bytes(),
            6 | 7 => self.mutant(dice),
            _ => self.segment(dice).bytes(),
        };
        if dice.one_in(8) {
            break_something(&mut frame, dice);
            if !dice.one_in(4) {
                fix_checksums(&mut frame);
            }
        }
        frame
    }

    fn arp(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1 + dice.below(3) as u8];
        for _ in 0..2 {
            packet.extend(mac(dice.below(5) as u8).0);
            packet.extend(address(dice.below(5) as u8).octets());
        }
        let to = mac([self.target, 0xff][dice.index(2)]);
        ethernet(to, mac(HOST), 0x0806, &packet)
    }

    /// Neighbour discovery, for whatever addresses and stations.
    fn discovery(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let kinds: Vec<u8> = (kind::ROUTER_SOLICITATION..=kind::REDIRECT).collect();
        let mut message = vec![kinds[dice.index(kinds.len())], 0, 0, 0];
        message.extend((dice.odd_word() as u32).to_be_bytes());
        for _ in 0..dice.below(3) {
            message.extend(address6(dice.below(5) as u8).octets());
        }
        for _ in 0..dice.below(3) {
            message.extend([dice.below(6) as u8, dice.below(5) as u8]);
            message.extend(mac(dice.below(5) as u8).0);
        }
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, HOST.into());
        let src = [address6(HOST), link_local][dice.index(2)];
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let dst = [address6(self.target), all_nodes][dice.index(2)];
        let mut packet = ipv6(src, dst, protocol::ICMPV6, &message);
        if !dice.one_in(8) {
            packet[7] = 255;
        }
        self.sealed(IPV6, &packet)
    }

    fn datagram(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let kind = [protocol::TCP, protocol::ICMP, protocol::UDP, 47][dice.index(4)];
        let far = Ipv4Addr::from_bits(dice.word() as u32 | 1 << 31);
        let src = [address(HOST), far][dice.index(2)];
        let payload = noise(dice, 200);
        let mut datagram = ipv4(src, address(self.target), kind, &payload);
        for _ in 0..dice.below(3) {
            // Version and length, total length, fragment, time to live.
            let at = [0, 2, 3, 6, 7, 8][dice.index(6)];
            datagram[at] = dice.below(256) as u8;
        }
        self.sealed(IPV4, &datagram)
    }

    fn packet(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        // Those that lead to more headers among them.
        let kinds = [0, 6, 17, 43, 44, 47, 50, 58, 59, 60];
        let next_header = kinds[dice.index(kinds.len())];
        let far = Ipv6Addr::from_bits(u128::from(dice.word()) | 1 << 127);
        let src = [address6(HOST), far][dice.index(2)];
        let mut payload = noise(dice, 200);
        if payload.len() > 1 && dice.one_in(2) {
            payload[0] = kinds[dice.index(kinds.len())];
            payload[1] = dice.below(4) as u8;
        }
        let mut packet = ipv6(src, address6(self.target), next_header, &payload);
        for _ in 0..dice.below(3) {
            // Version and class, length, hop limit.
            let at = [0, 1, 4, 5, 7][dice.index(5)];
            packet[at] = dice.below(256) as u8;
        }
        self.sealed(IPV6, &packet)
    }

    fn icmp(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let kind = match self.family {
            Family::V4 => [0, 3, 3, 3, 4, 5, 8, 11, 12, 13][dice.index(10)],
            Family::V6 => [1, 1, 2, 2, 3, 4, 128, 129, 130, 143][dice.index(10)],
        };
        let mut message = vec![kind, dice.below(18) as u8, 0, 0];
        message.extend((dice.odd_word() as u32).to_be_bytes());
        match self.templates.get(dice.index(self.templates.len())) {
            // What the stack has sent comes back.
            Some(frame) if dice.below(4) != 0 && frame.len() > IP => {
                let len = dice.index(frame.len() - IP + 1);
                message.extend(&frame[IP..IP + len]);
            }
            _ => message.extend(noise(dice, 100)),
        }
        let (host, target) = (HOST, self.target);
        match self.family {
            Family::V4 => {
                let ends = (address(host), address(target));
                self.sealed(IPV4, &ipv4(ends.0, ends.1, protocol::ICMP, &message))
            }
            Family::V6 => {
                let ends = (address6(host), address6(target));
                self.sealed(IPV6, &ipv6(ends.0, ends.1, protocol::ICMPV6, &message))
            }
        }
    }

    /// A frame to the stack whose checksums are right.
    fn sealed(&self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = ethernet(mac(self.target), mac(HOST), ethertype, packet);
        fix_checksums(&mut frame);
        frame
    }

    fn syn(&mut self, dice: &mut Dice<'_>) -> TcpFrame {
        let mut segment = self.bare(1000 + dice.below(16) as u16, PORT);
        segment.flags = Flags::SYN;
        segment.seq = dice.odd_word() as u32;
        segment.window = dice.odd_word() as u16;
        segment.options = any_options(dice, segment.seq);
        if dice.one_in(8) {
            segment.payload = noise(dice, 100);
        }
        segment
    }

    fn bare(&self, from: u16, to: u16) -> TcpFrame {
        TcpFrame {
            dst_mac: mac(self.target),
            src_mac: mac(HOST),
            src: (self.family.address(HOST), from),
            dst: (self.family.address(self.target), to),
            seq: 0,
            ack: 0,
            flags: Flags::ACK,
            window: 0xffff,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A segment of a flow that exists, near to what the stack expects.
    pub fn segment(&mut self, dice: &mut Dice<'_>) -> TcpFrame {
        let Some(last) = self.flows.get(dice.index(self.flows.len())).cloned() else {
            return self.syn(dice);
        };
        let mut segment = self.bare(last.dst.1, last.src.1);
        segment.seq = last.ack.wrapping_add(near(dice));
        let syn = u32::from(last.has(Flags::SYN));
        let end = last.seq.wrapping_add(last.payload.len() as u32 + syn);
        segment.ack = end.wrapping_add(near(dice));
        segment.window = match dice.below(4) {
            0 => dice.below(20) as u16,
            1 => dice.odd_word() as u16,
            _ => 0xffff,
        };
        segment.flags = match dice.below(12) {
            0 => Flags(dice.below(256) as u8),
            1 => Flags::FIN | Flags::ACK,
            2 => [Flags::RST, Flags::SYN, Flags::RST | Flags::ACK][dice.index(3)],
            _ => Flags::ACK,
        };
        if !dice.one_in(3) {
            let len = [1, 100, 1460, 3000][dice.index(4)];
            segment.payload = noise(dice, len);
        }
        match dice.below(4) {
            0 => segment.options = any_options(dice, end),
            1 => {
                let blocks: Vec<(u32, u32)> = (0..1 + dice.below(4))
                    .map(|_| (end.wrapping_add(near(dice)), end.wrapping_add(near(dice))))
                    .collect();
                segment.options = options(None, None, &blocks);
            }
            _ => {}
        }
        // Timestamps go back as they came, or the segment would be refused at once.
        if segment.options.len() <= 28 && dice.below(8) != 0 {
            segment.options.extend(echo_timestamps(&last.options, dice));
        }
        segment
    }

    /// A frame that was on the wire, changed, and turned around if it came from the stack.
    fn mutant(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let Some(mut frame) = self
            .templates
            .get(dice.index(self.templates.len()))
            .cloned()
        else {
            return noise(dice, 100);
        };
        if let Some(mut segment) = TcpFrame::parse(&frame) {
            if segment.dst.0 == self.family.address(HOST) {
                std::mem::swap(&mut segment.src, &mut segment.dst);
                std::mem::swap(&mut segment.seq, &mut segment.ack);
            } else {
                // Somebody else's connection: it must not be ours to end.
                segment.src.0 = self.family.address(HOST);
                segment.dst.1 = PORT;
            }
            (segment.src_mac, segment.dst_mac) = (mac(HOST), mac(self.target));
            frame = segment.bytes();
        }
        for _ in 0..1 + dice.below(3) {
            break_something(&mut frame, dice);
        }
        if !dice.one_in(4) {
            fix_checksums(&mut frame);
        }
        if is_foreign(&frame) {
            return noise(dice, 100);
        }
        frame
    }
}

/// Whether a frame claims to come from a host that has honest connections.
fn is_foreign(frame: &[u8]) -> bool {
    let src = match frame.get(12..14) {
        Some([8, 0]) => frame.get(IP + 12..IP + 16),
        Some([0x86, 0xdd]) => frame.get(IP + 8..IP + 24),
        _ => None,
    };
    let is = |host| {
        Some(&address(host).octets()[..]) == src || Some(&address6(host).octets()[..]) == src
    };
    (0..=u8::MAX).any(|host| host != HOST && is(host))
}

impl Server {
    /// Listens on [`PORT`].
    pub fn start(bed: &mut Bed, process: u32) -> Server {
        let mut app = bed.app(process);
        let listener = app.socket().unwrap();
        assert!(bed.listen(listener, PORT, 20));
        Server {
            app,
            listener,
            sockets: Vec::new(),
        }
    }

    /// Accepts, reads, writes and closes as it falls.
    pub fn go_on(&mut self, dice: &mut Dice<'_>) {
        if let Some(socket) = self.app.accept(self.listener) {
            self.sockets.push(socket);
        }
        if self.sockets.is_empty() {
            return;
        }
        let i = dice.index(self.sockets.len());
        let socket = self.sockets[i];
        match dice.below(8) {
            0 => {
                self.app.close(socket);
                self.sockets.swap_remove(i);
            }
            1 => {
                self.app.reset(socket);
                self.sockets.swap_remove(i);
            }
            2 => self.app.shutdown_write(socket),
            3 | 4 => {
                self.app.recv(socket, 1 << 16);
            }
            _ => {
                self.app.send(socket, &[0x5a; 5000]);
            }
        }
    }
}

/// Up to `most` bytes of anything.
pub fn noise(dice: &mut Dice<'_>, most: u64) -> Vec<u8> {
    let mut bytes = vec![0; dice.below(most + 1) as usize];
    // A fuzzer's bytes are too few to fill a frame with.
    let random = bytes.len().min(64);
    dice.fill(&mut bytes[..random]);
    bytes
}

/// Mostly small steps, forward and back.
fn near(dice: &mut Dice<'_>) -> u32 {
    match dice.below(10) {
        0 => dice.odd_word() as u32,
        1 => (dice.below(100_000) as u32).wrapping_sub(50_000),
        2 => 1u32.wrapping_neg(),
        3 => 1,
        4 => 1460,
        _ => 0,
    }
}

/// Options of every kind, with any length, right or wrong.
pub fn any_options(dice: &mut Dice<'_>, around: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < 40 && !dice.one_in(5) {
        match dice.below(9) {
            0 => bytes.push(dice.below(2) as u8),
            1 => bytes.extend([2, 4, dice.below(256) as u8, dice.below(256) as u8]),
            2 => bytes.extend([2, 4, 0, dice.below(90) as u8]),
            3 => bytes.extend([3, 3, dice.below(256) as u8]),
            4 => bytes.extend([4, 2]),
            5 => {
                bytes.extend([8, 10]);
                bytes.extend((dice.odd_word() as u32).to_be_bytes());
                bytes.extend((dice.odd_word() as u32).to_be_bytes());
            }
            6 => {
                bytes.extend([5, 10]);
                bytes.extend(around.wrapping_add(near(dice)).to_be_bytes());
                bytes.extend(around.wrapping_add(near(dice)).to_be_bytes());
            }
            // A length that is 0, 1, too short, too long, or reaches past the header.
            7 => bytes.extend([2 + dice.below(7) as u8, dice.below(4) as u8]),
            _ => bytes.extend([dice.below(256) as u8, dice.below(256) as u8]),
        }
    }
    bytes.truncate(40);
    bytes
}

fn echo_timestamps(seen: &[u8], dice: &mut Dice<'_>) -> Vec<u8> {
    let Some(at) = seen.windows(2).position(|w| w == [8, 10]) else {
        return Vec::new();
    };
    let Some(value) = seen.get(at + 2..at + 6) else {
        return Vec::new();
    };
    let echo = seen.get(at + 6..at + 10).unwrap_or(&[0; 4]);
    let mut bytes = vec![8, 10];
    let own = u32::from_be_bytes([echo[0], echo[1], echo[2], echo[3]]);
    bytes.extend(own.wrapping_add(dice.below(3) as u32).to_be_bytes());
    bytes.extend(value);
    bytes
}

/// Changes a byte, cuts, or lengthens.
fn break_something(frame: &mut Vec<u8>, dice: &mut Dice<'_>) {
    if frame.is_empty() {
        return;
    }
    match dice.below(8) {
        0 => frame.truncate(dice.index(frame.len())),
        1 => frame.extend(noise(dice, 40)),
        2 => {
            let at = dice.index(frame.len());
            frame[at] ^= 1 << dice.below(8);
        }
        // Where the headers are.
        _ => {
            let at = dice.index(frame.len().min(90));
            frame[at] = dice.odd_word() as u8;
        }
    }
}
