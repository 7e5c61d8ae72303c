//! Packets.

use super::ParseError;
use super::cursor::Cursor;
use crate::script::{Body, Ecn, Icmp, Packet, Tcp};
use crate::wire::TcpOption;

/// A packet; `sent` says that the stack sends it, which may leave things open.
pub fn packet(at: &mut Cursor<'_>, sent: bool) -> Result<Packet, ParseError> {
    let mut packet = Packet {
        ecn: None,
        ttl: None,
        ports: None,
        body: Body::Icmp(Icmp {
            kind: String::new(),
            code: None,
            mtu: None,
            id: 0,
            quoted: None,
        }),
    };
    if matches!(at.peek(), Some('[' | '(')) {
        ip(at, &mut packet)?;
    }
    if at.eats_word("icmp") {
        packet.body = Body::Icmp(icmp(at)?);
        return Ok(packet);
    }
    if at.peek().is_some_and(|c| c.is_ascii_digit()) {
        let from = at.number_as()?;
        at.expect(">")?;
        packet.ports = Some((from, at.number_as()?));
    }
    packet.body = Body::Tcp(tcp(at, sent)?);
    Ok(packet)
}

fn ip(at: &mut Cursor<'_>, packet: &mut Packet) -> Result<(), ParseError> {
    let end = if at.eats("[") {
        "]"
    } else {
        at.expect("(")?;
        ")"
    };
    match at.word()?.as_str() {
        "noecn" => packet.ecn = Some(Ecn::Is(0)),
        "ect1" => packet.ecn = Some(Ecn::Is(1)),
        "ect0" => packet.ecn = Some(Ecn::Is(2)),
        "ce" => packet.ecn = Some(Ecn::Is(3)),
        "ect01" => packet.ecn = Some(Ecn::AnyEct),
        "ttl" => packet.ttl = Some(at.number_as()?),
        other => return Err(at.error(format!("{other:?} says nothing of an IP header"))),
    }
    at.expect(end)
}

fn tcp(at: &mut Cursor<'_>, sent: bool) -> Result<Tcp, ParseError> {
    let flags = flags(at)?;
    let (seq, len) = range(at)?;
    let ack = if at.eats_word("ack") {
        at.number_as()?
    } else {
        0
    };
    let window = if at.eats_word("win") {
        Some(at.number_as()?)
    } else {
        None
    };
    let urgent = if at.eats_word("urg") {
        at.number_as()?
    } else {
        0
    };
    let mut options = Some(Vec::new());
    if at.eats("<") {
        if at.eats("...") {
            if !sent {
                return Err(at.error("what is injected has options of its own"));
            }
            options = None;
            at.expect(">")?;
        } else {
            options = Some(tcp_options(at)?);
        }
    }
    Ok(Tcp {
        flags,
        seq,
        len,
        ack,
        window,
        urgent,
        options,
    })
}

fn flags(at: &mut Cursor<'_>) -> Result<u8, ParseError> {
    at.peek();
    let text = at.until_space();
    if text == "-" {
        return Ok(0);
    }
    let mut flags = 0;
    for letter in text.chars() {
        let bit = match letter {
            'F' => 0,
            'S' => 1,
            'R' => 2,
            'P' => 3,
            '.' => 4,
            'U' => 5,
            'E' => 6,
            'W' => 7,
            _ => return Err(at.error(format!("{letter:?} in {text:?} is no TCP flag"))),
        };
        flags |= 1 << bit;
    }
    Ok(flags)
}

/// `first:end(length)`.
fn range(at: &mut Cursor<'_>) -> Result<(u32, u32), ParseError> {
    let first: u32 = at.number_as()?;
    at.expect(":")?;
    let end: u32 = at.number_as()?;
    at.expect("(")?;
    let len: u16 = at.number_as()?;
    at.expect(")")?;
    if first.wrapping_add(len.into()) != end {
        return Err(at.error(format!("{first}:{end} is not {len} bytes long")));
    }
    Ok((first, len.into()))
}

fn tcp_options(at: &mut Cursor<'_>) -> Result<Vec<TcpOption>, ParseError> {
    let mut options = Vec::new();
    loop {
        options.push(tcp_option(at)?);
        if at.eats(">") {
            return Ok(options);
        }
        at.expect(",")?;
    }
}

fn tcp_option(at: &mut Cursor<'_>) -> Result<TcpOption, ParseError> {
    Ok(match at.word()?.as_str() {
        "nop" => TcpOption::Nop,
        "eol" => TcpOption::End,
        "mss" => TcpOption::Mss(at.number_as()?),
        "wscale" => TcpOption::WindowScale(at.number_as()?),
        "sackOK" => TcpOption::SackPermitted,
        "sack" => {
            let mut blocks = Vec::new();
            while at.peek().is_some_and(|c| c.is_ascii_digit()) {
                let left = at.number_as()?;
                at.expect(":")?;
                blocks.push((left, at.number_as()?));
            }
            TcpOption::Sack(blocks)
        }
        "TS" => {
            at.expect("val")?;
            let val = at.number_as()?;
            at.expect("ecr")?;
            let ecr = at.number_as()?;
            TcpOption::Timestamps { val, ecr }
        }
        "FO" => TcpOption::FastOpen(match at.peek() {
            Some(c) if c.is_ascii_hexdigit() => hex(at)?,
            _ => Vec::new(),
        }),
        other => return Err(at.error(format!("{other:?} is no TCP option"))),
    })
}

fn hex(at: &mut Cursor<'_>) -> Result<Vec<u8>, ParseError> {
    let word = at.word()?;
    let digits = word.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    match bytes {
        Some(bytes) if digits.len() % 2 == 0 && bytes.len() <= 16 => Ok(bytes),
        _ => Err(at.error(format!("{word:?} is no cookie"))),
    }
}

fn icmp(at: &mut Cursor<'_>) -> Result<Icmp, ParseError> {
    let kind = at.word()?;
    let mut icmp = Icmp {
        kind,
        code: None,
        mtu: None,
        id: 0,
        quoted: None,
    };
    loop {
        if at.eats_word("mtu") {
            icmp.mtu = Some(at.number_as()?);
        } else if at.eats_word("id") {
            icmp.id = at.number_as()?;
        } else if at.eats("[") {
            icmp.quoted = Some(range(at)?);
            at.expect("]")?;
        } else if icmp.code.is_none() && at.peek().is_some_and(|c| c.is_ascii_lowercase()) {
            icmp.code = Some(at.word()?);
        } else {
            return Ok(icmp);
        }
    }
}
