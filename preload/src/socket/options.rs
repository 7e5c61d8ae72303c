//! Socket options: getsockopt(2) and setsockopt(2) of the stack's sockets, as socket(7), ip(7),
//! ipv6(7) and tcp(7) have them.
//!
//! What an option is and does stands in one [`table`]. Nothing is accepted without its effect: an
//! option that the stack does not have fails as in a kernel without it, and is named in the log.

#![allow(unsafe_code)]

mod as_kernel;
mod info;
mod kept;
mod limits;
pub mod table;
mod tcp;
mod values;

use super::SocketRef;
use crate::errno::{Errno, Result};
use as_kernel::Question;
use context::command::Op;
use context::context::REPLY_WORDS;
use context::socket::{Options, flag};
use kept::Key;
use std::ffi::c_int;
use std::fmt::Display;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use table::{Kind, Row};
pub use values::take_error;

/// The longest value: `struct tcp_info`.
const LONGEST: usize = REPLY_WORDS * 8;

/// The value of an option.
pub struct Value {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Value {
    fn of(bytes: &[u8]) -> Value {
        let mut value = Value {
            bytes: [0; LONGEST],
            len: bytes.len().min(LONGEST),
        };
        value.bytes[..value.len].copy_from_slice(&bytes[..value.len]);
        value
    }

    fn int(number: i32) -> Value {
        Value::of(&number.to_ne_bytes())
    }

    fn ints<const N: usize>(numbers: [i32; N]) -> Value {
        let mut value = Value::of(&[]);
        for number in numbers {
            value.bytes[value.len..value.len + 4].copy_from_slice(&number.to_ne_bytes());
            value.len += 4;
        }
        value
    }

    /// Microseconds as `struct timeval`.
    fn time(us: u64) -> Value {
        let mut value = Value::of(&[0; 16]);
        value.bytes[..8].copy_from_slice(&(us / 1_000_000).to_ne_bytes());
        value.bytes[8..16].copy_from_slice(&(us % 1_000_000).to_ne_bytes());
        value
    }

    /// The value.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What getsockopt(2) copies to a program that has room for `room` bytes: a prefix, or in
    /// ip(7) one byte if the value fits and there is no room for an `int`.
    pub fn cut(&self, level: c_int, room: usize) -> &[u8] {
        let int: Option<[u8; 4]> = self.bytes().try_into().ok();
        if level == libc::IPPROTO_IP
            && (1..4).contains(&room)
            && int.is_some_and(|int| (0..=255).contains(&i32::from_ne_bytes(int)))
        {
            return &self.bytes[..1];
        }
        &self.bytes[..self.len.min(room)]
    }
}

/// Reads an option.
///
/// # Errors
/// As getsockopt(2): `ENOPROTOOPT` for options that the stack does not have.
pub fn get(socket: SocketRef, level: c_int, name: c_int) -> Result<Value> {
    let row = table::find(socket, level, name).ok_or(Errno(unknown(socket, level, name)))?;
    let options = &socket.record().options;
    match &row.kind {
        Kind::Bit(bit) => Ok(Value::int((options.bits.load(Relaxed) & bit != 0).into())),
        Kind::Number { word, default, .. } => {
            let number = word(options).load(Relaxed) as i32;
            Ok(Value::int(match number {
                0 => default(&socket.process().settings.tcp),
                number => number,
            }))
        }
        Kind::Kept { default, known, .. } => {
            let kept = || kept::get(key_of(socket), level, name).unwrap_or(*default);
            Ok(Value::int(known(socket).unwrap_or_else(kept)))
        }
        Kind::AsKernel => Ok(Value::int(question(socket, level, name).get()?)),
        Kind::Only(value) => Ok(Value::int(*value)),
        Kind::Shown(read) | Kind::Own { read, .. } => read(socket),
        Kind::Absent(_) => Err(Errno(libc::ENOPROTOOPT)),
    }
}

/// What getsockopt(2) says to an option that there is not: a socket of family AF_INET knows no other
/// level than its own.
fn unknown(socket: SocketRef, level: c_int, number: c_int) -> c_int {
    match level {
        // Not the same for all options.
        libc::IPPROTO_IP => match question(socket, level, number).get() {
            Err(error) => error.0,
            Ok(_) => libc::ENOPROTOOPT,
        },
        libc::SOL_SOCKET | libc::IPPROTO_TCP => libc::ENOPROTOOPT,
        _ if is_inet6(socket) => libc::ENOPROTOOPT,
        _ => libc::EOPNOTSUPP,
    }
}

fn is_inet6(socket: SocketRef) -> bool {
    socket.flags() & flag::INET6 != 0
}

/// Sets an option, and tells the engine if it knows the socket.
///
/// # Errors
/// As setsockopt(2): `EINVAL` for a short or bad value, `ENOPROTOOPT` for options that the stack
/// does not have.
pub fn set(socket: SocketRef, level: c_int, name: c_int, value: &[u8]) -> Result<()> {
    let Some(row) = table::find(socket, level, name) else {
        // On a socket of IPv4 the kernel has none of IPv6's options either.
        if level != libc::IPPROTO_IPV6 || is_inet6(socket) {
            log_once(level, name, value);
        }
        let too_short = matches!(level, libc::SOL_SOCKET | libc::IPPROTO_TCP) && value.len() < 4;
        let errno = if too_short {
            libc::EINVAL
        } else {
            libc::ENOPROTOOPT
        };
        return Err(Errno(errno));
    };
    let options = &socket.record().options;
    let int = || int_of(level, value);
    match &row.kind {
        Kind::Bit(bit) => set_bit(options, *bit, int()? != 0),
        Kind::Number { word, range, .. } => {
            let number = Some(int()?).filter(|n| range.contains(n));
            word(options).store(number.ok_or(Errno(libc::EINVAL))? as u32, Relaxed);
        }
        Kind::Kept { accept, .. } => {
            kept::set(key_of(socket), level, name, accept(int()?)?)?;
            return Ok(());
        }
        Kind::AsKernel => return question(socket, level, name).set(value),
        Kind::Only(only) => {
            if int()? != *only {
                question(socket, level, name).try_set(value)?;
                log_once(level, name, value);
                return Err(Errno(libc::ENOPROTOOPT));
            }
            return Ok(());
        }
        Kind::Shown(_) => {
            if level != libc::IPPROTO_IP {
                int()?;
            }
            return Err(Errno(libc::ENOPROTOOPT));
        }
        Kind::Own { write, .. } => write(socket, value)?,
        Kind::Absent(errno) => {
            log_once(level, name, value);
            return Err(Errno(*errno));
        }
    }
    match socket.flags() & flag::KNOWN {
        0 => Ok(()),
        _ => socket.tell(Op::Options, 0),
    }
}

/// Sets on a kernel socket what was set on this one, before the kernel socket takes its place. What
/// the kernel refuses is named in the log: the program was told that it worked.
pub fn replay(socket: SocketRef, kernel: RawFd) {
    for row in table::ROWS {
        if let Some(value) = asked(socket, row) {
            let bytes = value.bytes();
            // SAFETY: the kernel only reads the bytes.
            let result = unsafe {
                crate::real::syscall(
                    libc::SYS_setsockopt,
                    [
                        kernel as usize,
                        row.level as usize,
                        row.number as usize,
                        bytes.as_ptr() as usize,
                        bytes.len(),
                        0,
                    ],
                )
            };
            if let Err(error) = result {
                crate::log::format(format_args!("the kernel refuses {}: {error}", row.name));
            }
        }
    }
}

/// Bytes written that were not sent even once, as the engine knows it (`tcpi_notsent_bytes`); without
/// an answer all that are not acknowledged.
pub fn not_sent(socket: SocketRef) -> u64 {
    match tcp::info_of(socket) {
        Some(words) if socket.record().unacked() > 0 => info::not_sent(&words),
        _ => socket.record().unacked(),
    }
}

/// Forgets what is kept for a socket whose last descriptor is closed.
pub fn forget(socket: SocketRef) {
    kept::forget(key_of(socket));
}

fn question(socket: SocketRef, level: c_int, number: c_int) -> Question {
    Question {
        key: key_of(socket),
        family: if is_inet6(socket) {
            libc::AF_INET6
        } else {
            libc::AF_INET
        },
        level,
        number,
    }
}

fn key_of(socket: SocketRef) -> Key {
    Key {
        index: socket.index,
        generation: socket.generation,
    }
}

/// The value that the program has asked for, as setsockopt(2) takes it; `None` if it did not.
fn asked(socket: SocketRef, row: &Row) -> Option<Value> {
    let options = &socket.record().options;
    if row.level == libc::IPPROTO_IPV6 && !is_inet6(socket) {
        return None;
    }
    match &row.kind {
        Kind::Bit(bit) => (options.bits.load(Relaxed) & bit != 0).then(|| Value::int(1)),
        Kind::Number { word, .. } => match word(options).load(Relaxed) {
            0 => None,
            number => Some(Value::int(number as i32)),
        },
        Kind::Kept { .. } | Kind::AsKernel => {
            kept::get(key_of(socket), row.level, row.number).map(Value::int)
        }
        Kind::Own { asked, .. } => asked(options),
        Kind::Only(_) | Kind::Shown(_) | Kind::Absent(_) => None,
    }
}

fn set_bit(options: &Options, bit: u32, on: bool) {
    if on {
        options.bits.fetch_or(bit, AcqRel);
    } else {
        options.bits.fetch_and(!bit, AcqRel);
    }
}

/// The `int` that setsockopt(2) was given. In ip(7) one byte does, and so, for some options, does
/// none.
fn int_of(level: c_int, value: &[u8]) -> Result<i32> {
    match (value.first_chunk(), value.first()) {
        (Some(int), _) => Ok(i32::from_ne_bytes(*int)),
        (None, Some(byte)) if level == libc::IPPROTO_IP => Ok((*byte).into()),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// [`log_value_once`] of a number.
fn log_once(level: c_int, name: c_int, value: &[u8]) {
    let number = value
        .first_chunk()
        .map_or(0, |int| i32::from_ne_bytes(*int));
    log_value_once(level, name, number);
}

/// One line for each option and process: programs set them on every connection.
fn log_value_once(level: c_int, name: c_int, value: impl Display) {
    static LOGGED: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
    let bit = (level.wrapping_mul(67).wrapping_add(name) as usize) % 256;
    let mask = 1 << (bit % 64);
    if LOGGED[bit / 64].fetch_or(mask, Relaxed) & mask != 0 {
        return;
    }
    let row = table::ROWS
        .iter()
        .find(|row| (row.level, row.number) == (level, name));
    match row {
        Some(row) => crate::log::format(format_args!(
            "setsockopt {} to {value}: the stack does not have it",
            row.name
        )),
        None => crate::log::format(format_args!(
            "setsockopt level {level} option {name} to {value}: the stack does not have it"
        )),
    }
}

#[cfg(test)]
mod tests;
