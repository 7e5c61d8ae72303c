//! What is sent: by which connection, how much in a turn, and to which station.

use super::Stack;
use super::connection::{Flow, Hop, Place};
use super::frame;
use crate::net::{Address, Lookup, icmp, ipv4::DEFAULT_TTL};
use crate::stats::Counter;
use crate::tcp::{self, Instant, Outgoing};
use crate::wire::DropReason;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::ethernet::{self, EthernetHeader, ethertype};
use crate::wire::ipv6::HEADER_LEN as MAX_IP_LEN;
use psio::{MacAddr, Queue, TxMeta};

/// Largest TCP payload of a super-segment: what an IP datagram holds beside the longest headers.
const MAX_SUPER: u16 = 65_535 - MAX_IP_LEN as u16 - 60;
/// Longest frame without payload.
const MOST_BARE: usize = ethernet::HEADER_LEN + MAX_IP_LEN + 60;
/// Super-segments of one connection in a row, before others have their turn.
const TURN: usize = 16;
/// How long a neighbour's address is used before it is looked up again (which also keeps the
/// neighbour table's entry fresh).
const HOP_AGE: u64 = 1_000_000;

/// What became of a connection's turn.
enum Turn {
    /// Nothing is left to send.
    Done,
    /// More is there, and others should have their turn.
    More,
    /// The device or the loopback is full.
    Full,
    /// The neighbour's address is not known; the connection waits for it.
    Held,
    /// There is no such connection any more.
    Gone,
}

impl Hop {
    /// Whether frames may go there at once.
    fn is_known(self, now: Instant) -> bool {
        match self {
            Hop::Loopback => true,
            Hop::Station(_, since) => now.since(since).as_micros() < HOP_AGE,
            Hop::Unknown => false,
        }
    }
}

impl Stack {
    /// Gives each connection that may have something to send its turn. Returns whether anything
    /// was sent.
    pub fn transmit(&mut self, queue: &mut dyn Queue) -> bool {
        let mut sent = self.send_control(queue);
        // The frames of this round may have told of another station.
        self.latest_way = None;
        let mut turns = std::mem::take(&mut self.turns);
        std::mem::swap(&mut turns, &mut self.dirty);
        let mut served = 0;
        for token in &turns {
            served += 1;
            match self.serve(*token, queue, &mut sent) {
                Turn::Done => self.settle(token.0),
                Turn::More => self.mark(token.0),
                Turn::Held | Turn::Gone => {}
                Turn::Full => {
                    self.mark(token.0);
                    break;
                }
            }
        }
        turns.drain(..served);
        if !turns.is_empty() {
            // The others go before those that were put into the list meanwhile.
            turns.append(&mut self.dirty);
            std::mem::swap(&mut turns, &mut self.dirty);
        }
        self.turns = turns;
        self.latest_way = None;
        if sent > 0 {
            self.counters().add(Counter::frames_out, sent);
        }
        sent > 0
    }

    fn serve(&mut self, token: (u32, u32), queue: &mut dyn Queue, sent: &mut u64) -> Turn {
        let now = self.now;
        let Some(connection) = self.connections.get_stamped(token) else {
            return Turn::Gone;
        };
        connection.queued = false;
        if connection.tcb.has_no_more(now) {
            return Turn::Done;
        }
        let hop = match connection.hop {
            hop if hop.is_known(now) => hop,
            _ => match self.next_hop(token.0) {
                Some(hop) => hop,
                None => return Turn::Held,
            },
        };
        match hop {
            Hop::Station(station, _) => self.serve_station(token.0, station, queue, sent),
            _ => self.serve_loopback(token.0, sent),
        }
    }

    /// A connection sends to a station, as much as it may in a turn.
    fn serve_station(
        &mut self,
        id: u32,
        station: MacAddr,
        queue: &mut dyn Queue,
        sent: &mut u64,
    ) -> Turn {
        let (now, cut_here) = (self.now, !self.capabilities.tx_segmentation);
        let offload = self.capabilities.tx_checksum;
        let Some(connection) = self.connections.get(id) else {
            return Turn::Gone;
        };
        let header = EthernetHeader {
            dst: station,
            src: self.mac,
            ethertype: frame::ethertype(connection.flow.remote),
        }
        .bytes();
        for _ in 0..TURN {
            // Room is looked for first: what the core has given out counts as sent.
            let (room, most) = match cut_here {
                true => (connection.tcb.largest_segment(), connection.tcb.mss()),
                false => (MAX_SUPER, MAX_SUPER),
            };
            let Some(room) = queue.reserve(MOST_BARE + usize::from(room)) else {
                return Turn::Full;
            };
            let Some(out) = &connection.tcb.next_outgoing(now, most.into()) else {
                return Turn::Done;
            };
            let (link, datagram) = room.split_at_mut(ethernet::HEADER_LEN);
            link.copy_from_slice(&header);
            let segment = &self.shared.segment;
            let (len, meta) = frame::build(connection, out, segment, datagram, offload);
            queue.commit(ethernet::HEADER_LEN + len, meta);
            *sent += 1;
            if connection.tcb.has_no_more(now) {
                return Turn::Done;
            }
        }
        Turn::More
    }

    /// A connection sends to this stack itself, as much as it may in a turn.
    fn serve_loopback(&mut self, id: u32, sent: &mut u64) -> Turn {
        let Some(connection) = self.connections.get(id) else {
            return Turn::Gone;
        };
        for _ in 0..TURN {
            if self.looped.is_full() {
                return Turn::Full;
            }
            let most = MAX_SUPER.max(connection.tcb.mss());
            let Some(out) = connection.tcb.poll_transmit(self.now, most.into()) else {
                return Turn::Done;
            };
            let len = frame::datagram_len(&connection.flow, &out);
            let is_super = out.payload_len() > usize::from(out.mss);
            let gso_size = if is_super { out.mss } else { 0 };
            self.looped.push(len, gso_size, |room| {
                frame::build(connection, &out, &self.shared.segment, room, true);
            });
            *sent += 1;
            if connection.tcb.has_no_more(self.now) {
                return Turn::Done;
            }
        }
        Turn::More
    }

    /// Finds out where a connection's frames go; `None` while that takes time.
    fn next_hop(&mut self, id: u32) -> Option<Hop> {
        let now = self.now;
        let connection = self.connections.get(id)?;
        let remote = connection.flow.remote;
        let token = (id, connection.stamp);
        if self.is_local(remote) {
            self.connections.get(id)?.hop = Hop::Loopback;
            return Some(Hop::Loopback);
        }
        let Some((neighbor, station)) = self.way_to(remote) else {
            self.counters().drop_frame(DropReason::NoRoute);
            self.unreachable(id, tcp::Error::NetworkUnreachable);
            return None;
        };
        match station {
            Lookup::Resolved(station) => {
                let connection = self.connections.get(id)?;
                let hop = Hop::Station(station, now);
                let before = std::mem::replace(&mut connection.hop, hop);
                let arrived = std::mem::take(&mut connection.progress);
                if arrived && matches!(before, Hop::Station(known, _) if known == station) {
                    self.confirm(neighbor, station);
                }
                Some(hop)
            }
            Lookup::Pending => {
                self.connections.get(id)?.held = true;
                if let Some(displaced) = self.hold(neighbor, token) {
                    // It goes on by its own retransmission timer.
                    self.counters().drop_frame(DropReason::NeighborQueueFull);
                    self.unhold(displaced);
                }
                None
            }
            Lookup::Unreachable | Lookup::NoRoom => {
                self.counters().drop_frame(DropReason::NeighborUnreachable);
                self.unreachable(id, tcp::Error::HostUnreachable);
                None
            }
        }
    }

    /// The peer cannot be reached now. An attempt to connect fails; an established connection goes
    /// on as if its frames were lost on the way.
    fn unreachable(&mut self, id: u32, error: tcp::Error) {
        let now = self.now;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.tcb.state() == tcp::State::SynSent {
            self.fail(id, error);
            return;
        }
        for _ in 0..TURN {
            let mss = usize::from(connection.tcb.mss());
            if connection.tcb.poll_transmit(now, mss).is_none() {
                break;
            }
        }
        self.settle(id);
    }

    /// Nobody will tell the connection when the address is known: it tries again by itself.
    fn unhold(&mut self, token: (u32, u32)) {
        let again = self.now + tcp::Duration::from_micros(HOP_AGE);
        if let Some(connection) = self.connections.get_stamped(token) {
            connection.held = false;
            connection.armed = again;
            let timer = connection.timer;
            connection.timer = self.wheel.set_anew(timer, again.as_micros(), token);
        }
    }

    /// A neighbour's address is known now: what waited for it may go on.
    pub fn release_held(&mut self, token: (u32, u32)) {
        if let Place::HalfOpen(id) = Place::unpack(token.0) {
            self.on_half_open_way((id, token.1));
        }
        if let Some(connection) = self.connections.get_stamped(token) {
            connection.held = false;
            self.mark(token.0);
        }
    }

    /// A neighbour did not answer: its connections are told.
    pub fn give_up_held(&mut self, token: (u32, u32)) {
        if let Some(connection) = self.connections.get_stamped(token) {
            connection.held = false;
            self.unreachable(token.0, tcp::Error::HostUnreachable);
        }
    }

    /// Sends a segment that belongs to no connection, if the way is known.
    pub fn send_stray(&mut self, flow: &Flow, out: &Outgoing, hop: Hop) {
        self.send_bare(flow, out, (0, DEFAULT_TTL), hop, None);
    }

    /// Sends a segment that no control block has made. `waiter` is told when the way is known, if
    /// that is being found out.
    pub fn send_bare(
        &mut self,
        flow: &Flow,
        out: &Outgoing,
        tos_ttl: (u8, u8),
        hop: Hop,
        waiter: Option<(u32, u32)>,
    ) {
        if hop == Hop::Loopback {
            let len = frame::datagram_len(flow, out);
            self.loop_back_built(len, |datagram| {
                frame::build_bare(flow, out, tos_ttl, datagram, true);
            });
        } else if let Some(station) = self.station_for(flow.remote, waiter) {
            let header = self.header(station, frame::ethertype(flow.remote));
            let offload = self.capabilities.tx_checksum;
            self.control.push(MOST_BARE, |room| {
                let (link, datagram) = room.split_at_mut(ethernet::HEADER_LEN);
                header.emit(link);
                let (len, meta) = frame::build_bare(flow, out, tos_ttl, datagram, offload);
                (ethernet::HEADER_LEN + len, meta)
            });
        }
    }

    /// Sends an ICMP datagram, if the way is known.
    pub fn send_icmp(&mut self, reply: &icmp::Reply<'_>) {
        let mut datagram = vec![0; reply.len()];
        reply.emit(&mut datagram);
        self.send_datagram(reply.dst.into(), &datagram);
    }

    /// Sends a datagram that belongs to no connection, if the way is known.
    pub fn send_datagram(&mut self, to: Address, datagram: &[u8]) {
        if let Some(station) = self.station_for(to, None) {
            self.send_frame(station, frame::ethertype(to), datagram);
        }
    }

    /// The station to which frames for an address go, if it is known; else `waiter` waits for that.
    fn station_for(&mut self, to: Address, waiter: Option<(u32, u32)>) -> Option<MacAddr> {
        let Some((neighbor, station)) = self.way_to(to) else {
            self.counters().drop_frame(DropReason::NoRoute);
            return None;
        };
        match station {
            Lookup::Resolved(station) => return Some(station),
            Lookup::Pending if let Some(token) = waiter => {
                if let Some(displaced) = self.hold(neighbor, token) {
                    self.counters().drop_frame(DropReason::NeighborQueueFull);
                    self.unhold(displaced);
                }
            }
            // Nobody repeats these: the peer asks again.
            _ => self.counters().drop_frame(DropReason::NeighborUnreachable),
        }
        None
    }

    fn header(&self, to: MacAddr, ethertype: u16) -> EthernetHeader {
        EthernetHeader {
            dst: to,
            src: self.mac,
            ethertype,
        }
    }

    /// Sends an ARP packet.
    pub fn send_arp(&mut self, packet: &ArpPacket, to: MacAddr) {
        let mut bytes = [0; arp::PACKET_LEN];
        packet.emit(&mut bytes);
        self.send_frame(to, ethertype::ARP, &bytes);
    }

    /// Sends a frame that belongs to no connection.
    pub fn send_frame(&mut self, to: MacAddr, ethertype: u16, payload: &[u8]) {
        let header = self.header(to, ethertype);
        let len = ethernet::HEADER_LEN + payload.len();
        self.control.push(len, |room| {
            let (link, rest) = room.split_at_mut(ethernet::HEADER_LEN);
            header.emit(link);
            rest.copy_from_slice(payload);
            (len, TxMeta::default())
        });
    }

    /// Sends what belongs to no connection; says how many frames that were.
    fn send_control(&mut self, queue: &mut dyn Queue) -> u64 {
        let mut sent = 0;
        while let Some((frame, meta)) = self.control.first() {
            let Some(room) = queue.reserve(frame.len()) else {
                break;
            };
            room[..frame.len()].copy_from_slice(frame);
            queue.commit(frame.len(), meta);
            self.control.remove_first();
            sent += 1;
        }
        sent
    }
}
