//! Packets in the script's notation, and what is different between two of them.

use crate::script::{Body, Ecn, Icmp, Packet, Tcp};
use crate::wire::{TcpOption, flag};
use std::fmt;

/// The flag letters of a segment, by bit.
const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'];

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ecn {
            Some(Ecn::Is(bits)) => {
                let names = ["noecn", "ect1", "ect0", "ce"];
                write!(f, "[{}] ", names[usize::from(bits & 3)])?;
            }
            Some(Ecn::AnyEct) => write!(f, "[ect01] ")?,
            None => {}
        }
        if let Some(ttl) = self.ttl {
            write!(f, "[ttl {ttl}] ")?;
        }
        if let Some((from, to)) = self.ports {
            write!(f, "{from} > {to} ")?;
        }
        match &self.body {
            Body::Tcp(tcp) => write!(f, "{tcp}"),
            Body::Icmp(icmp) => write!(f, "{icmp}"),
        }
    }
}

impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As packetdrill writes them: the acknowledgement's dot after the letters.
        let order = [7, 6, 5, 1, 0, 2, 3, 4].map(|bit| (1 << bit, LETTERS[bit]));
        let set = order.iter().filter(|(bit, _)| self.flags & bit != 0);
        let flags: String = set.map(|(_, letter)| letter).collect();
        let flags = if flags.is_empty() { "-" } else { &flags };
        let end = self.seq.wrapping_add(self.len);
        write!(f, "{flags} {}:{end}({})", self.seq, self.len)?;
        if self.flags & flag::ACK != 0 {
            write!(f, " ack {}", self.ack)?;
        }
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if self.urgent != 0 {
            write!(f, " urg {}", self.urgent)?;
        }
        match &self.options {
            None => write!(f, " <...>"),
            Some(options) if options.is_empty() => Ok(()),
            Some(options) => {
                let options: Vec<String> = options.iter().map(ToString::to_string).collect();
                write!(f, " <{}>", options.join(","))
            }
        }
    }
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self {
            TcpOption::End => write!(f, "eol"),
            TcpOption::Nop => write!(f, "nop"),
            TcpOption::Mss(mss) => write!(f, "mss {mss}"),
            TcpOption::WindowScale(shift) => write!(f, "wscale {shift}"),
            TcpOption::SackPermitted => write!(f, "sackOK"),
            TcpOption::Sack(blocks) => {
                write!(f, "sack")?;
                blocks.iter().try_for_each(|(l, r)| write!(f, " {l}:{r}"))
            }
            TcpOption::Timestamps { val, ecr } => write!(f, "TS val {val} ecr {ecr}"),
            TcpOption::FastOpen(cookie) if cookie.is_empty() => write!(f, "FO"),
            TcpOption::FastOpen(cookie) => write!(f, "FO {}", hex(cookie)),
            TcpOption::Other(kind, data) => write!(f, "option {kind} {}", hex(data)),
        }
    }
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "icmp {}", self.kind)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if self.id != 0 {
            write!(f, " id {}", self.id)?;
        }
        match self.quoted {
            Some((seq, len)) => write!(f, " [{seq}:{}({len})]", seq.wrapping_add(len)),
            None => Ok(()),
        }
    }
}

/// The first thing in which `got` is not what was expected; nothing that the script leaves open
/// counts, nor does PSH unless `push`. Timestamps and cookies are for [`crate::flow`] to compare.
pub fn difference(expected: &Packet, got: &Packet, push: bool) -> Option<&'static str> {
    let ecn = match (expected.ecn, got.ecn) {
        (None, _) => true,
        (Some(Ecn::AnyEct), Some(Ecn::Is(bits))) => matches!(bits, 1 | 2),
        (expected, got) => expected == got,
    };
    if !ecn {
        return Some("the ECN field");
    }
    if expected.ttl.is_some() && expected.ttl != got.ttl {
        return Some("the time to live");
    }
    if expected.ports.is_some() && expected.ports != got.ports {
        return Some("the ports");
    }
    match (&expected.body, &got.body) {
        (Body::Tcp(expected), Body::Tcp(got)) => segment_difference(expected, got, push),
        (Body::Icmp(expected), Body::Icmp(got)) => {
            let same =
                (&expected.kind, &expected.code, expected.id) == (&got.kind, &got.code, got.id);
            (!same).then_some("the message")
        }
        _ => Some("the protocol"),
    }
}

fn segment_difference(expected: &Tcp, got: &Tcp, push: bool) -> Option<&'static str> {
    let seen = if push { !0 } else { !flag::PSH };
    if (expected.flags ^ got.flags) & seen != 0 {
        return Some("the flags");
    }
    if expected.seq != got.seq {
        return Some("the sequence number");
    }
    if expected.len != got.len {
        return Some("the length");
    }
    if got.flags & flag::ACK != 0 && expected.ack != got.ack {
        return Some("the acknowledgement number");
    }
    if expected.window.is_some() && expected.window != got.window {
        return Some("the window");
    }
    if expected.urgent != got.urgent {
        return Some("the urgent pointer");
    }
    let (Some(expected), Some(got)) = (&expected.options, &got.options) else {
        return None;
    };
    let same = expected.len() == got.len()
        && expected.iter().zip(got).all(|pair| match pair {
            (TcpOption::Timestamps { ecr: a, .. }, TcpOption::Timestamps { ecr: b, .. }) => a == b,
            (TcpOption::FastOpen(a), TcpOption::FastOpen(b)) => a.is_empty() == b.is_empty(),
            (a, b) => a == b,
        });
    (!same).then_some("the options")
}
