//! System calls: from the words of a script to what a host is asked, and from what came back to a
//! verdict.

use crate::constants;
use crate::script::{CallLine, Expression};

/// A call, with the host's own descriptors.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub enum Call {
    Socket {
        family: i32,
        kind: i32,
        protocol: i32,
    },
    Bind {
        fd: i32,
        port: u16,
    },
    Listen {
        fd: i32,
        backlog: i32,
    },
    Accept {
        fd: i32,
        flags: i32,
    },
    Connect {
        fd: i32,
    },
    Send {
        fd: i32,
        len: usize,
        flags: i32,
        to_peer: bool,
    },
    Receive {
        fd: i32,
        len: usize,
        flags: i32,
    },
    Close {
        fd: i32,
    },
    Shutdown {
        fd: i32,
        how: i32,
    },
    SetOption {
        fd: i32,
        level: i32,
        name: i32,
        value: Vec<u8>,
    },
    GetOption {
        fd: i32,
        level: i32,
        name: i32,
        len: usize,
    },
    Fcntl {
        fd: i32,
        command: i32,
        argument: i32,
    },
    Ioctl {
        fd: i32,
        request: i64,
    },
    Poll {
        fds: Vec<(i32, i16)>,
        timeout: i32,
    },
    EpollCreate,
    EpollControl {
        set: i32,
        operation: i32,
        fd: i32,
        events: u32,
    },
    EpollWait {
        set: i32,
        most: i32,
        timeout: i32,
    },
}

/// What a call came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// What it returned; -1 with `errno`.
    pub value: i64,
    /// The error's number.
    pub errno: i32,
    /// Bytes that were read, or an option's value.
    pub bytes: Vec<u8>,
    /// Descriptors and their events.
    pub events: Vec<(i32, u32)>,
}

impl Outcome {
    /// A call that went well.
    pub fn done(value: i64) -> Outcome {
        Outcome {
            value,
            ..Outcome::default()
        }
    }

    /// A call that failed.
    pub fn failed(errno: i32) -> Outcome {
        Outcome {
            value: -1,
            errno,
            ..Outcome::default()
        }
    }
}

/// A number, constants and their combinations included.
///
/// # Errors
/// Anything else.
pub fn number(value: &Expression) -> Result<i64, String> {
    match value {
        Expression::Number(n) => Ok(*n),
        Expression::Word(name) => {
            constants::value(name).ok_or_else(|| format!("{name:?} is no constant known here"))
        }
        Expression::Or(parts) => parts
            .iter()
            .try_fold(0, |all, part| Ok(all | number(part)?)),
        Expression::List(parts) if parts.len() == 1 => number(&parts[0]),
        other => Err(format!("{other:?} is no number")),
    }
}

fn field<'a>(of: &'a Expression, name: &str) -> Option<&'a Expression> {
    let Expression::Struct(fields) = of else {
        return None;
    };
    fields
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value)
}

/// A field's number; 0 if it is missing.
fn field_number(of: &Expression, name: &str) -> Result<i64, String> {
    field(of, name).map_or(Ok(0), number)
}

/// The bytes of an option's value.
fn option_bytes(value: &Expression) -> Result<Vec<u8>, String> {
    Ok(match value {
        Expression::Text(text) => text.as_bytes().to_vec(),
        Expression::Struct(_) if field(value, "onoff").is_some() => {
            let (on, seconds) = (
                field_number(value, "onoff")?,
                field_number(value, "linger")?,
            );
            [(on as i32).to_ne_bytes(), (seconds as i32).to_ne_bytes()].concat()
        }
        Expression::Struct(_) if field(value, "tv_sec").is_some() => {
            let (seconds, micros) = (
                field_number(value, "tv_sec")?,
                field_number(value, "tv_usec")?,
            );
            [seconds.to_ne_bytes(), micros.to_ne_bytes()].concat()
        }
        other => (number(other)? as i32).to_ne_bytes().to_vec(),
    })
}

fn items(value: &Expression) -> &[Expression] {
    match value {
        Expression::List(items) => items,
        one => std::slice::from_ref(one),
    }
}

/// The call that a line makes; `fd` turns the script's descriptors into the host's.
///
/// # Errors
/// A call, or arguments, that are not known here.
pub fn call(line: &CallLine, fd: impl Fn(i64) -> Result<i32, String>) -> Result<Call, String> {
    let nothing = Expression::Anything;
    let argument = |i: usize| line.arguments.get(i).unwrap_or(&nothing);
    let int = |i: usize| Ok::<_, String>(number(argument(i))? as i32);
    let int_or = |i: usize, default: i32| match line.arguments.get(i) {
        Some(value) => number(value).map(|n| n as i32),
        None => Ok(default),
    };
    let size = |i: usize| {
        usize::try_from(number(argument(i))?).map_err(|_| "a negative length".to_owned())
    };
    let own = |i: usize| fd(number(argument(i))?);
    Ok(match line.name.as_str() {
        "socket" => Call::Socket {
            // packetdrill's `...`: the family that the script runs under.
            family: match argument(0) {
                Expression::Anything => 0,
                family => number(family)? as i32,
            },
            kind: int(1)?,
            protocol: int(2)?,
        },
        "bind" => Call::Bind {
            fd: own(0)?,
            port: port(argument(1))?,
        },
        "listen" => Call::Listen {
            fd: own(0)?,
            backlog: int(1)?,
        },
        "accept" | "accept4" => Call::Accept {
            fd: own(0)?,
            flags: int_or(3, 0)?,
        },
        "connect" => Call::Connect { fd: own(0)? },
        "write" | "send" | "sendto" => Call::Send {
            fd: own(0)?,
            len: size(2)?,
            flags: int_or(3, 0)?,
            to_peer: line.name == "sendto",
        },
        "read" | "recv" | "recvfrom" => Call::Receive {
            fd: own(0)?,
            len: size(2)?,
            flags: int_or(3, 0)?,
        },
        "close" => Call::Close { fd: own(0)? },
        "shutdown" => Call::Shutdown {
            fd: own(0)?,
            how: int(1)?,
        },
        "setsockopt" => Call::SetOption {
            fd: own(0)?,
            level: int(1)?,
            name: int(2)?,
            value: option_bytes(argument(3))?,
        },
        "getsockopt" => Call::GetOption {
            fd: own(0)?,
            level: int(1)?,
            name: int(2)?,
            len: match argument(3) {
                Expression::Text(_) => 16,
                Expression::Anything => 4,
                value => option_bytes(value)?.len(),
            },
        },
        "fcntl" => Call::Fcntl {
            fd: own(0)?,
            command: int(1)?,
            argument: int_or(2, 0)?,
        },
        "ioctl" => Call::Ioctl {
            fd: own(0)?,
            request: number(argument(1))?,
        },
        "poll" => Call::Poll {
            fds: items(argument(0))
                .iter()
                .map(|item| {
                    let events = field_number(item, "events")? as i16;
                    Ok((fd(field_number(item, "fd")?)?, events))
                })
                .collect::<Result<_, String>>()?,
            timeout: int(2)?,
        },
        "epoll_create" | "epoll_create1" => Call::EpollCreate,
        "epoll_ctl" => Call::EpollControl {
            set: own(0)?,
            operation: int(1)?,
            fd: own(2)?,
            events: field_number(argument(3), "events")? as u32,
        },
        "epoll_wait" => Call::EpollWait {
            set: own(0)?,
            most: int(2)?,
            timeout: int(3)?,
        },
        other => return Err(format!("{other}() is not known here")),
    })
}

/// The port of an address; packetdrill's `...` is 8080.
fn port(address: &Expression) -> Result<u16, String> {
    match field(address, "sin_port").or_else(|| field(address, "sin6_port")) {
        None => Ok(crate::run::PORT),
        Some(Expression::Apply(name, arguments)) if name == "htons" && arguments.len() == 1 => {
            u16::try_from(number(&arguments[0])?).map_err(|_| "no port".into())
        }
        Some(other) => Err(format!("{other:?} is no port")),
    }
}

/// Whether what a call returns is a descriptor.
pub fn makes_descriptor(call: &Call) -> bool {
    matches!(
        call,
        Call::Socket { .. } | Call::Accept { .. } | Call::EpollCreate
    )
}

/// Compares what a call came to with what its line says; `fd` as in [`call`]. Descriptors that it
/// returns are not compared.
///
/// # Errors
/// What is different.
pub fn verify(
    line: &CallLine,
    call: &Call,
    outcome: &Outcome,
    fd: impl Fn(i64) -> Result<i32, String>,
) -> Result<(), String> {
    let got = match outcome.errno {
        0 => outcome.value.to_string(),
        errno => format!("-1 {}", constants::errno(errno)),
    };
    if line.result != Expression::Anything {
        let expected = number(&line.result)?;
        let any_descriptor = makes_descriptor(call) && expected >= 0 && outcome.value >= 0;
        if expected != outcome.value && !any_descriptor {
            let errno = line.errno.as_deref().unwrap_or_default();
            return Err(format!("expected {expected} {errno}, got {got}"));
        }
    }
    if let Some(name) = &line.errno {
        let expected = constants::value(name).ok_or(format!("{name} is no error known here"))?;
        if i64::from(outcome.errno) != expected {
            return Err(format!("expected -1 {name}, got {got}"));
        }
    }
    if outcome.value < 0 {
        return Ok(());
    }
    match call {
        Call::GetOption { .. } => verify_option(line, &outcome.bytes),
        Call::Ioctl { .. } => verify_option_value(line.arguments.get(2), &outcome.bytes),
        Call::Poll { .. } => verify_events(line.arguments.first(), "revents", outcome, fd),
        Call::EpollWait { .. } => {
            let first = line.arguments.get(1).filter(|_| outcome.value > 0);
            verify_events(first, "events", outcome, fd)
        }
        _ => Ok(()),
    }
}

fn verify_option(line: &CallLine, bytes: &[u8]) -> Result<(), String> {
    verify_option_value(line.arguments.get(3), bytes)?;
    match line.arguments.get(4) {
        None | Some(Expression::Anything) => Ok(()),
        Some(len) => match number(len)? {
            len if len == bytes.len() as i64 => Ok(()),
            len => Err(format!("expected {len} bytes, got {}", bytes.len())),
        },
    }
}

fn verify_option_value(expected: Option<&Expression>, bytes: &[u8]) -> Result<(), String> {
    let same = match expected {
        None | Some(Expression::Anything) => true,
        Some(Expression::Text(text)) => {
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            text.as_bytes() == &bytes[..end]
        }
        Some(value) => option_bytes(value)? == bytes,
    };
    if same {
        return Ok(());
    }
    let got = match <[u8; 4]>::try_from(bytes) {
        Ok(word) => i32::from_ne_bytes(word).to_string(),
        Err(_) => format!("{:?}", String::from_utf8_lossy(bytes)),
    };
    Err(format!("expected {expected:?}, got {got}"))
}

fn verify_events(
    expected: Option<&Expression>,
    name: &str,
    outcome: &Outcome,
    fd: impl Fn(i64) -> Result<i32, String>,
) -> Result<(), String> {
    for item in expected.map_or(&[][..], items) {
        let wanted = field_number(item, name)? as u32;
        let number = field_number(item, "fd")?;
        let own = fd(number)?;
        let got = outcome.events.iter().find(|(fd, _)| *fd == own);
        let got = got.map_or(0, |(_, events)| *events);
        if got != wanted {
            return Err(format!(
                "expected events {wanted:#x} of descriptor {number}, got {got:#x}"
            ));
        }
    }
    Ok(())
}
