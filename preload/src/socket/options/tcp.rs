//! Options of tcp(7) whose value is more than a bit or a number of the record.

use super::values::shown;
use super::{Value, info, int_of, log_value_once, set_bit};
use crate::errno::{Errno, Result};
use crate::socket::SocketRef;
use crate::thread;
use config::fastopen;
use context::command::Op;
use context::context::REPLY_WORDS;
use context::socket::{Options, congestion, flag, option, state};
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn quick_ack(socket: SocketRef) -> Result<Value> {
    let off = socket.record().options.bits.load(Relaxed) & shown::QUICKACK_OFF != 0;
    Ok(Value::int((!off).into()))
}

pub(super) fn set_quick_ack(socket: SocketRef, value: &[u8]) -> Result<()> {
    let on = int_of(libc::IPPROTO_TCP, value)? != 0;
    let options = &socket.record().options;
    set_bit(options, option::QUICKACK, on);
    set_bit(options, shown::QUICKACK_OFF, !on);
    Ok(())
}

pub(super) fn asked_quick_ack(options: &Options) -> Option<Value> {
    let bits = options.bits.load(Relaxed);
    if bits & option::QUICKACK != 0 {
        Some(Value::int(1))
    } else {
        (bits & shown::QUICKACK_OFF != 0).then(|| Value::int(0))
    }
}

/// Segment size before a peer has had its say (RFC 9293, 3.7.1).
pub(super) const DEFAULT_SEGMENT: i32 = 536;

pub(super) fn max_segment(socket: SocketRef) -> Result<Value> {
    let asked = socket.record().options.max_segment.load(Relaxed) as i32;
    let is_open = !matches!(
        socket.record().tcp_state(),
        state::CLOSE | state::LISTEN | state::SYN_SENT
    );
    if is_open && let Some(words) = info_of(socket) {
        return Ok(Value::int(info::send_mss(&words)));
    }
    Ok(Value::int(if asked == 0 { DEFAULT_SEGMENT } else { asked }))
}

pub(super) fn set_max_segment(socket: SocketRef, value: &[u8]) -> Result<()> {
    let size = int_of(libc::IPPROTO_TCP, value)?;
    if size != 0 && !(88..=32_767).contains(&size) {
        return Err(Errno(libc::EINVAL));
    }
    let word = &socket.record().options.max_segment;
    word.store(size as u32, Relaxed);
    Ok(())
}

/// `TCP_DEFER_ACCEPT`: Linux turns seconds into a number of SYN-ACKs and shows when the last is
/// sent, counting from 1 second and doubling up to 120.
pub(super) fn set_defer_accept(socket: SocketRef, value: &[u8]) -> Result<()> {
    let asked = int_of(libc::IPPROTO_TCP, value)?;
    let (mut period, mut timeout, mut retries) = (0i32, 1i32, 0);
    while period < asked && retries < 255 {
        period += timeout;
        timeout = (timeout * 2).min(120);
        retries += 1;
    }
    let word = &socket.record().options.defer_accept;
    word.store(period as u32, Relaxed);
    Ok(())
}

pub(super) fn defer_accept(socket: SocketRef) -> Result<Value> {
    let seconds = socket.record().options.defer_accept.load(Relaxed);
    Ok(Value::int(seconds as i32))
}

pub(super) fn tcp_info(socket: SocketRef) -> Result<Value> {
    let words = match info_of_known(socket) {
        Some(words) => words,
        None => {
            let limit = !socket.record().options.pacing_limit.load(Relaxed);
            info::of_no_connection(socket.record().tcp_state(), limit)
        }
    };
    let mut value = Value::of(&[]);
    for (to, word) in value.bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    value.len = info::LEN;
    Ok(value)
}

/// `TCP_CC_INFO`
pub(super) fn congestion_info(socket: SocketRef) -> Result<Value> {
    if let Some(words) = info_of_known(socket) {
        return Ok(Value::of(&info::congestion(&words)));
    }
    // Before there is a connection, Linux has room for what the algorithm will know.
    Ok(match congestion_of(socket) {
        "bbr" => Value::ints([0; 5]),
        // `dctcp_enabled` stands first.
        "dctcp" => Value::ints([1i32.to_le(), 0, 0, 0]),
        _ => Value::of(&[]),
    })
}

/// What the engine knows of a socket that it has heard of.
fn info_of_known(socket: SocketRef) -> Option<[u64; REPLY_WORDS]> {
    let is_known =
        socket.flags() & flag::KNOWN != 0 || socket.state_bits() & state::WAS_CONNECTED != 0;
    is_known.then(|| info_of(socket)).flatten()
}

/// What the engine knows of the connection; `None` if it does not answer.
pub(super) fn info_of(socket: SocketRef) -> Option<[u64; REPLY_WORDS]> {
    thread::with_thread(|thread| thread.ask(Op::Info, socket.index))
        .ok()
        .flatten()
        .filter(|words| words[0] != 0)
}

/// Length of a congestion control's name (`TCP_CA_NAME_MAX`).
const CONGESTION_NAME: usize = 16;

fn congestion_value(name: &str) -> Value {
    let mut bytes = [0; CONGESTION_NAME];
    let len = name.len().min(CONGESTION_NAME - 1);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    Value::of(&bytes)
}

/// Name of the congestion control that was asked for, or is configured.
fn congestion_of(socket: SocketRef) -> &'static str {
    let number = socket.record().options.congestion.load(Relaxed);
    let configured = || socket.process().settings.tcp.congestion.as_str();
    congestion::name(number).unwrap_or_else(configured)
}

pub(super) fn congestion(socket: SocketRef) -> Result<Value> {
    Ok(congestion_value(congestion_of(socket)))
}

pub(super) fn set_congestion(socket: SocketRef, value: &[u8]) -> Result<()> {
    if value.is_empty() {
        return Err(Errno(libc::EINVAL));
    }
    let value = &value[..value.len().min(CONGESTION_NAME - 1)];
    let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let Some(number) = congestion::number(name) else {
        log_value_once(libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.escape_ascii());
        return Err(Errno(libc::ENOENT));
    };
    socket.record().options.congestion.store(number, Relaxed);
    Ok(())
}

pub(super) fn asked_congestion(options: &Options) -> Option<Value> {
    congestion::name(options.congestion.load(Relaxed)).map(congestion_value)
}

/// `TCP_ULP`: as a kernel that can load no protocol on top.
pub(super) fn set_upper_protocol(_: SocketRef, value: &[u8]) -> Result<()> {
    Err(Errno(if value.is_empty() {
        libc::EINVAL
    } else {
        libc::ENOENT
    }))
}

/// The longest time that `TCP_LINGER2` can ask for, in seconds (`TCP_FIN_TIMEOUT_MAX`).
const LONGEST_FIN_WAIT2: i32 = 120;
/// What the record says where the program wants no FIN-WAIT-2 at all.
const NO_FIN_WAIT2: u32 = u32::MAX;

pub(super) fn fin_wait2(socket: SocketRef) -> Result<Value> {
    Ok(Value::int(
        match socket.record().options.fin_wait2.load(Relaxed) {
            0 => number(socket.process().settings.tcp.fin_timeout),
            NO_FIN_WAIT2 => -1,
            seconds => number(seconds),
        },
    ))
}

pub(super) fn set_fin_wait2(socket: SocketRef, value: &[u8]) -> Result<()> {
    let word = match int_of(libc::IPPROTO_TCP, value)? {
        ..0 => NO_FIN_WAIT2,
        seconds => seconds.min(LONGEST_FIN_WAIT2) as u32,
    };
    socket.record().options.fin_wait2.store(word, Relaxed);
    Ok(())
}

pub(super) fn asked_fin_wait2(options: &Options) -> Option<Value> {
    match options.fin_wait2.load(Relaxed) {
        0 => None,
        // All ones are -1 as an `int`.
        seconds => Some(Value::int(seconds as i32)),
    }
}

/// Least window that `TCP_WINDOW_CLAMP` can ask for: half of Linux's least receive buffer.
const LEAST_CLAMP: i32 = 1152;

pub(super) fn set_window_clamp(socket: SocketRef, value: &[u8]) -> Result<()> {
    let clamp = match int_of(libc::IPPROTO_TCP, value)? {
        // Only before there is a connection can it be taken back.
        0 if socket.record().tcp_state() != state::CLOSE => return Err(Errno(libc::EINVAL)),
        0 => 0,
        asked => asked.max(LEAST_CLAMP),
    };
    let word = &socket.record().options.window_clamp;
    word.store(clamp as u32, Relaxed);
    Ok(())
}

pub(super) fn window_clamp(socket: SocketRef) -> Result<Value> {
    let clamp = socket.record().options.window_clamp.load(Relaxed);
    Ok(Value::int(clamp as i32))
}

pub(super) fn asked_window_clamp(options: &Options) -> Option<Value> {
    let clamp = options.window_clamp.load(Relaxed);
    (clamp != 0).then(|| Value::int(clamp as i32))
}

/// A setting as an `int`.
pub(super) fn number(setting: u32) -> i32 {
    i32::try_from(setting).unwrap_or(i32::MAX)
}

fn is_closed(socket: SocketRef) -> bool {
    socket.record().tcp_state() == state::CLOSE && socket.flags() & flag::CONNECTING == 0
}

pub(super) fn fastopen_queue(socket: SocketRef) -> Result<Value> {
    let queue = socket.record().options.fastopen_queue.load(Relaxed);
    Ok(Value::int(number(queue)))
}

/// `TCP_FASTOPEN`: how many connections may wait for the end of their handshake, no more than a
/// backlog can be.
pub(super) fn set_fastopen_queue(socket: SocketRef, value: &[u8]) -> Result<()> {
    let queue = u32::try_from(int_of(libc::IPPROTO_TCP, value)?);
    if !(is_closed(socket) || socket.is_listening()) {
        return Err(Errno(libc::EINVAL));
    }
    let queue = queue.map_err(|_| Errno(libc::EINVAL))?;
    let most = socket.process().settings.tcp.backlog_max;
    let word = &socket.record().options.fastopen_queue;
    word.store(queue.min(most), Relaxed);
    Ok(())
}

pub(super) fn asked_fastopen_queue(options: &Options) -> Option<Value> {
    let queue = options.fastopen_queue.load(Relaxed);
    (queue != 0).then(|| Value::int(number(queue)))
}

/// A switch that takes 0 and 1 only.
fn switch(value: &[u8]) -> Result<bool> {
    match int_of(libc::IPPROTO_TCP, value)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno(libc::EINVAL)),
    }
}

fn bit(socket: SocketRef, bit: u32) -> Value {
    Value::int((socket.record().options.bits.load(Relaxed) & bit != 0).into())
}

fn asked_bit(options: &Options, bit: u32) -> Option<Value> {
    (options.bits.load(Relaxed) & bit != 0).then(|| Value::int(1))
}

pub(super) fn fastopen_connect(socket: SocketRef) -> Result<Value> {
    Ok(bit(socket, option::FASTOPEN_CONNECT))
}

pub(super) fn set_fastopen_connect(socket: SocketRef, value: &[u8]) -> Result<()> {
    let on = switch(value)?;
    if socket.process().settings.tcp.fastopen & fastopen::CLIENT == 0 {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    if !is_closed(socket) {
        return Err(Errno(libc::EINVAL));
    }
    set_bit(&socket.record().options, option::FASTOPEN_CONNECT, on);
    Ok(())
}

pub(super) fn asked_fastopen_connect(options: &Options) -> Option<Value> {
    asked_bit(options, option::FASTOPEN_CONNECT)
}

pub(super) fn fastopen_no_cookie(socket: SocketRef) -> Result<Value> {
    Ok(bit(socket, option::FASTOPEN_NO_COOKIE))
}

pub(super) fn set_fastopen_no_cookie(socket: SocketRef, value: &[u8]) -> Result<()> {
    let on = switch(value)?;
    if !(is_closed(socket) || socket.is_listening()) {
        return Err(Errno(libc::EINVAL));
    }
    set_bit(&socket.record().options, option::FASTOPEN_NO_COOKIE, on);
    Ok(())
}

pub(super) fn asked_fastopen_no_cookie(options: &Options) -> Option<Value> {
    asked_bit(options, option::FASTOPEN_NO_COOKIE)
}

/// Bytes of one key of `TCP_FASTOPEN_KEY`.
const KEY: usize = 16;

/// `TCP_FASTOPEN_KEY`: a key, or a key and the one before it, whose cookies still count.
pub(super) fn set_fastopen_keys(socket: SocketRef, value: &[u8]) -> Result<()> {
    if value.len() != KEY && value.len() != 2 * KEY {
        return Err(Errno(libc::EINVAL));
    }
    let words = socket.record().options.fastopen_keys.as_flattened();
    for word in words {
        word.store(0, Relaxed);
    }
    for (word, bytes) in words.iter().zip(value.as_chunks().0) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    Ok(())
}

pub(super) fn fastopen_keys(socket: SocketRef) -> Result<Value> {
    Ok(asked_fastopen_keys(&socket.record().options).unwrap_or(Value::of(&[])))
}

pub(super) fn asked_fastopen_keys(options: &Options) -> Option<Value> {
    let mut value = Value::of(&[0; 2 * KEY]);
    let words = options.fastopen_keys.as_flattened();
    for (bytes, word) in value.bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
    }
    let is_set = |key: &[u8]| key.iter().any(|byte| *byte != 0);
    value.len = match (
        is_set(&value.bytes[..KEY]),
        is_set(&value.bytes[KEY..2 * KEY]),
    ) {
        (_, true) => 2 * KEY,
        (true, false) => KEY,
        (false, false) => return None,
    };
    Some(value)
}

pub(super) fn inq(socket: SocketRef) -> Result<Value> {
    Ok(bit(socket, option::INQ))
}

pub(super) fn set_inq(socket: SocketRef, value: &[u8]) -> Result<()> {
    let on = switch(value)?;
    set_bit(&socket.record().options, option::INQ, on);
    Ok(())
}

pub(super) fn asked_inq(options: &Options) -> Option<Value> {
    asked_bit(options, option::INQ)
}

pub(super) fn asked_defer_accept(options: &Options) -> Option<Value> {
    let seconds = options.defer_accept.load(Relaxed);
    (seconds != 0).then(|| Value::int(seconds as i32))
}

pub(super) fn asked_max_segment(options: &Options) -> Option<Value> {
    let size = options.max_segment.load(Relaxed);
    (size != 0).then(|| Value::int(size as i32))
}

/// `SO_MAX_PACING_RATE`: bytes per second in 4 or 8 bytes, all ones for no limit.
pub(super) fn set_pacing(socket: SocketRef, value: &[u8]) -> Result<()> {
    let rate = match value.first_chunk() {
        Some(long) => u64::from_ne_bytes(*long),
        None => match int_of(libc::SOL_SOCKET, value)? as u32 {
            u32::MAX => u64::MAX,
            rate => rate.into(),
        },
    };
    let word = &socket.record().options.pacing_limit;
    word.store(!rate, Relaxed);
    Ok(())
}

pub(super) fn pacing(socket: SocketRef) -> Result<Value> {
    let limit = socket.record().options.pacing_limit.load(Relaxed);
    Ok(Value::of(&(!limit).to_ne_bytes()))
}

pub(super) fn asked_pacing(options: &Options) -> Option<Value> {
    let limit = options.pacing_limit.load(Relaxed);
    (limit != 0).then(|| Value::of(&(!limit).to_ne_bytes()))
}
