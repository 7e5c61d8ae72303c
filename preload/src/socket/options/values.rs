//! Options whose value is more than a bit or a number of the record.

use super::tcp::info_of;
use super::{Value, info, int_of, is_inet6, limits, log_once, set_bit};
use crate::errno::{Errno, Result};
use crate::readiness;
use crate::socket::SocketRef;
use context::socket::{LINGER_OFF, Options, flag, header, option, state};
use std::ffi::c_int;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Bits of [`Options::bits`] that the engine does not look at.
pub(super) mod shown {
    /// `TCP_QUICKACK` was set to 0: what the stack does anyway, but getsockopt(2) says 1 before.
    pub const QUICKACK_OFF: u32 = 1 << 31;
    /// `SO_BROADCAST`
    pub const BROADCAST: u32 = 1 << 30;
    /// `IPV6_RECVPKTINFO`
    pub const RECEIVE_PACKET_INFO: u32 = 1 << 29;
}

/// Takes the pending error, as `SO_ERROR` does; 0 if there is none.
pub fn take_error(socket: SocketRef) -> c_int {
    match socket.take_error() {
        0 if socket.process().is_engine_gone() => libc::ENETDOWN,
        error => error,
    }
}

/// `SO_ERROR`
pub(super) fn error(socket: SocketRef) -> Result<Value> {
    Ok(Value::int(take_error(socket)))
}

pub(super) fn domain(socket: SocketRef) -> Result<Value> {
    Ok(Value::int(if is_inet6(socket) {
        libc::AF_INET6
    } else {
        libc::AF_INET
    }))
}

pub(super) fn accepting(socket: SocketRef) -> Result<Value> {
    Ok(Value::int(
        (socket.record().tcp_state() == state::LISTEN).into(),
    ))
}

/// `SO_COOKIE`: a number that no other socket of this stack has.
pub(super) fn cookie(socket: SocketRef) -> Result<Value> {
    let generation = u64::from(socket.record().engine.generation.load(Relaxed));
    let cookie = generation << 32 | u64::from(socket.index);
    Ok(Value::of(&cookie.to_ne_bytes()))
}

/// `SO_PEERCRED`: no process, and no user, as for every socket that is not of the UNIX family.
pub(super) fn no_peer(_: SocketRef) -> Result<Value> {
    Ok(Value::ints([0, -1, -1]))
}

pub(super) fn empty(_: SocketRef) -> Result<Value> {
    Ok(Value::of(&[]))
}

pub(super) fn nothing(_: SocketRef) -> Option<i32> {
    None
}

/// `SO_INCOMING_CPU` of a socket for which packets have come: a listener's do not count, as in Linux.
pub(super) fn incoming_cpu(socket: SocketRef) -> Option<i32> {
    let was_connected = socket.record().engine.state.load(Relaxed) & state::WAS_CONNECTED != 0;
    let worker = socket.process().segment.worker(socket.worker());
    was_connected
        .then(|| worker.core())
        .flatten()
        .map(|core| core as i32)
}

pub(super) fn not_asked(_: &Options) -> Option<Value> {
    None
}

/// Least value of `SO_SNDBUF`, as the program reads it.
const LEAST_SEND_BUFFER: u32 = 4608;
/// Least value of `SO_RCVBUF`, as the program reads it.
const LEAST_RECEIVE_BUFFER: u32 = 2304;

/// The value as the program reads it: twice what it asked for (socket(7)).
pub(super) fn doubled(asked: u32, least: u32) -> Value {
    Value::int(asked.saturating_mul(2).clamp(least, i32::MAX as u32) as i32)
}

pub(super) fn send_buffer(socket: SocketRef) -> Result<Value> {
    let asked = socket.record().options.send_buffer.load(Relaxed);
    let tuned = socket.record().engine.tx_limit.load(Relaxed);
    Ok(match asked {
        // What a Linux socket begins with.
        0 => Value::int(tuned.clamp(16_384, i32::MAX as u32) as i32),
        _ => doubled(asked, LEAST_SEND_BUFFER),
    })
}

pub(super) fn receive_buffer(socket: SocketRef) -> Result<Value> {
    match socket.record().options.receive_buffer.load(Relaxed) {
        // What a Linux socket begins with.
        0 => Ok(Value::int(131_072)),
        asked => Ok(doubled(asked, LEAST_RECEIVE_BUFFER)),
    }
}

pub(super) fn set_send_buffer(socket: SocketRef, value: &[u8]) -> Result<()> {
    let asked = buffer_of(value, limits::send())?.max(LEAST_SEND_BUFFER / 2);
    socket.record().options.send_buffer.store(asked, Relaxed);
    Ok(())
}

pub(super) fn set_receive_buffer(socket: SocketRef, value: &[u8]) -> Result<()> {
    let asked = buffer_of(value, limits::receive())?.max(LEAST_RECEIVE_BUFFER / 2);
    socket.record().options.receive_buffer.store(asked, Relaxed);
    Ok(())
}

/// A negative size counts as unsigned, as in Linux: the biggest.
pub(super) fn buffer_of(value: &[u8], most: u32) -> Result<u32> {
    Ok((int_of(libc::SOL_SOCKET, value)? as u32).min(most))
}

pub(super) fn asked_send_buffer(options: &Options) -> Option<Value> {
    let asked = options.send_buffer.load(Relaxed);
    (asked != 0).then(|| Value::int(asked as i32))
}

pub(super) fn asked_receive_buffer(options: &Options) -> Option<Value> {
    let asked = options.receive_buffer.load(Relaxed);
    (asked != 0).then(|| Value::int(asked as i32))
}

pub(super) fn linger(socket: SocketRef) -> Result<Value> {
    let options = &socket.record().options;
    let remembered = options.linger.load(Relaxed) & !LINGER_OFF;
    let seconds = remembered.saturating_sub(1) as i32;
    Ok(Value::ints([options.lingers().is_some().into(), seconds]))
}

pub(super) fn set_linger(socket: SocketRef, value: &[u8]) -> Result<()> {
    let both: &[u8; 8] = value.first_chunk().ok_or(Errno(libc::EINVAL))?;
    let on = i32::from_ne_bytes([both[0], both[1], both[2], both[3]]) != 0;
    // A negative time counts as unsigned, as in Linux: for ever.
    let seconds = u32::from_ne_bytes([both[4], both[5], both[6], both[7]]);
    let linger = &socket.record().options.linger;
    if on {
        linger.store(seconds.min(LINGER_OFF - 2) + 1, Relaxed);
    } else {
        linger.fetch_or(LINGER_OFF, Relaxed);
    }
    Ok(())
}

pub(super) fn asked_linger(options: &Options) -> Option<Value> {
    let seconds = options.lingers()?;
    Some(Value::ints([1, seconds as i32]))
}

/// A time that has passed before it begins: what Linux makes of a negative one. It reads as 0.
const AT_ONCE: u64 = 1;

pub(super) fn timeout(word: &AtomicU64) -> Result<Value> {
    Ok(match word.load(Acquire) {
        AT_ONCE => Value::time(0),
        us => Value::time(us),
    })
}

pub(super) fn set_timeout(word: &AtomicU64, value: &[u8]) -> Result<()> {
    let both: &[u8; 16] = value.first_chunk().ok_or(Errno(libc::EINVAL))?;
    let half = |at: usize| i64::from_ne_bytes(both[at..at + 8].try_into().unwrap_or_default());
    let (seconds, us) = (half(0), half(8));
    if !(0..1_000_000).contains(&us) {
        return Err(Errno(libc::EDOM));
    }
    let us = match u64::try_from(seconds) {
        Err(_) => AT_ONCE,
        // Too long to be counted: for ever, as in Linux.
        Ok(seconds) => match seconds.checked_mul(1_000_000) {
            Some(whole) => match whole.saturating_add(us as u64) {
                AT_ONCE => AT_ONCE + 1,
                us => us,
            },
            None => 0,
        },
    };
    word.store(us, Release);
    Ok(())
}

pub(super) fn asked_timeout(word: &AtomicU64) -> Option<Value> {
    match word.load(Relaxed) {
        0 => None,
        AT_ONCE => {
            let mut value = Value::time(0);
            value.bytes[..8].copy_from_slice(&(-1i64).to_ne_bytes());
            Some(value)
        }
        us => Some(Value::time(us)),
    }
}

/// The most that a reader may ask to wait for: half of the receive buffer that was asked for, or of
/// what every connection begins with, so that it always fits.
pub(super) fn most_receive_low(options: &Options) -> u32 {
    match options.receive_buffer.load(Relaxed) {
        0 => 32_768,
        asked => asked,
    }
}

pub(super) fn receive_low(socket: SocketRef) -> Result<Value> {
    let low = socket.record().options.receive_low.load(Relaxed);
    Ok(Value::int(low.max(1) as i32))
}

pub(super) fn set_receive_low(socket: SocketRef, value: &[u8]) -> Result<()> {
    let options = &socket.record().options;
    let low = match int_of(libc::SOL_SOCKET, value)? {
        ..0 => u32::MAX,
        low => low as u32,
    };
    let low = low.clamp(1, most_receive_low(options));
    if options.receive_low.swap(low, Relaxed) > low {
        readiness::raise(socket.index);
    }
    Ok(())
}

pub(super) fn path_mtu(socket: SocketRef) -> Result<Value> {
    let is_connected = !matches!(
        socket.record().tcp_state(),
        state::CLOSE | state::LISTEN | state::SYN_SENT
    );
    let words = is_connected.then(|| info_of(socket)).flatten();
    let words = words.ok_or(Errno(libc::ENOTCONN))?;
    Ok(Value::int(info::path_mtu(&words)))
}

const TOS: u32 = header::TOS;
/// The bits for congestion notification, which a program cannot set on TCP (ip(7)).
const ECN: u32 = 0x3;

pub(super) fn tos(socket: SocketRef) -> Result<Value> {
    let word = socket.record().options.tos_ttl.load(Relaxed);
    Ok(Value::int((word & TOS) as i32))
}

pub(super) fn set_tos(socket: SocketRef, value: &[u8]) -> Result<()> {
    let tos = match value {
        [] => 0,
        _ => int_of(libc::IPPROTO_IP, value)? as u32 & TOS & !ECN,
    };
    update(&socket.record().options, |word| word & !TOS | tos);
    Ok(())
}

pub(super) fn ttl(socket: SocketRef) -> Result<Value> {
    Ok(Value::int(
        match socket.record().options.tos_ttl.load(Relaxed) >> header::TTL_SHIFT & 0xff {
            0 => 64,
            ttl => ttl as i32,
        },
    ))
}

pub(super) fn set_ttl(socket: SocketRef, value: &[u8]) -> Result<()> {
    let ttl = match int_of(libc::IPPROTO_IP, value)? {
        -1 => 0,
        ttl @ 1..=255 => ttl as u32,
        _ => return Err(Errno(libc::EINVAL)),
    };
    let all = 0xff << header::TTL_SHIFT;
    update(&socket.record().options, |word| {
        word & !all | ttl << header::TTL_SHIFT
    });
    Ok(())
}

pub(super) fn update(options: &Options, change: impl Fn(u32) -> u32) {
    // The closure always changes the word, so this cannot fail.
    let _ = options
        .tos_ttl
        .fetch_update(AcqRel, Relaxed, |word| Some(change(word)));
}

pub(super) fn v6_only(socket: SocketRef) -> Result<Value> {
    let bits = socket.record().options.bits.load(Relaxed);
    Ok(Value::int((bits & option::V6ONLY != 0).into()))
}

pub(super) fn set_v6_only(socket: SocketRef, value: &[u8]) -> Result<()> {
    let on = int_of(libc::IPPROTO_IPV6, value)? != 0;
    let is_bound = socket.state_bits() & state::BOUND != 0 || socket.flags() & flag::KNOWN != 0;
    if is_bound {
        return Err(Errno(libc::EINVAL));
    }
    set_bit(&socket.record().options, option::V6ONLY, on);
    Ok(())
}

pub(super) fn asked_v6_only(options: &Options) -> Option<Value> {
    (options.bits.load(Relaxed) & option::V6ONLY != 0).then(|| Value::int(1))
}

/// `IP_OPTIONS`: the stack sends none.
pub(super) fn set_ip_options(_: SocketRef, value: &[u8]) -> Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    log_once(libc::IPPROTO_IP, libc::IP_OPTIONS, value);
    Err(Errno(libc::ENOPROTOOPT))
}

/// `SO_BINDTODEVICE`: the stack has no device of a name.
pub(super) fn set_device(_: SocketRef, value: &[u8]) -> Result<()> {
    match value.first() {
        None | Some(0) => Ok(()),
        Some(_) => Err(Errno(libc::ENODEV)),
    }
}

pub(super) fn asked_receive_low(options: &Options) -> Option<Value> {
    let low = options.receive_low.load(Relaxed);
    (low != 0).then(|| Value::int(low as i32))
}

pub(super) fn asked_tos(options: &Options) -> Option<Value> {
    let tos = options.tos_ttl.load(Relaxed) & TOS;
    (tos != 0).then(|| Value::int(tos as i32))
}

pub(super) fn asked_ttl(options: &Options) -> Option<Value> {
    let ttl = options.tos_ttl.load(Relaxed) >> header::TTL_SHIFT & 0xff;
    (ttl != 0).then(|| Value::int(ttl as i32))
}

/// `SO_TIMESTAMPING`: only "off" can be asked for. Linux shows flags and the number of a clock.
pub(super) fn set_timestamping(_: SocketRef, value: &[u8]) -> Result<()> {
    if int_of(libc::SOL_SOCKET, value)? == 0 {
        return Ok(());
    }
    log_once(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, value);
    Err(Errno(libc::ENOPROTOOPT))
}

/// `IP_MTU_DISCOVER`: TCP makes no difference between these two modes; others would have it send
/// packets that may be fragmented, or too large.
pub(super) fn mtu_discovery(value: i32) -> Result<i32> {
    match value {
        libc::IP_PMTUDISC_WANT | libc::IP_PMTUDISC_DO => Ok(value),
        0..=5 => Err(Errno(libc::ENOPROTOOPT)),
        _ => Err(Errno(libc::EINVAL)),
    }
}

pub(super) fn not_negative(value: i32) -> Result<i32> {
    match value {
        0.. => Ok(value),
        _ => Err(Errno(libc::EINVAL)),
    }
}

/// `IPV6_UNICAST_HOPS`
pub(super) fn hops(socket: SocketRef) -> Result<Value> {
    let options = &socket.record().options;
    Ok(asked_hops(options).unwrap_or(Value::int(64)))
}

/// -1 asks for the default.
pub(super) fn set_hops(socket: SocketRef, value: &[u8]) -> Result<()> {
    let hops = match int_of(libc::IPPROTO_IPV6, value)? {
        -1 => 0,
        hops @ 0..=255 => (hops as u32) << header::HOPS_SHIFT | header::HOPS_ASKED,
        _ => return Err(Errno(libc::EINVAL)),
    };
    let all = 0xff << header::HOPS_SHIFT | header::HOPS_ASKED;
    update(&socket.record().options, |word| word & !all | hops);
    Ok(())
}

pub(super) fn asked_hops(options: &Options) -> Option<Value> {
    let word = options.tos_ttl.load(Relaxed);
    (word & header::HOPS_ASKED != 0).then(|| Value::int((word >> header::HOPS_SHIFT) as i32))
}

/// `IPV6_TCLASS`
pub(super) fn traffic_class(socket: SocketRef) -> Result<Value> {
    Ok(Value::int(class_of(&socket.record().options) as i32))
}

/// -1 asks for the default, and the ECN bits are TCP's own.
pub(super) fn set_traffic_class(socket: SocketRef, value: &[u8]) -> Result<()> {
    let class = match int_of(libc::IPPROTO_IPV6, value)? {
        -1 => 0,
        class @ 0..=255 => class as u32 & !ECN,
        _ => return Err(Errno(libc::EINVAL)),
    };
    update(&socket.record().options, |word| {
        word & !CLASS | class << header::CLASS_SHIFT
    });
    Ok(())
}

pub(super) fn asked_traffic_class(options: &Options) -> Option<Value> {
    let class = class_of(options);
    (class != 0).then(|| Value::int(class as i32))
}

const CLASS: u32 = (0xff & !ECN) << header::CLASS_SHIFT;

fn class_of(options: &Options) -> u32 {
    (options.tos_ttl.load(Relaxed) & CLASS) >> header::CLASS_SHIFT
}
