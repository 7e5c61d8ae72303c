//! The worker's part of IPv6: packets in, neighbour discovery, and what is due.

use super::Stack;
use super::datagram::Datagram;
use crate::net::ipv6::icmp::{self, Complaint};
use crate::net::ipv6::{Destination6, Host};
use crate::shared::{Message, lock};
use crate::wire::ethernet::ethertype;
use crate::wire::extension::{self, Refusal, unknown_protocol};
use crate::wire::icmpv6::{self, kind};
use crate::wire::ndp::NdpMessage;
use crate::wire::{DropReason, IcmpMessage, Ipv6Packet, LinkDestination, protocol};
use psio::RxMeta;

/// A worker's IPv6. Connections wait for their neighbours.
pub type Host6 = Host<(u32, u32)>;

impl Stack {
    /// Takes a packet from the device, of which `frame` is all.
    pub fn on_ipv6_frame(
        &mut self,
        frame: &[u8],
        payload: &[u8],
        link: LinkDestination,
        (meta, before): (RxMeta, usize),
    ) -> Result<(), DropReason> {
        let host = self.ipv6.as_ref().ok_or(DropReason::Ipv6Unsupported)?;
        let packet = Ipv6Packet::parse(payload)?;
        let to = host.accept(&packet, link)?;
        if packet.next_header == protocol::TCP
            && let Some(owner) =
                self.other_owner(packet.dst.into(), packet.src.into(), packet.payload, before)
        {
            self.redirect(owner, Message::Frame(frame.to_vec(), meta, before + 1));
            return Ok(());
        }
        self.on_ipv6_packet(&packet, to, meta, false)
    }

    /// Takes a packet for us.
    pub fn on_ipv6_packet(
        &mut self,
        packet: &Ipv6Packet<'_>,
        to: Destination6,
        meta: RxMeta,
        looped: bool,
    ) -> Result<(), DropReason> {
        let upper = match extension::walk(packet) {
            Ok(upper) => upper,
            Err(refusal) => return Err(self.complain(packet, to, refusal, looped)),
        };
        match upper.protocol {
            protocol::TCP if to != Destination6::Ours => Err(DropReason::TcpToBroadcast),
            protocol::TCP if packet.src.is_unspecified() => Err(DropReason::Ipv6BadSource),
            protocol::TCP => {
                self.on_tcp(&Datagram::v6(packet, &upper), meta, looped);
                Ok(())
            }
            protocol::ICMPV6 => {
                let message = icmpv6::parse(packet.src, packet.dst, upper.payload)?;
                self.on_icmpv6(packet, to, &message, upper.fragmented, looped)
            }
            protocol::UDP => {
                self.answer(packet, to, Complaint::Port, looped);
                Err(DropReason::UdpNoSocket)
            }
            _ => Err(self.complain(packet, to, unknown_protocol(upper.named_at), looped)),
        }
    }

    /// Tells the sender of a refused packet, if it is to know.
    fn complain(
        &mut self,
        packet: &Ipv6Packet<'_>,
        to: Destination6,
        refusal: Refusal,
        looped: bool,
    ) -> DropReason {
        if let Some(problem) = refusal.problem {
            self.answer(packet, to, Complaint::Parameter(problem), looped);
        }
        refusal.reason
    }

    fn answer(
        &mut self,
        packet: &Ipv6Packet<'_>,
        to: Destination6,
        complaint: Complaint,
        looped: bool,
    ) {
        let now = self.now.as_micros();
        let Some(host) = &self.ipv6 else {
            return;
        };
        let reply = self.icmpv6.complain(now, packet, to, complaint, host);
        self.send_icmpv6(reply, looped);
    }

    fn send_icmpv6(&mut self, reply: Option<icmp::Reply>, looped: bool) {
        match reply {
            Some((_, bytes)) if looped => self.loop_back(&bytes),
            Some((to, bytes)) => self.send_datagram(to.into(), &bytes),
            None => {}
        }
    }

    fn on_icmpv6(
        &mut self,
        packet: &Ipv6Packet<'_>,
        to: Destination6,
        message: &IcmpMessage<'_>,
        fragmented: bool,
        looped: bool,
    ) -> Result<(), DropReason> {
        let now = self.now.as_micros();
        let host = self.ipv6.as_mut().ok_or(DropReason::Ipv6Unsupported)?;
        match message.kind {
            kind::ECHO_REQUEST if message.code == 0 => {
                let reply = self.icmpv6.echo(now, packet, to, message, host);
                self.send_icmpv6(reply, looped);
                Ok(())
            }
            kind::ECHO_REPLY => Err(DropReason::IcmpEchoReply),
            kind::LISTENER_QUERY if packet.src.is_unicast_link_local() && packet.hop_limit == 1 => {
                host.on_listener_query();
                Ok(())
            }
            kind::ROUTER_ADVERTISEMENT..=kind::REDIRECT if fragmented => {
                Err(DropReason::NdpFragmented)
            }
            kind::ROUTER_ADVERTISEMENT..=kind::REDIRECT => {
                let ends = (packet.src, packet.dst);
                let said = NdpMessage::parse(ends, packet.hop_limit, message)?;
                self.on_ndp(packet, &said)
            }
            kind if kind < kind::INFORMATIONAL => {
                let error = icmp::read_error(packet.src, message, host)?;
                self.on_icmp_error(&error);
                Ok(())
            }
            _ => Err(DropReason::IcmpUnknownType),
        }
    }

    fn on_ndp(&mut self, packet: &Ipv6Packet<'_>, said: &NdpMessage) -> Result<(), DropReason> {
        let now = self.now.as_micros();
        let host = self.ipv6.as_mut().ok_or(DropReason::Ipv6Unsupported)?;
        let action = host.on_ndp(now, packet.src, said)?;
        if let Some(address) = action.conflict
            && self.conflict_log.allow(now)
        {
            tracing::warn!(%address, "another station uses this stack's address");
        }
        if let Some((packet, station)) = action.reply {
            self.send_frame(station, ethertype::IPV6, &packet);
        }
        for token in action.released {
            self.release_held(token);
        }
        self.publish_addresses();
        self.tell_others(|| Message::Ndp(packet.packet().to_vec()));
        Ok(())
    }

    /// Learns from a neighbour discovery message that another worker has answered.
    pub fn overhear_ndp(&mut self, packet: &[u8]) {
        let now = self.now.as_micros();
        let Some(host) = self.ipv6.as_mut() else {
            return;
        };
        // It has passed every check there.
        let action = Ipv6Packet::parse(packet).and_then(|packet| {
            let (src, dst) = (packet.src, packet.dst);
            let message = icmpv6::parse(src, dst, packet.payload)?;
            let said = NdpMessage::parse((src, dst), packet.hop_limit, &message)?;
            host.on_ndp(now, src, &said)
        });
        for token in action.map_or(Vec::new(), |action| action.released) {
            self.release_held(token);
        }
        self.publish_addresses();
    }

    /// Does what is due: probes, reports, solicitations, and neighbours that do not answer.
    pub fn run_ipv6(&mut self) {
        let now = self.now.as_micros();
        while let Some((packet, station)) =
            self.ipv6.as_mut().and_then(|host| host.poll_transmit(now))
        {
            self.send_frame(station, ethertype::IPV6, &packet);
        }
        while let Some(token) = self.ipv6.as_mut().and_then(|host| host.poll_given_up()) {
            self.give_up_held(token);
        }
        self.publish_addresses();
        self.open_awaiting();
    }

    /// Lets the control thread know which addresses can be bound to.
    pub fn publish_addresses(&mut self) {
        let Some(host) = &self.ipv6 else {
            return;
        };
        let version = host.addresses.version();
        if self.index == 0 && self.published_addresses != version {
            self.published_addresses = version;
            *lock(&self.shared.addresses6) = host.addresses.bindable().collect();
        }
    }
}
