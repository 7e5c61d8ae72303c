//! Reading a script.

mod cursor;
mod packet;
mod value;

use crate::script::{Action, CallLine, Event, Script, Time};
use cursor::Cursor;
use std::fmt;

/// Why a script cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for ParseError {}

/// The comment that excuses a script from being run against Linux, followed by the reason.
const STACK_ONLY: &str = "// stack only:";

/// Reads a script.
///
/// # Errors
/// The first line that is no line of a script.
pub fn parse(text: &str) -> Result<Script, ParseError> {
    let mut script = Script {
        stack_only: text
            .lines()
            .find_map(|line| line.strip_prefix(STACK_ONLY))
            .map(|reason| reason.trim().to_owned()),
        ..Script::default()
    };
    let mut at = Cursor::new(text);
    while !at.is_at_end()? {
        if at.eats("--") {
            script.options.push(option(&mut at)?);
            continue;
        }
        let line = at.line();
        let (time, action) = match at.peek() {
            // packetdrill's command before the first line.
            Some('`') if script.events.is_empty() => {
                (Time::After(0, 0), Action::Command(at.quoted('`')?))
            }
            _ => (time(&mut at)?, action(&mut at)?),
        };
        let passive = !matches!(action, Action::Expect(_));
        let ranged = !matches!(time, Time::At(a, b) | Time::After(a, b) if a == b);
        if passive && ranged {
            return Err(at.error("only what is sent may come at any time or in a range"));
        }
        script.events.push(Event { line, time, action });
    }
    Ok(script)
}

fn option(at: &mut Cursor<'_>) -> Result<(String, String), ParseError> {
    let name = at.word()?;
    let value = if at.eats("=") {
        at.until_space()
    } else {
        String::new()
    };
    Ok((name, value))
}

fn time(at: &mut Cursor<'_>) -> Result<Time, ParseError> {
    if at.eats("*") {
        return Ok(Time::Any);
    }
    let relative = at.eats("+");
    let first = at.micros()?;
    let last = if at.eats("~") {
        if relative && !at.eats("+") {
            return Err(at.error("a relative range ends with + and a time"));
        }
        at.micros()?
    } else {
        first
    };
    if last < first {
        return Err(at.error("the range goes backwards"));
    }
    Ok(if relative {
        Time::After(first, last)
    } else {
        Time::At(first, last)
    })
}

fn action(at: &mut Cursor<'_>) -> Result<Action, ParseError> {
    if at.eats("...") {
        let until = at.micros()?;
        return Ok(Action::Call(call(at, Some(until))?));
    }
    match at.peek() {
        Some('<') => {
            at.eats("<");
            Ok(Action::Inject(packet::packet(at, false)?))
        }
        Some('>') => {
            at.eats(">");
            Ok(Action::Expect(packet::packet(at, true)?))
        }
        Some('`') => Ok(Action::Command(at.quoted('`')?)),
        Some('%') => Ok(Action::Check(at.code()?)),
        _ => Ok(Action::Call(call(at, None)?)),
    }
}

fn call(at: &mut Cursor<'_>, until: Option<u64>) -> Result<CallLine, ParseError> {
    let name = at.word()?;
    at.expect("(")?;
    let arguments = value::list(at, ")")?;
    at.expect("=")?;
    let result = value::value(at)?;
    let errno = match at.peek() {
        Some('E') => Some(at.word()?),
        _ => None,
    };
    if at.peek() == Some('(') {
        at.note()?;
    }
    Ok(CallLine {
        name,
        arguments,
        result,
        errno,
        until,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Body, Ecn, Expression};
    use crate::wire::TcpOption;

    fn only(text: &str) -> Event {
        let script = parse(text).unwrap();
        assert_eq!(script.events.len(), 1);
        script.events[0].clone()
    }

    #[test]
    fn a_segment_is_read_with_everything_that_it_may_have() {
        let event = only(
            "+.1~+.25 > [ect0] 8080 > 40000 SEW. 5:1005(1000) ack 77 win 65535 urg 3 \
             <mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 8,sack 1:2 5:6,FO ab01>",
        );
        assert_eq!(event.time, Time::After(100_000, 250_000));
        let Action::Expect(packet) = event.action else {
            panic!("not sent");
        };
        assert_eq!(packet.ecn, Some(Ecn::Is(2)));
        assert_eq!(packet.ports, Some((8080, 40000)));
        let Body::Tcp(tcp) = packet.body else {
            panic!("not TCP");
        };
        assert_eq!(tcp.flags, 0b1101_0010);
        assert_eq!((tcp.seq, tcp.len, tcp.ack), (5, 1000, 77));
        assert_eq!((tcp.window, tcp.urgent), (Some(65535), 3));
        assert_eq!(
            tcp.options.unwrap(),
            [
                TcpOption::Mss(1460),
                TcpOption::SackPermitted,
                TcpOption::Timestamps { val: 1, ecr: 2 },
                TcpOption::Nop,
                TcpOption::WindowScale(8),
                TcpOption::Sack(vec![(1, 2), (5, 6)]),
                TcpOption::FastOpen(vec![0xab, 0x01]),
            ]
        );
    }

    #[test]
    fn calls_have_arguments_results_errors_and_spans() {
        let event = only("0.5...1.25 read(4, ..., 100) = -1 ETIMEDOUT (timed out)");
        assert_eq!(event.time, Time::At(500_000, 500_000));
        let Action::Call(call) = event.action else {
            panic!("not a call");
        };
        assert_eq!(call.until, Some(1_250_000));
        assert_eq!(call.result, Expression::Number(-1));
        assert_eq!(call.errno.as_deref(), Some("ETIMEDOUT"));
        assert_eq!(call.arguments[1], Expression::Anything);
    }

    #[test]
    fn what_is_no_script_is_refused_with_its_line() {
        for (text, line) in [
            ("\n+0 > S 0:5(4)", 2),
            ("// c\n/* d\n*/ +0 frob", 3),
            ("+0 > X 0:0(0)", 1),
            ("+.2~+.1 > S 0:0(0)", 1),
            ("+0~+1 < S 0:0(0)", 1),
            ("+0 < S 0:0(0) <mss 99999>", 1),
            ("+0 < S 0:0(0) <...>", 1),
            ("+0 `sysctl", 1),
            ("+0 > S 4294967296:4294967296(0)", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
    }

    #[test]
    fn options_and_the_excuse_from_linux_stand_at_the_top() {
        let script = parse("// stack only: our own bound\n--ip_version=ipv6\n+0 `a`").unwrap();
        assert_eq!(script.stack_only.as_deref(), Some("our own bound"));
        assert_eq!(script.options, [("ip_version".into(), "ipv6".into())]);
    }
}
