//! setsockopt(2) and getsockopt(2) of a script: into the socket's record and out of it.

use crate::call::Outcome;
use context::socket::{Options, Socket, congestion, option};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

/// Where an option's value stands.
enum Place<'a> {
    /// A word with the value itself.
    Word(&'a AtomicU32),
    /// A bit of [`Options::bits`].
    Bit(u32),
}

fn place(options: &Options, level: i32, name: i32) -> Option<Place<'_>> {
    Some(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => Place::Bit(option::KEEPALIVE),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => Place::Bit(option::REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT) => Place::Bit(option::REUSEPORT),
        (libc::SOL_SOCKET, libc::SO_OOBINLINE) => Place::Bit(option::OOBINLINE),
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => Place::Word(&options.send_buffer),
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => Place::Word(&options.receive_buffer),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT) => Place::Word(&options.receive_low),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => Place::Bit(option::NODELAY),
        (libc::IPPROTO_TCP, libc::TCP_CORK) => Place::Bit(option::CORK),
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK) => Place::Bit(option::QUICKACK),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT) => Place::Bit(option::FASTOPEN_CONNECT),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => Place::Word(&options.keep_idle),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => Place::Word(&options.keep_interval),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => Place::Word(&options.keep_count),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => Place::Word(&options.user_timeout),
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => Place::Word(&options.max_segment),
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT) => Place::Word(&options.syn_count),
        (libc::IPPROTO_TCP, libc::TCP_LINGER2) => Place::Word(&options.fin_wait2),
        (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP) => Place::Word(&options.window_clamp),
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT) => Place::Word(&options.notsent_low),
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) => Place::Word(&options.defer_accept),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN) => Place::Word(&options.fastopen_queue),
        _ => return None,
    })
}

/// Sets an option.
pub fn set(record: &Socket, level: i32, name: i32, value: &[u8]) -> Outcome {
    let options = &record.options;
    let word = |at: usize| value.get(at..at + 4).and_then(|w| w.try_into().ok());
    let number = word(0).map_or(0, i32::from_ne_bytes);
    match (level, name) {
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => match congestion::number(value) {
            Some(number) => options.congestion.store(number, SeqCst),
            None => return Outcome::failed(libc::ENOENT),
        },
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            let seconds = word(4).map_or(0, i32::from_ne_bytes);
            let on = if number != 0 { seconds as u32 + 1 } else { 0 };
            options.linger.store(on, SeqCst);
        }
        (libc::IPPROTO_IP, libc::IP_TOS) => {
            let others = options.tos_ttl.load(SeqCst) & !0xff;
            options.tos_ttl.store(others | number as u32 & 0xff, SeqCst);
        }
        (libc::IPPROTO_IP, libc::IP_TTL) => {
            let others = options.tos_ttl.load(SeqCst) & !0xff00;
            let ttl = (number as u32 & 0xff) << 8;
            options.tos_ttl.store(others | ttl, SeqCst);
        }
        _ => match place(options, level, name) {
            Some(Place::Word(word)) => word.store(number as u32, SeqCst),
            Some(Place::Bit(bit)) if number != 0 => {
                options.bits.fetch_or(bit, SeqCst);
            }
            Some(Place::Bit(bit)) => {
                options.bits.fetch_and(!bit, SeqCst);
            }
            None => return Outcome::failed(libc::ENOPROTOOPT),
        },
    }
    Outcome::done(0)
}

/// Reads an option.
pub fn get(record: &Socket, level: i32, name: i32, len: usize) -> Outcome {
    let options = &record.options;
    let number = match (level, name) {
        (libc::SOL_SOCKET, libc::SO_ERROR) => record.engine.error.swap(0, SeqCst) as u32,
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
            let name = congestion::name(options.congestion.load(SeqCst)).unwrap_or_default();
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(16.min(len), 0);
            return value(bytes);
        }
        _ => match place(options, level, name) {
            Some(Place::Word(word)) => word.load(SeqCst),
            Some(Place::Bit(bit)) => u32::from(options.bits.load(SeqCst) & bit != 0),
            None => return Outcome::failed(libc::ENOPROTOOPT),
        },
    };
    value(number.to_ne_bytes().to_vec())
}

fn value(bytes: Vec<u8>) -> Outcome {
    Outcome {
        bytes,
        ..Outcome::default()
    }
}
