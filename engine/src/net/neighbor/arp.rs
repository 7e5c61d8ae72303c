//! What ARP packets teach the table, and what is said to them (RFC 826, RFC 5227).

use super::{Action, Entry, NeighborTable, State};
use crate::wire::arp::{ArpPacket, Operation};
use crate::wire::{DropReason, MacAddr, ethernet};
use std::net::Ipv4Addr;

impl<T> NeighborTable<T> {
    /// Takes an ARP packet. New neighbours are learned only from requests for our addresses;
    /// replies to us and announcements update what is known (RFC 826, RFC 5227).
    ///
    /// # Errors
    /// [`DropReason::ArpBadSender`] or [`DropReason::ArpNotForUs`].
    pub fn on_arp(&mut self, now: u64, packet: &ArpPacket) -> Result<Action<T>, DropReason> {
        if !ethernet::is_unicast(packet.sender_mac) || packet.sender_mac == self.mac {
            return Err(DropReason::ArpBadSender);
        }
        let mut action = Action {
            reply: None,
            released: Vec::new(),
            conflict: false,
        };
        if self.local.is_ours(packet.sender_ip) {
            action.conflict = true;
            return Ok(action);
        }
        let is_request_to_us =
            packet.operation == Operation::Request && self.local.is_ours(packet.target_ip);
        if packet.sender_ip.is_unspecified() && is_request_to_us {
            // A station that wants to know whether the address is free (RFC 5227 §2.1.1).
            action.reply = Some(self.reply_to(packet));
            return Ok(action);
        }
        if self.local.check_source(packet.sender_ip).is_err() {
            return Err(DropReason::ArpBadSender);
        }
        let is_reply_to_us = packet.operation == Operation::Reply
            && packet.target_mac == self.mac
            && self.local.is_ours(packet.target_ip);
        let sender = (packet.sender_ip, packet.sender_mac);
        if is_request_to_us {
            action.reply = Some(self.reply_to(packet));
            self.learn(now, sender);
            action.released = self.on_claim(now, sender);
        } else if packet.is_announcement() {
            action.released = self.on_claim(now, sender);
        } else if is_reply_to_us {
            action.released = self.on_reply(now, sender);
        } else {
            return Err(DropReason::ArpNotForUs);
        }
        Ok(action)
    }

    fn reply_to(&self, request: &ArpPacket) -> ArpPacket {
        ArpPacket {
            operation: Operation::Reply,
            sender_mac: self.mac,
            sender_ip: request.target_ip,
            target_mac: request.sender_mac,
            target_ip: request.sender_ip,
        }
    }

    /// Makes an entry for a station on the link of which nothing is known.
    fn learn(&mut self, now: u64, (address, mac): (Ipv4Addr, MacAddr)) {
        let unknown = !self.entries.contains_key(&address) && self.fixed(address).is_none();
        if unknown && self.local.connected_network(address).is_some() {
            let entry = Entry {
                state: State::Heard {
                    mac,
                    contested: false,
                },
                used: now,
                ask_after: now,
            };
            // Without room nothing is lost: it will be asked for when it is needed.
            self.insert(address, entry);
        }
    }

    /// A station says unasked that it has an address: anyone may have sent this. Returns what was
    /// held for it.
    fn on_claim(&mut self, now: u64, (address, mac): (Ipv4Addr, MacAddr)) -> Vec<T> {
        let Some(entry) = self.entries.get_mut(&address) else {
            return Vec::new();
        };
        let state = match entry.state {
            State::Static(_) => return Vec::new(),
            // Whoever answers has it.
            State::Probing {
                everybody: true, ..
            }
            | State::Heard {
                contested: true, ..
            } => return Vec::new(),
            State::Resolving { .. } | State::Unreachable { .. } => State::Heard {
                mac,
                contested: false,
            },
            _ if entry.state.station() == Some(mac) => return Vec::new(),
            State::Reachable {
                mac: known, until, ..
            } if now < until => State::Heard {
                mac: known,
                contested: true,
            },
            _ => State::Heard {
                mac,
                contested: true,
            },
        };
        self.deadlines.clear(address);
        std::mem::replace(&mut entry.state, state).into_held()
    }

    /// A reply to us: an answer, if we have asked. Returns what was held for its sender.
    fn on_reply(&mut self, now: u64, sender: (Ipv4Addr, MacAddr)) -> Vec<T> {
        let (address, mac) = sender;
        let Some(entry) = self.entries.get_mut(&address) else {
            return Vec::new();
        };
        match entry.state {
            State::Resolving { .. } => {}
            State::Probing {
                mac: known,
                tries,
                everybody,
            } if tries > 0 && (everybody || known == mac) => {}
            State::Reachable { mac: known, .. } if known == mac => {}
            State::Reachable { since, .. } if now < since.saturating_add(self.config.lock) => {
                return Vec::new();
            }
            _ => return self.on_claim(now, sender),
        }
        self.deadlines.clear(address);
        let state = self.config.reachable(now, mac);
        std::mem::replace(&mut entry.state, state).into_held()
    }

    pub(super) fn request(&self, address: Ipv4Addr, to: MacAddr) -> ArpPacket {
        let target_mac = if to == MacAddr::BROADCAST {
            MacAddr::default()
        } else {
            to
        };
        ArpPacket {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender_ip: self
                .local
                .source_for(address)
                .unwrap_or(Ipv4Addr::UNSPECIFIED),
            target_mac,
            target_ip: address,
        }
    }

    /// Announcements of our addresses, to be broadcast at start (RFC 5227 §2.3): neighbours that
    /// know an older Ethernet address for one of them forget it.
    pub fn announcements(&self) -> impl Iterator<Item = ArpPacket> {
        self.local.iter().map(|ours| ArpPacket {
            operation: Operation::Request,
            sender_mac: self.mac,
            sender_ip: ours.address,
            target_mac: MacAddr::default(),
            target_ip: ours.address,
        })
    }
}
