//! From frame to connection: each step accepts, or drops with a counted reason.

use super::Stack;
use super::connection::{Flow, Hop, Place};
use super::datagram::Datagram;
use super::frame;
use super::streams::RecvChain;
use crate::net::{Destination, icmp};
use crate::shared::Message;
use crate::stats::Counter;
use crate::tcp::{self, Codepoint, NoRoom, RecvStream, Segment as TcpSegment};
use crate::wire::arp::ArpPacket;
use crate::wire::ethernet::{EthernetFrame, ethertype};
use crate::wire::{DropReason, Ipv4Packet, checksum, protocol};
use context::Segment;
use psio::{RxChecksum, RxMeta};

/// The receive stream of a connection, as the protocol core sees it.
pub struct Sink<'a> {
    /// The segment.
    pub segment: &'a Segment,
    /// Where chunks come from.
    pub pool: &'a mut super::chunks::ChunkPool,
    /// The stream.
    pub chain: &'a mut RecvChain,
    /// The record's number, if the connection has one.
    pub socket: Option<u32>,
}

impl RecvStream for Sink<'_> {
    fn store(&mut self, offset: u64, data: &[u8]) -> Result<(), NoRoom> {
        let record = self.socket.and_then(|socket| self.segment.socket(socket));
        self.chain
            .store(self.segment, self.pool, record, offset, data)
            .then_some(())
            .ok_or(NoRoom)
    }
}

impl Stack {
    /// Takes a frame from the device, or from another worker; so many have had it `before`. Who hands it
    /// in counts it.
    pub fn on_frame(&mut self, frame: &[u8], meta: RxMeta, before: usize) {
        if let Some(packet) = self.plain.as_ref().and_then(|plain| plain.read(frame)) {
            let datagram = Datagram::v4(&packet);
            if !self.passes_on(frame, meta, before, &datagram) {
                self.take_segment(&datagram, meta, false);
            }
        } else if let Err(reason) = self.try_frame(frame, meta, before) {
            self.counters().drop_frame(reason);
        }
    }

    fn try_frame(&mut self, bytes: &[u8], meta: RxMeta, before: usize) -> Result<(), DropReason> {
        let frame = EthernetFrame::parse(bytes)?;
        let link = frame.accept(self.mac)?;
        match frame.ethertype {
            ethertype::IPV4 => {
                let packet = Ipv4Packet::parse(frame.payload)?;
                let to = self.addresses.accept(&packet, link)?;
                if packet.protocol == protocol::TCP
                    && self.passes_on(bytes, meta, before, &Datagram::v4(&packet))
                {
                    return Ok(());
                }
                self.on_packet(&packet, to, meta, false)
            }
            ethertype::ARP => self.on_arp(&ArpPacket::parse(frame.payload)?),
            ethertype::IPV6 => self.on_ipv6_frame(bytes, frame.payload, link, (meta, before)),
            _ => Err(DropReason::EthernetUnknownType),
        }
    }

    /// Hands a frame to the worker that it is for, if that is another one.
    #[inline]
    fn passes_on(&self, frame: &[u8], meta: RxMeta, before: usize, packet: &Datagram<'_>) -> bool {
        self.shared.inboxes.len() > 1 && self.hands_over(frame, meta, before, packet)
    }

    #[inline(never)]
    fn hands_over(&self, frame: &[u8], meta: RxMeta, before: usize, packet: &Datagram<'_>) -> bool {
        let owner = self.other_owner(packet.dst, packet.src, packet.payload, before);
        if let Some(owner) = owner {
            self.redirect(owner, Message::Frame(frame.to_vec(), meta, before + 1));
        }
        owner.is_some()
    }

    fn on_arp(&mut self, packet: &ArpPacket) -> Result<(), DropReason> {
        let action = self.neighbors.on_arp(self.now.as_micros(), packet)?;
        if action.conflict {
            self.count(Counter::address_conflicts);
        }
        if action.conflict && self.conflict_log.allow(self.now.as_micros()) {
            tracing::warn!(
                address = %packet.sender_ip,
                station = %packet.sender_mac,
                "another station uses this stack's address"
            );
        }
        if let Some(reply) = action.reply {
            self.send_arp(&reply, packet.sender_mac);
        }
        for token in action.released {
            self.release_held(token);
        }
        self.tell_others(|| Message::Arp(*packet));
        Ok(())
    }

    /// Learns from an ARP packet that another worker has answered.
    pub fn overhear_arp(&mut self, packet: &ArpPacket) {
        if let Ok(action) = self.neighbors.on_arp(self.now.as_micros(), packet) {
            for token in action.released {
                self.release_held(token);
            }
        }
    }

    /// Takes a datagram for us.
    pub fn on_packet(
        &mut self,
        packet: &Ipv4Packet<'_>,
        to: Destination,
        meta: RxMeta,
        looped: bool,
    ) -> Result<(), DropReason> {
        if packet.protocol == protocol::TCP && to == Destination::Ours {
            self.on_tcp(&Datagram::v4(packet), meta, looped);
            return Ok(());
        }
        self.on_other_packet(packet, to, looped)
    }

    fn on_other_packet(
        &mut self,
        packet: &Ipv4Packet<'_>,
        to: Destination,
        looped: bool,
    ) -> Result<(), DropReason> {
        match packet.protocol {
            protocol::TCP => Err(DropReason::TcpToBroadcast),
            protocol::ICMP => self.on_icmp(packet, to, looped),
            other => {
                let (what, reason) = match other {
                    protocol::UDP => (icmp::Unreachable::Port, DropReason::UdpNoSocket),
                    _ => (icmp::Unreachable::Protocol, DropReason::Ipv4UnknownProtocol),
                };
                let now = self.now.as_micros();
                let reply = self
                    .icmp_errors
                    .unreachable(now, packet, to, &self.addresses, what);
                if let Some(reply) = reply {
                    self.send_icmp(&reply);
                }
                Err(reason)
            }
        }
    }

    fn on_icmp(
        &mut self,
        packet: &Ipv4Packet<'_>,
        to: Destination,
        looped: bool,
    ) -> Result<(), DropReason> {
        match icmp::receive(packet, to, &self.addresses)? {
            icmp::IcmpInput::Echo(reply) if looped => {
                let mut datagram = vec![0; reply.len()];
                reply.emit(&mut datagram);
                self.loop_back(&datagram);
            }
            icmp::IcmpInput::Echo(reply) => self.send_icmp(&reply),
            icmp::IcmpInput::Error(error) => self.on_icmp_error(&error),
        }
        Ok(())
    }

    /// Tells a connection of an ICMP error about what it has sent. False if it is not this worker's.
    pub fn report_icmp_error(&mut self, error: &icmp::IcmpError) -> bool {
        let flow = Flow {
            local: error.src.into(),
            remote: error.dst.into(),
            local_port: error.src_port,
            remote_port: error.dst_port,
        };
        let place = self.connections.place(&flow);
        if let Some(place) = place.filter(|_| error.protocol == protocol::TCP) {
            let kind = icmp_kind(error.kind, frame::headers_len(&flow));
            self.on_tcp_error(&flow, place, kind, tcp::SeqNum(error.sequence));
        }
        place.is_some()
    }

    fn on_tcp_error(&mut self, flow: &Flow, place: Place, error: tcp::IcmpError, seq: tcp::SeqNum) {
        match place {
            Place::Connection(id) => {
                let now = self.now;
                if let Some(connection) = self.connections.get(id) {
                    let events = connection.tcb.on_icmp_error(now, error, seq);
                    if let Some((mss, until)) = connection.tcb.path_limit() {
                        self.path_mtus.learn(flow.remote, mss, until.as_micros());
                    }
                    self.after(id, events);
                }
            }
            Place::HalfOpen(id) if !matches!(error, tcp::IcmpError::PacketTooBig { .. }) => {
                self.on_half_open_error(id, seq);
            }
            _ => {}
        }
    }

    /// Takes a datagram with a TCP segment.
    pub fn on_tcp(&mut self, packet: &Datagram<'_>, meta: RxMeta, looped: bool) {
        self.take_segment(packet, meta, looped);
    }

    #[inline(always)]
    fn take_segment(&mut self, packet: &Datagram<'_>, meta: RxMeta, looped: bool) {
        let bytes = packet.payload;
        if meta.checksum == RxChecksum::Unknown
            && !packet.pseudo_header().plus(checksum::sum(bytes)).is_valid()
        {
            self.count(Counter::bad_checksum);
            return;
        }
        let mut segment = TcpSegment::default();
        if segment.read(bytes).is_err() {
            self.count(Counter::bad_segment);
            return;
        }
        segment.gso_size = meta.gso_size;
        segment.ecn = Codepoint::of(packet.tos);
        if segment.ecn == Codepoint::Ce {
            self.count(Counter::marked_in);
        }
        if !segment.payload.is_empty() {
            self.count(Counter::segments_in);
        }
        let flow = Flow {
            local: packet.dst,
            remote: packet.src,
            local_port: segment.dst_port,
            remote_port: segment.src_port,
        };
        match self.connections.place_of_frame(&flow) {
            Some(Place::Connection(id)) if !self.reopens(id, &segment) => {
                self.deliver(id, &segment);
            }
            place => self.on_stray_segment(place, flow, &segment, looped),
        }
    }

    /// Takes a segment that is for no connection with a control block.
    fn on_stray_segment(
        &mut self,
        place: Option<Place>,
        flow: Flow,
        segment: &TcpSegment<'_>,
        looped: bool,
    ) {
        let hop = if looped { Hop::Loopback } else { Hop::Unknown };
        let mut iss = None;
        match place {
            // A SYN takes its place.
            Some(Place::Connection(id)) => self.remove(id),
            Some(Place::HalfOpen(id)) => return self.on_half_open_segment(id, segment),
            Some(Place::TimeWait(id)) => {
                iss = self.on_time_wait_segment(id, segment);
                if iss.is_none() {
                    return;
                }
            }
            None => {}
        }
        let control = tcp::Flags::SYN | tcp::Flags::ACK | tcp::Flags::RST;
        match self.listener_for(&flow) {
            Some(listener) if segment.flags.0 & control.0 == tcp::Flags::SYN.0 => {
                self.on_syn(&listener, flow, segment, hop, iss);
            }
            Some(listener) => self.on_listener_segment(&listener, flow, segment, hop),
            None => self.refuse(&flow, segment, hop),
        }
    }

    /// Hands a segment to its connection.
    pub fn on_segment(&mut self, id: u32, segment: &TcpSegment<'_>) {
        self.deliver(id, segment);
    }

    #[inline(always)]
    fn deliver(&mut self, id: u32, segment: &TcpSegment<'_>) {
        let shared = &self.shared;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let mut sink = Sink {
            segment: &shared.segment,
            pool: &mut self.pool,
            chain: &mut connection.recv,
            socket: connection.socket,
        };
        connection.tcb.set_scarce(self.pressed);
        let put_off = connection.tcb.puts_off_ack();
        let taken = connection.tcb.on_segment(self.now, segment, &mut sink);
        if !put_off && connection.tcb.puts_off_ack() {
            self.put_off.push((id, connection.stamp));
        }
        let events = taken.unwrap_or(tcp::Events::SEND);
        if events.contains(tcp::Events::READABLE) {
            connection.recv.advance(connection.tcb.received());
        }
        // That data came or was acknowledged waits for the end of the burst: one look at the streams
        // does for all of its segments.
        let waits = events.is_routine();
        if waits {
            if connection.news.is_empty() {
                self.changed.push((id, connection.stamp));
            }
            connection.news |= events | tcp::Events::SEND;
        }
        let dropped = taken.map_or_else(Some, tcp::Events::payload_drop);
        if let Some(reason) = dropped {
            shared.counters[self.index].drop_segment(reason);
            if taken.is_ok() {
                self.prune(id);
            }
        }
        if !waits {
            self.after(id, events);
        }
    }

    /// The burst is over: what its segments changed has its effect.
    pub fn end_burst(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        for token in changed.drain(..) {
            if let Some(connection) = self.connections.get_stamped(token)
                && !connection.news.is_empty()
            {
                self.after(token.0, tcp::Events::NONE);
            }
        }
        self.changed = changed;
    }

    /// Whether a SYN may take the place of a connection in TIME-WAIT (RFC 9293 section 3.6.1).
    fn reopens(&mut self, id: u32, segment: &TcpSegment<'_>) -> bool {
        segment.flags.contains(tcp::Flags::SYN)
            && self
                .connections
                .get(id)
                .is_some_and(|connection| connection.tcb.gives_way_to(segment))
    }
}

/// What an ICMP error says, for a connection with `headers` bytes of IP and TCP headers.
fn icmp_kind(kind: icmp::ErrorKind, headers: u16) -> tcp::IcmpError {
    use icmp::ErrorKind as E;
    use tcp::{Error, IcmpError};
    match kind {
        E::NetworkUnreachable | E::SourceRouteFailed => IcmpError::Soft(Error::NetworkUnreachable),
        E::HostUnreachable | E::TimeExceeded | E::ParameterProblem => {
            IcmpError::Soft(Error::HostUnreachable)
        }
        E::ProtocolUnreachable => IcmpError::Hard(Error::ProtocolUnreachable),
        E::PortUnreachable => IcmpError::Hard(Error::Refused),
        E::Prohibited => IcmpError::Hard(Error::Prohibited),
        // An MTU is that of an IP datagram: less both headers.
        E::FragmentationNeeded { mtu } => IcmpError::PacketTooBig {
            mss: mtu.saturating_sub(headers),
        },
    }
}
