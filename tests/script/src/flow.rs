//! One connection as the script sees it: its own sequence numbers, timestamps and cookies, and what
//! stands for them on the wire.
//!
//! The peer's numbers are the script's. Those of the stack under test are learnt from its SYN.

use crate::check;
use crate::script::{Body, Ecn, Packet, Tcp};
use crate::wire::{Datagram, Payload, Segment, TcpOption, flag};

/// The byte at a position of a stream, in both directions: the position's place in a pattern whose
/// length is prime, so that no cut of the stream passes for another.
pub fn pattern(position: u64) -> u8 {
    (position % 251) as u8
}

/// A connection.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// The stack's port; `None` until its SYN has shown it.
    pub local: Option<u16>,
    /// The peer's port.
    pub remote: u16,
    /// What the stack's numbers on the wire are ahead of the script's.
    ahead: Option<u32>,
    /// Initial sequence numbers, as the script has them.
    local_start: u32,
    remote_start: Option<u32>,
    /// That of the peer's last SYN, which the stack may not have taken.
    offered: Option<u32>,
    /// The script's and the wire's value of each timestamp sent.
    clock: Vec<(u32, u32)>,
    /// The same of cookies.
    cookies: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What is compared besides the packets themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strictness {
    /// Microseconds for each tick of the stack's timestamps (`--tcp_ts_tick_usecs`); `None`: the
    /// values are not compared.
    pub tick: Option<u64>,
    /// By how many microseconds they may be wrong.
    pub tolerance: u64,
    /// Whether PSH must be where the script has it.
    pub push: bool,
    /// Whether payload must be the pattern: not where urgent data makes holes in the stream.
    pub payload: bool,
}

impl Flow {
    /// A connection between these ports.
    pub fn new(local: Option<u16>, remote: u16) -> Flow {
        Flow {
            local,
            remote,
            ..Flow::default()
        }
    }

    /// A packet from the peer, as it goes over the wire.
    ///
    /// # Errors
    /// A timestamp that was never sent.
    pub fn inject(&mut self, tcp: &Tcp) -> Result<Segment, String> {
        let syn = tcp.flags & flag::SYN != 0;
        if syn {
            // Perhaps a new life of the same ports: the stack's SYN would say so.
            self.offered = Some(tcp.seq);
            if self.remote_start.is_none() && self.ahead.is_some() {
                self.remote_start = Some(tcp.seq);
            }
        }
        let start = self.offered.filter(|_| syn).or(self.remote_start);
        let start = start.unwrap_or(tcp.seq);
        let first = u64::from(tcp.seq.wrapping_sub(start).wrapping_sub(u32::from(!syn)));
        let mut options = Vec::new();
        for option in tcp.options.iter().flatten() {
            options.push(self.translate(option)?);
        }
        let acknowledges = tcp.flags & flag::ACK != 0;
        Ok(Segment {
            src_port: self.remote,
            dst_port: self.local.unwrap_or(crate::run::PORT),
            seq: tcp.seq,
            ack: if acknowledges {
                self.wire_seq(tcp.ack)
            } else {
                0
            },
            flags: tcp.flags,
            // As wide as it goes, unless the script says otherwise.
            window: tcp.window.unwrap_or(u16::MAX),
            urgent: tcp.urgent,
            options,
            payload: (0..u64::from(tcp.len))
                .map(|i| pattern(first + i))
                .collect(),
        })
    }

    /// A sequence number of the stack's, from the script to the wire.
    pub fn wire_seq(&self, seq: u32) -> u32 {
        seq.wrapping_add(self.ahead.unwrap_or(0))
    }

    fn translate(&mut self, option: &TcpOption) -> Result<TcpOption, String> {
        Ok(match option {
            TcpOption::Sack(blocks) => {
                let edges = |(l, r): &(u32, u32)| (self.wire_seq(*l), self.wire_seq(*r));
                TcpOption::Sack(blocks.iter().map(edges).collect())
            }
            TcpOption::Timestamps { val, ecr: 0 } => TcpOption::Timestamps { val: *val, ecr: 0 },
            TcpOption::Timestamps { val, ecr } => {
                let sent = self.clock.iter().rev().find(|(script, _)| script == ecr);
                let ecr = match (sent, self.clock.first()) {
                    (Some((_, wire)), _) => *wire,
                    (None, Some((script, wire))) => wire.wrapping_add(ecr.wrapping_sub(*script)),
                    (None, None) => return Err(format!("ecr {ecr}: no timestamp was ever sent")),
                };
                TcpOption::Timestamps { val: *val, ecr }
            }
            TcpOption::FastOpen(cookie) if !cookie.is_empty() => {
                let known = self.cookies.iter().find(|(script, _)| script == cookie);
                let wire = known.map_or(cookie, |(_, wire)| wire).clone();
                if known.is_none() {
                    self.cookies.push((cookie.clone(), wire.clone()));
                }
                TcpOption::FastOpen(wire)
            }
            other => other.clone(),
        })
    }

    /// A segment of the stack's in the script's numbers. What a SYN teaches is kept; `expected` says
    /// how the script calls it.
    pub fn show(&mut self, datagram: &Datagram, expected: Option<&Packet>) -> Packet {
        let Payload::Tcp(segment) = &datagram.payload else {
            unreachable!("only TCP has connections");
        };
        let expected_tcp = match expected.map(|packet| &packet.body) {
            Some(Body::Tcp(tcp)) => Some(tcp),
            _ => None,
        };
        if segment.flags & flag::SYN != 0 {
            self.local = Some(segment.src_port);
            if self.offered.is_some() && self.offered != self.remote_start {
                if self.remote_start.is_some() && segment.flags & flag::ACK != 0 {
                    (self.ahead, self.clock) = (None, Vec::new());
                }
                self.remote_start = self.offered;
            }
            if self.ahead.is_none() {
                self.local_start = expected_tcp.map_or(0, |tcp| tcp.seq);
                self.ahead = Some(segment.seq.wrapping_sub(self.local_start));
            }
        }
        let expected_val = expected_tcp.and_then(|tcp| timestamps(tcp.options.as_deref()?));
        let options = segment.options.iter().map(|option| match option {
            TcpOption::Timestamps { val, ecr } => TcpOption::Timestamps {
                val: self.script_val(*val, expected_val.map(|(val, _)| val)),
                ecr: *ecr,
            },
            other => other.clone(),
        });
        Packet {
            ecn: Some(Ecn::Is(datagram.tos & 3)),
            ttl: Some(datagram.ttl),
            ports: Some((segment.src_port, segment.dst_port)),
            body: Body::Tcp(Tcp {
                flags: segment.flags,
                seq: segment.seq.wrapping_sub(self.ahead.unwrap_or(0)),
                len: segment.payload.len() as u32,
                ack: segment.ack,
                window: Some(segment.window),
                urgent: segment.urgent,
                options: Some(options.collect()),
            }),
        }
    }

    /// The script's value for a timestamp of the stack's: reckoned from the first.
    fn script_val(&self, wire: u32, expected: Option<u32>) -> u32 {
        match self.clock.first() {
            Some((script, first)) => script.wrapping_add(wire.wrapping_sub(*first)),
            None => expected.unwrap_or(100),
        }
    }

    /// Compares a segment of the stack's with what the script says of it.
    ///
    /// # Errors
    /// What is different.
    pub fn verify(
        &mut self,
        expected: &Packet,
        got: &Packet,
        datagram: &Datagram,
        strict: Strictness,
    ) -> Result<(), String> {
        let difference = match check::difference(expected, got, strict.push) {
            Some(what) => Err(format!("{what} is different")),
            None => Ok(()),
        };
        let (Body::Tcp(expected), Body::Tcp(shown), Payload::Tcp(live)) =
            (&expected.body, &got.body, &datagram.payload)
        else {
            return difference;
        };
        if let Some(options) = &expected.options {
            // Learnt even from what is not as expected: a recording goes on.
            let verdict = self.verify_timestamp(options, shown, live, strict);
            let verdict = verdict.and(self.verify_cookie(options, live));
            difference.and(verdict)?;
        } else {
            difference?;
        }
        let first = live.flags & flag::SYN != 0;
        let start = self.local_start.wrapping_add(u32::from(!first));
        let first = u64::from(shown.seq.wrapping_sub(start));
        let wrong = (0..)
            .zip(&live.payload)
            .find(|(i, byte)| **byte != pattern(first + i));
        match wrong {
            Some((at, byte)) if strict.payload => Err(format!(
                "byte {at} of the payload is {byte}, not {}",
                pattern(first + at)
            )),
            _ => Ok(()),
        }
    }

    fn verify_timestamp(
        &mut self,
        options: &[TcpOption],
        shown: &Tcp,
        live: &Segment,
        strict: Strictness,
    ) -> Result<(), String> {
        let shown = shown.options.as_deref().and_then(timestamps);
        let (Some((expected, _)), Some((shown, _)), Some((live, _))) =
            (timestamps(options), shown, timestamps(&live.options))
        else {
            return Ok(());
        };
        self.clock.push((expected, live));
        let wrong = u64::from((expected.wrapping_sub(shown) as i32).unsigned_abs());
        match strict.tick {
            Some(tick) if wrong * tick > strict.tolerance.max(tick) => {
                Err(format!("the timestamp is {shown}, not {expected}"))
            }
            _ => Ok(()),
        }
    }

    fn verify_cookie(&mut self, options: &[TcpOption], live: &Segment) -> Result<(), String> {
        let cookie = |options: &[TcpOption]| {
            options.iter().find_map(|option| match option {
                TcpOption::FastOpen(cookie) if !cookie.is_empty() => Some(cookie.clone()),
                _ => None,
            })
        };
        let (Some(expected), Some(live)) = (cookie(options), cookie(&live.options)) else {
            return Ok(());
        };
        match self.cookies.iter().find(|(script, _)| *script == expected) {
            Some((_, wire)) if *wire != live => Err("the cookie is another one".into()),
            Some(_) => Ok(()),
            None => {
                self.cookies.push((expected, live));
                Ok(())
            }
        }
    }
}

fn timestamps(options: &[TcpOption]) -> Option<(u32, u32)> {
    options.iter().find_map(|option| match option {
        TcpOption::Timestamps { val, ecr } => Some((*val, *ecr)),
        _ => None,
    })
}
