//! The network and the peer, as far as a script plays them.

use super::{Addresses, Host, PORT, seconds};
use crate::check;
use crate::flow::{Flow, Strictness};
use crate::script::{Body, Ecn, Icmp, Packet};
use crate::wire::{Datagram, Message, Payload, Segment};

/// The peer's port of a script's first connection to a listener.
const PEER_PORT: u16 = 40_000;

pub struct Network {
    addresses: Addresses,
    strict: Strictness,
    flows: Vec<Flow>,
    /// The connection at hand, which packets without ports belong to.
    current: usize,
}

/// Types and codes of ICMP by packetdrill's names: name of the type, of the code, then their numbers.
type Names = &'static [(&'static str, &'static str, u8, u8)];

const ICMP4: Names = &[
    ("unreachable", "net_unreachable", 3, 0),
    ("unreachable", "host_unreachable", 3, 1),
    ("unreachable", "protocol_unreachable", 3, 2),
    ("unreachable", "port_unreachable", 3, 3),
    ("unreachable", "frag_needed", 3, 4),
    ("unreachable", "source_route_failed", 3, 5),
    ("unreachable", "admin_prohibited", 3, 13),
    ("time_exceeded", "ttl_exceeded", 11, 0),
    ("source_quench", "", 4, 0),
    ("echo_request", "", 8, 0),
    ("echo_reply", "", 0, 0),
];

const ICMP6: Names = &[
    ("unreachable", "no_route", 1, 0),
    ("unreachable", "admin_prohibited", 1, 1),
    ("unreachable", "address_unreachable", 1, 3),
    ("unreachable", "port_unreachable", 1, 4),
    ("packet_too_big", "", 2, 0),
    ("time_exceeded", "exceeded_hop_limit", 3, 0),
    ("echo_request", "", 128, 0),
    ("echo_reply", "", 129, 0),
];

impl Network {
    pub fn new(addresses: Addresses, strict: Strictness) -> Network {
        Network {
            addresses,
            strict,
            flows: vec![Flow::new(Some(PORT), PEER_PORT)],
            current: 0,
        }
    }

    pub fn strict(&self) -> Strictness {
        self.strict
    }

    /// A socket of the stack's connects: the connection at hand is that one, once.
    pub fn connects(&mut self) {
        let current = &self.flows[self.current];
        if current.remote != PORT || current.local.is_some() {
            self.flows.push(Flow::new(None, PORT));
            self.current = self.flows.len() - 1;
        }
    }

    /// The connection between two ports; it becomes the one at hand.
    fn select(&mut self, local: u16, remote: u16) {
        let is_it =
            |flow: &Flow| flow.remote == remote && flow.local.is_none_or(|port| port == local);
        self.current = match self.flows.iter().position(is_it) {
            Some(found) => found,
            None => {
                self.flows.push(Flow::new(Some(local), remote));
                self.flows.len() - 1
            }
        };
    }

    pub fn inject(&mut self, host: &mut dyn Host, packet: &Packet) -> Result<(), String> {
        if let Some((remote, local)) = packet.ports {
            self.select(local, remote);
        }
        let flow = &mut self.flows[self.current];
        let payload = match &packet.body {
            Body::Tcp(tcp) => Payload::Tcp(flow.inject(tcp)?),
            Body::Icmp(icmp) => Payload::Icmp(message(self.addresses, flow, icmp)?),
        };
        let ecn = match packet.ecn {
            Some(Ecn::Is(bits)) => bits,
            _ => 0,
        };
        let datagram = Datagram {
            src: self.addresses.remote,
            dst: self.addresses.local,
            tos: ecn,
            ttl: packet.ttl.unwrap_or(64),
            payload,
        };
        host.inject(&datagram.bytes())
    }

    /// Waits for a packet, which must be as expected and come between two times. Returns when it did.
    pub fn expect(
        &mut self,
        host: &mut dyn Host,
        expected: &Packet,
        within: (u64, u64),
        record: bool,
    ) -> Result<u64, String> {
        let deadline = within.1;
        loop {
            let Some((time, bytes)) = host.next_datagram(deadline) else {
                let what = format!(
                    "expected {expected}\n     nothing came until {}",
                    seconds(deadline)
                );
                if record {
                    println!("{what}");
                    return Ok(host.now());
                }
                return Err(what);
            };
            let Some(datagram) = Datagram::parse(&bytes)? else {
                continue;
            };
            let verdict = self.compare(expected, &datagram);
            let (got, verdict) = verdict;
            let shown = format!("{} > {got}", seconds(time));
            let verdict = verdict.and_then(|()| {
                let early = within.0.saturating_sub(time);
                let late = time.saturating_sub(within.1);
                match early + late {
                    0 => Ok(()),
                    wrong => Err(format!(
                        "it is {} s too {}",
                        seconds(wrong),
                        if early > 0 { "early" } else { "late" }
                    )),
                }
            });
            if record {
                let remark = verdict.err().map(|what| format!("  // {what}"));
                println!("{shown}{}", remark.unwrap_or_default());
                return Ok(time);
            }
            return match verdict {
                Ok(()) => Ok(time),
                Err(what) => Err(format!(
                    "{what}\n     expected {expected}, between {} and {}\n     got      {shown}",
                    seconds(within.0),
                    seconds(within.1)
                )),
            };
        }
    }

    fn compare(&mut self, expected: &Packet, datagram: &Datagram) -> (Packet, Result<(), String>) {
        let Payload::Tcp(segment) = &datagram.payload else {
            let got = icmp_packet(datagram);
            let verdict = match check::difference(expected, &got, true) {
                None => Ok(()),
                Some(what) => Err(format!("{what} is different")),
            };
            return (got, verdict);
        };
        if let Some((local, remote)) = expected.ports {
            self.select(local, remote);
        }
        let flow = &mut self.flows[self.current];
        let is_it = flow.remote == segment.dst_port
            && flow.local.is_none_or(|port| port == segment.src_port);
        let got = flow.show(datagram, Some(expected));
        let verdict = match is_it {
            true => flow.verify(expected, &got, datagram, self.strict),
            false => Err("it belongs to another connection".into()),
        };
        (got, verdict)
    }

    /// What has been sent by now and no line speaks of.
    pub fn end(&mut self, host: &mut dyn Host, now: u64, record: bool) -> Result<(), String> {
        while let Some((time, bytes)) = host.next_datagram(now) {
            let Some(datagram) = Datagram::parse(&bytes)? else {
                continue;
            };
            let got = match &datagram.payload {
                Payload::Tcp(_) => self.flows[self.current].show(&datagram, None),
                Payload::Icmp(_) => icmp_packet(&datagram),
            };
            let what = format!("{} > {got}  // after the last line", seconds(time));
            if !record {
                return Err(what);
            }
            println!("{what}");
        }
        Ok(())
    }
}

fn names(ipv6: bool) -> Names {
    if ipv6 { ICMP6 } else { ICMP4 }
}

/// An ICMP message from the network: an error that quotes a segment of the stack's, or an echo.
fn message(addresses: Addresses, flow: &Flow, icmp: &Icmp) -> Result<Message, String> {
    let code = icmp.code.as_deref();
    let known = names(addresses.local.is_ipv6());
    let found = known
        .iter()
        .find(|(k, c, ..)| *k == icmp.kind && (code == Some(*c) || code.is_none()));
    let &(.., kind, code) = found.ok_or_else(|| format!("{icmp} is not known"))?;
    if icmp.kind.starts_with("echo") {
        return Ok(Message {
            kind,
            code,
            rest: u32::from(icmp.id) << 16,
            data: vec![0; 32],
        });
    }
    let (seq, len) = icmp.quoted.ok_or("an ICMP error quotes a segment")?;
    let segment = Segment {
        src_port: flow.local.unwrap_or(PORT),
        dst_port: flow.remote,
        seq: flow.wire_seq(seq),
        flags: crate::wire::flag::ACK,
        payload: vec![0; len as usize],
        ..Segment::default()
    };
    let quoted = Datagram {
        src: addresses.local,
        dst: addresses.remote,
        tos: 0,
        ttl: 63,
        payload: Payload::Tcp(segment),
    };
    let header = if addresses.local.is_ipv6() { 40 } else { 20 };
    Ok(Message {
        kind,
        code,
        rest: icmp.mtu.unwrap_or(0),
        // The TCP header without options, as most routers quote.
        data: quoted.bytes()[..header + 20].to_vec(),
    })
}

fn icmp_packet(datagram: &Datagram) -> Packet {
    let mut icmp = Icmp {
        kind: String::new(),
        code: None,
        mtu: None,
        id: 0,
        quoted: None,
    };
    if let Payload::Icmp(message) = &datagram.payload {
        let known = names(datagram.src.is_ipv6());
        let found = known
            .iter()
            .find(|(.., kind, code)| (*kind, *code) == (message.kind, message.code));
        match found {
            Some((kind, code, ..)) => {
                icmp.kind = (*kind).to_owned();
                icmp.code = Some((*code).to_owned()).filter(|code| !code.is_empty());
            }
            None => icmp.kind = format!("type {} code {}", message.kind, message.code),
        }
        if icmp.kind.starts_with("echo") {
            icmp.id = (message.rest >> 16) as u16;
        }
    }
    Packet {
        ecn: Some(Ecn::Is(datagram.tos & 3)),
        ttl: Some(datagram.ttl),
        ports: None,
        body: Body::Icmp(icmp),
    }
}
