//! The kernel is the oracle: the same calls on a socket of each, and the same answers.

#![allow(unsafe_code)]

use super::table::{Kind, ROWS, Row};
use super::*;
use crate::descriptor::close::close;
use crate::socket::{accept, create, listen};
use crate::testing::{WORKERS, answer, commands, engine, established, fresh};
use context::command::Op;
use context::context::INFO_WORDS;
use context::socket::state;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;

/// What a call gives: the value, or the errno.
type Answer = std::result::Result<Vec<u8>, c_int>;

/// Options that cannot be compared value by value; each is documented as different and has a test
/// of its own below.
const APART: &[&str] = &[
    "SO_RCVLOWAT",
    "SO_COOKIE",
    "SO_BUSY_POLL",
    "SO_MAX_PACING_RATE",
    "TCP_INFO",
    "TCP_CONGESTION",
    "TCP_CC_INFO",
    "TCP_FASTOPEN_KEY",
    "IP_OPTIONS",
    "IP_MTU_DISCOVER",
    "SO_TIMESTAMPING",
];

fn kernel(family: c_int) -> OwnedFd {
    // SAFETY: makes a descriptor that nobody else owns.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "no kernel socket of family {family}");
        OwnedFd::from_raw_fd(fd)
    }
}

/// A fresh socket of this thread. There is one at a time: the record begins a new life.
fn stack(family: c_int) -> SocketRef {
    thread_local! {
        static INDEX: u32 = fresh().index;
    }
    let index = INDEX.with(|index| *index);
    let generation = engine().record(index).reset();
    let socket = SocketRef::new(index, generation as u16).unwrap();
    if family == libc::AF_INET6 {
        let flags = &socket.record().app.flags;
        flags.fetch_or(flag::INET6, SeqCst);
    }
    socket
}

fn kernel_get(fd: &OwnedFd, level: c_int, name: c_int, room: usize) -> Answer {
    let mut bytes = [0xaau8; 512];
    let mut len = room as u32;
    // SAFETY: the buffer is longer than any room that is given here.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    match rc {
        0 => Ok(bytes[..len as usize].to_vec()),
        _ => Err(crate::errno::get()),
    }
}

fn kernel_set(fd: &OwnedFd, level: c_int, name: c_int, value: &[u8]) -> Answer {
    let (at, len) = (value.as_ptr().cast(), value.len() as u32);
    // SAFETY: the kernel reads the bytes.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, at, len) } {
        0 => Ok(Vec::new()),
        _ => Err(crate::errno::get()),
    }
}

fn stack_get(socket: SocketRef, level: c_int, name: c_int, room: usize) -> Answer {
    match get(socket, level, name) {
        Ok(value) => Ok(value.cut(level, room).to_vec()),
        Err(error) => Err(error.0),
    }
}

fn stack_set(socket: SocketRef, level: c_int, name: c_int, value: &[u8]) -> Answer {
    set(socket, level, name, value)
        .map(|()| Vec::new())
        .map_err(|e| e.0)
}

fn family_of(row: &Row) -> c_int {
    if row.level == libc::IPPROTO_IPV6 {
        libc::AF_INET6
    } else {
        libc::AF_INET
    }
}

/// An `int`, and zeros behind it.
fn payload(number: i32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes
}

#[test]
fn what_a_fresh_socket_shows_is_as_in_linux() {
    for row in ROWS.iter().filter(|row| !APART.contains(&row.name)) {
        let (kernel, stack) = (kernel(family_of(row)), stack(family_of(row)));
        // Their size before they are set is a matter of the machine's settings.
        if matches!(row.name, "SO_SNDBUF" | "SO_RCVBUF") || matches!(row.kind, Kind::Absent(_)) {
            continue;
        }
        for room in [0, 1, 2, 3, 4, 5, 8, 12, 16, 64, 256] {
            assert_eq!(
                stack_get(stack, row.level, row.number, room),
                kernel_get(&kernel, row.level, row.number, room),
                "{} with room for {room} bytes",
                row.name
            );
        }
    }
}

#[test]
fn what_is_set_is_taken_refused_and_read_back_as_in_linux() {
    let numbers = [
        0,
        1,
        2,
        3,
        5,
        87,
        88,
        127,
        128,
        255,
        256,
        300,
        5000,
        32_767,
        32_768,
        100_000,
        i32::MAX,
        -1,
        -2,
        i32::MIN,
    ];
    let rows = ROWS.iter().filter(|row| !APART.contains(&row.name));
    for row in rows.filter(|row| !matches!(row.kind, Kind::Only(_) | Kind::Absent(_))) {
        for number in numbers {
            for len in [4, 8, 16] {
                let value = &payload(number)[..len];
                let (kernel, stack) = (kernel(family_of(row)), stack(family_of(row)));
                let what = format!("{} = {number}, {len} bytes", row.name);
                let expected = kernel_set(&kernel, row.level, row.number, value);
                let result = stack_set(stack, row.level, row.number, value);
                assert_eq!(result, expected, "setting {what}");
                if expected.is_ok() {
                    assert_eq!(
                        stack_get(stack, row.level, row.number, 16),
                        kernel_get(&kernel, row.level, row.number, 16),
                        "reading {what}"
                    );
                }
            }
        }
    }
}

#[test]
fn short_values_are_refused_as_in_linux() {
    let rows = ROWS.iter().filter(|row| !APART.contains(&row.name));
    for row in rows.filter(|row| !matches!(row.kind, Kind::Only(_) | Kind::Absent(_))) {
        for len in 0..4 {
            let (kernel, stack) = (kernel(family_of(row)), stack(family_of(row)));
            // ip(7) takes no value at all for some flags; nobody asks for that.
            if len == 0 && row.level == libc::IPPROTO_IP && row.name != "IP_TOS" {
                continue;
            }
            assert_eq!(
                stack_set(stack, row.level, row.number, &payload(1)[..len]),
                kernel_set(&kernel, row.level, row.number, &payload(1)[..len]),
                "{} with {len} bytes",
                row.name
            );
        }
    }
}

#[test]
fn what_linux_has_and_the_stack_has_not_is_refused_unless_it_changes_nothing() {
    for row in ROWS {
        let socket = stack(family_of(row));
        match row.kind {
            Kind::Only(value) => {
                let same = payload(value);
                assert_eq!(
                    set(socket, row.level, row.number, &same),
                    Ok(()),
                    "{}",
                    row.name
                );
                let other = payload(if value == 1 { 2 } else { 1 });
                assert_eq!(
                    set(socket, row.level, row.number, &other),
                    Err(Errno(libc::ENOPROTOOPT)),
                    "{}",
                    row.name
                );
            }
            Kind::Absent(errno) => {
                let result = set(socket, row.level, row.number, &payload(1));
                assert_eq!(result, Err(Errno(errno)), "{}", row.name);
            }
            _ => {}
        }
    }
}

#[test]
fn options_that_nobody_knows_are_refused_as_in_linux() {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let (kernel, stack) = (kernel(family), stack(family));
        for level in [
            libc::SOL_SOCKET,
            libc::IPPROTO_TCP,
            libc::IPPROTO_IP,
            libc::IPPROTO_IPV6,
            libc::IPPROTO_UDP,
            9999,
        ] {
            for value in [&payload(1)[..0], &payload(1)[..4]] {
                assert_eq!(
                    stack_set(stack, level, 9999, value),
                    kernel_set(&kernel, level, 9999, value),
                    "family {family}, level {level}, {} bytes",
                    value.len()
                );
            }
            assert_eq!(
                stack_get(stack, level, 9999, 4),
                kernel_get(&kernel, level, 9999, 4),
                "family {family}, level {level}"
            );
        }
    }
    let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
    let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    assert_eq!(
        stack_set(stack, level, name, &payload(1)),
        kernel_set(&kernel, level, name, &payload(1))
    );
    assert_eq!(
        stack_get(stack, level, name, 4),
        kernel_get(&kernel, level, name, 4)
    );
}

#[test]
fn the_options_apart_are_documented_as_different() {
    for name in APART {
        let row = ROWS.iter().find(|row| row.name == *name).unwrap();
        assert!(!row.differs.is_empty(), "{name}");
    }
}

fn timeval(seconds: i64, us: i64) -> Vec<u8> {
    [seconds.to_ne_bytes(), us.to_ne_bytes()].concat()
}

#[test]
fn timeouts_are_as_in_linux() {
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        for (seconds, us) in [
            (0, 0),
            (5, 0),
            (5, 500_000),
            (0, 1_000_000),
            (0, -1),
            (-1, 0),
            (-1, 5),
            (i64::MAX, 0),
            (i64::MAX / 1_000_000, 0),
        ] {
            let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
            let value = timeval(seconds, us);
            assert_eq!(
                stack_set(stack, libc::SOL_SOCKET, name, &value),
                kernel_set(&kernel, libc::SOL_SOCKET, name, &value),
                "{seconds} s {us} us"
            );
            assert_eq!(
                stack_get(stack, libc::SOL_SOCKET, name, 16),
                kernel_get(&kernel, libc::SOL_SOCKET, name, 16),
                "{seconds} s {us} us"
            );
        }
    }
}

#[test]
fn a_negative_timeout_is_over_at_once_and_none_is_none() {
    let socket = fresh();
    let word = &socket.record().options.receive_timeout;
    set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeval(-1, 0)).unwrap();
    assert_eq!(word.load(SeqCst), 1, "microseconds");
    set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeval(0, 0)).unwrap();
    assert_eq!(word.load(SeqCst), 0);
}

#[test]
fn linger_is_as_in_linux() {
    for value in [[1i32, 0], [1, 5], [7, 5], [0, 0], [1, -1]] {
        let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
        let bytes = [value[0].to_ne_bytes(), value[1].to_ne_bytes()].concat();
        let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
        assert_eq!(
            stack_set(stack, level, name, &bytes),
            kernel_set(&kernel, level, name, &bytes)
        );
        if value[1] >= 0 {
            assert_eq!(
                stack_get(stack, level, name, 8),
                kernel_get(&kernel, level, name, 8),
                "{value:?}"
            );
        }
    }
}

#[test]
fn linger_that_is_switched_off_remembers_its_time() {
    let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
    let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
    for value in [[0, 7], [1, 5], [0, 7]] {
        let bytes = value.map(i32::to_ne_bytes).concat();
        stack_set(stack, level, name, &bytes).unwrap();
        kernel_set(&kernel, level, name, &bytes).unwrap();
        assert_eq!(
            stack_get(stack, level, name, 8),
            kernel_get(&kernel, level, name, 8)
        );
    }
    assert_eq!(stack.record().options.lingers(), None);
}

#[test]
fn a_pending_error_is_told_once() {
    let socket = established();
    engine().fail(socket, libc::ECONNRESET);
    let error = || stack_get(socket, libc::SOL_SOCKET, libc::SO_ERROR, 4);
    assert_eq!(error(), Ok(libc::ECONNRESET.to_ne_bytes().to_vec()));
    assert_eq!(error(), Ok(vec![0; 4]));
}

#[test]
fn the_engine_is_told_of_changes_once_it_knows_the_socket() {
    let socket = fresh();
    let on = &payload(1)[..4];
    commands();
    set(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, on).unwrap();
    assert_eq!(commands(), []);
    let flags = &socket.record().app.flags;
    flags.fetch_or(flag::KNOWN, SeqCst);
    set(socket, libc::IPPROTO_TCP, libc::TCP_CORK, on).unwrap();
    assert_eq!(commands(), [socket.command(Op::Options, 0)]);
}

#[test]
fn v6only_cannot_be_changed_once_the_socket_is_bound() {
    let socket = stack(libc::AF_INET6);
    engine().add_state(socket, state::CLOSE | state::BOUND);
    let result = set(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &payload(1));
    assert_eq!(result, Err(Errno(libc::EINVAL)));
}

#[test]
fn the_low_mark_always_fits_into_the_receive_buffer() {
    let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
    let read = |socket| stack_get(socket, level, name, 4);
    let shown = |low: i32| Ok(low.to_ne_bytes().to_vec());
    let socket = fresh();
    assert_eq!(read(socket), shown(1));
    for (asked, expected) in [(0, 1), (1000, 1000), (100_000, 32_768), (-1, 32_768)] {
        set(socket, level, name, &payload(asked)).unwrap();
        assert_eq!(read(socket), shown(expected), "{asked}");
    }
    set(socket, level, libc::SO_RCVBUF, &payload(50_000)).unwrap();
    set(socket, level, name, &payload(100_000)).unwrap();
    assert_eq!(read(socket), shown(50_000));
}

#[test]
fn kept_options_read_back_and_are_forgotten_with_the_socket() {
    let socket = fresh();
    let (level, name) = (libc::SOL_SOCKET, libc::SO_PRIORITY);
    set(socket, level, name, &payload(3)).unwrap();
    assert_eq!(stack_get(socket, level, name, 4), Ok(vec![3, 0, 0, 0]));
    assert_eq!(
        stack_set(socket, level, name, &payload(7)),
        kernel_set(&kernel(libc::AF_INET), level, name, &payload(7))
    );
    forget(socket);
    assert_eq!(stack_get(socket, level, name, 4), Ok(vec![0; 4]));
    let busy = libc::SO_BUSY_POLL;
    set(socket, level, busy, &payload(50)).unwrap();
    assert_eq!(stack_get(socket, level, busy, 4), Ok(vec![50, 0, 0, 0]));
    assert_eq!(
        stack_set(socket, level, busy, &payload(-1)),
        Err(libc::EINVAL)
    );
}

#[test]
fn the_rate_of_sending_is_limited_as_in_linux() {
    let (level, name) = (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE);
    for value in [
        &payload(0)[..4],
        &payload(1_000_000)[..4],
        &payload(-1)[..4],
        &payload(7)[..8],
        &(1u64 << 40).to_ne_bytes(),
        &[0xff; 8],
        &payload(1)[..3],
    ] {
        let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
        assert_eq!(
            stack_set(stack, level, name, value),
            kernel_set(&kernel, level, name, value),
            "{value:?}"
        );
        assert_eq!(
            stack_get(stack, level, name, 16),
            kernel_get(&kernel, level, name, 16),
            "{value:?}"
        );
    }
    let socket = stack(libc::AF_INET);
    assert_eq!(stack_get(socket, level, name, 4), Ok(vec![0xff; 4]));
}

#[test]
fn congestion_controls_are_named_as_in_linux() {
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_CONGESTION);
    let configured = &stack(libc::AF_INET).process().settings.tcp.congestion;
    let shown = stack_get(stack(libc::AF_INET), level, name, 16).unwrap();
    assert_eq!(shown.len(), 16);
    assert_eq!(
        shown.split(|b| *b == 0).next(),
        Some(configured.as_bytes()),
        "what is configured"
    );
    // Every kernel has these; what else there is depends on its modules.
    let long = [b'c'; 40];
    for value in [
        &b"reno"[..],
        b"cubic",
        b"cubic\0x",
        b"cubicc",
        b"\0",
        b"",
        &long,
    ] {
        let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
        let expected = kernel_set(&kernel, level, name, value);
        assert_eq!(stack_set(stack, level, name, value), expected, "{value:?}");
        for room in [3, 5, 16, 64] {
            if expected.is_ok() {
                assert_eq!(
                    stack_get(stack, level, name, room),
                    kernel_get(&kernel, level, name, room),
                    "{value:?}"
                );
            }
        }
    }
}

#[test]
fn congestion_controls_tell_of_themselves_as_in_linux() {
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_CC_INFO);
    let dctcp = [1u16.to_ne_bytes().as_slice(), &[0; 14]].concat();
    for (algorithm, expected) in [
        ("reno", Vec::new()),
        ("cubic", Vec::new()),
        ("bbr", vec![0; 20]),
        ("dctcp", dctcp),
    ] {
        let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
        let value = algorithm.as_bytes();
        stack_set(stack, level, libc::TCP_CONGESTION, value).unwrap();
        // Not every kernel has all of them.
        let known = kernel_set(&kernel, level, libc::TCP_CONGESTION, value).is_ok();
        for room in [0, 7, 16, 20, 64] {
            let shown = stack_get(stack, level, name, room);
            let expected = expected[..room.min(expected.len())].to_vec();
            if known {
                assert_eq!(kernel_get(&kernel, level, name, room), Ok(expected.clone()));
            }
            assert_eq!(shown, Ok(expected), "{algorithm}");
        }
    }
    let mut words = [0; REPLY_WORDS];
    words[0] = u64::from(state::ESTABLISHED);
    words[INFO_WORDS..][..4].copy_from_slice(&[20, 5 << 32 | 4, 7 << 32 | 6, 8]);
    answer(Op::Info, &words, || {
        let shown = stack_get(established(), level, name, 64).unwrap();
        assert_eq!(shown, [4, 5, 6, 7, 8].map(u32::to_ne_bytes).concat());
    });
}

#[test]
fn keys_of_fast_open_are_taken_and_shown_as_in_linux() {
    let (level, name) = (libc::IPPROTO_TCP, 33);
    for len in [0, 15, 16, 17, 32, 33] {
        let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
        let key = [7; 40];
        assert_eq!(
            stack_set(stack, level, name, &key[..len]),
            kernel_set(&kernel, level, name, &key[..len]),
            "{len} bytes"
        );
        for room in [0, 4, 16, 20, 64] {
            assert_eq!(
                stack_get(stack, level, name, room),
                kernel_get(&kernel, level, name, room),
                "{len} bytes, room for {room}"
            );
        }
    }
}

/// What may be set on a listener and on a connection is not what may be set on a fresh socket.
#[test]
fn what_is_set_on_a_listener_is_taken_or_refused_as_in_linux() {
    let rows = ROWS.iter().filter(|row| {
        row.level == libc::IPPROTO_TCP && !APART.contains(&row.name) && row.name != "TCP_MAXSEG"
    });
    for row in rows.filter(|row| matches!(row.kind, Kind::Own { .. } | Kind::Number { .. })) {
        for number in [0, 1, 7, 1000, -1] {
            let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
            // SAFETY: numbers only.
            assert_eq!(unsafe { libc::listen(kernel.as_raw_fd(), 1) }, 0);
            let state = &stack.record().engine.state;
            state.store(state::LISTEN | state::BOUND, SeqCst);
            let value = &payload(number)[..4];
            assert_eq!(
                stack_set(stack, row.level, row.number, value),
                kernel_set(&kernel, row.level, row.number, value),
                "{} = {number}",
                row.name
            );
            assert_eq!(
                stack_get(stack, row.level, row.number, 16),
                kernel_get(&kernel, row.level, row.number, 16),
                "{} = {number}",
                row.name
            );
        }
    }
}

#[test]
fn no_ip_options_can_be_set() {
    let socket = fresh();
    let (level, name) = (libc::IPPROTO_IP, libc::IP_OPTIONS);
    assert_eq!(set(socket, level, name, b""), Ok(()));
    assert_eq!(
        set(socket, level, name, &[7; 8]),
        Err(Errno(libc::ENOPROTOOPT))
    );
    assert_eq!(stack_get(socket, level, name, 40), Ok(Vec::new()));
}

#[test]
fn timestamps_cannot_be_asked_for() {
    let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
    let (level, name) = (libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
    assert_eq!(
        stack_get(stack, level, name, 16),
        kernel_get(&kernel, level, name, 16)
    );
    assert_eq!(set(stack, level, name, &payload(0)), Ok(()));
    assert_eq!(
        set(stack, level, name, &payload(8)),
        Err(Errno(libc::ENOPROTOOPT))
    );
}

#[test]
fn each_socket_has_a_cookie_of_its_own() {
    let cookie = |socket| stack_get(socket, libc::SOL_SOCKET, libc::SO_COOKIE, 8);
    let (a, b) = (fresh(), fresh());
    assert_eq!(cookie(a), cookie(a));
    assert_ne!(cookie(a), cookie(b));
}

#[test]
fn the_info_of_a_fresh_socket_is_that_of_linux() {
    let (kernel, stack) = (kernel(libc::AF_INET), stack(libc::AF_INET));
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    let expected = kernel_get(&kernel, level, name, 248).unwrap();
    let shown = stack_get(stack, level, name, 248).unwrap();
    // The times of what has not happened count from when the machine started.
    let times = 44..60;
    // tcpi_delivery_rate_app_limited: of no rate.
    for at in (0..expected.len()).filter(|at| !times.contains(at) && *at != 7) {
        assert_eq!(shown.get(at), Some(&expected[at]), "byte {at}");
    }
    for room in [0, 1, 7, 104, 512] {
        let shown = stack_get(stack, level, name, room).unwrap();
        assert_eq!(shown.len(), room.min(info::LEN));
    }
}

#[test]
fn the_info_of_a_connection_is_the_engines() {
    let socket = established();
    let mut words = [0; REPLY_WORDS];
    words[0] = u64::from(state::ESTABLISHED);
    words[2] = 1448;
    words[60 / 8] = 1500 << 32;
    answer(Op::Info, &words, || {
        let value = stack_get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, 24).unwrap();
        assert_eq!(value[0], state::ESTABLISHED as u8);
        assert_eq!(value[16..20], 1448u32.to_ne_bytes());
    });
    answer(Op::Info, &words, || {
        let value = stack_get(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, 4);
        assert_eq!(value, Ok(1448i32.to_ne_bytes().to_vec()));
    });
    answer(Op::Info, &words, || {
        let value = stack_get(socket, libc::IPPROTO_IP, libc::IP_MTU, 4);
        assert_eq!(value, Ok(1500i32.to_ne_bytes().to_vec()));
    });
}

#[test]
fn a_connection_names_its_workers_core_and_a_listener_the_one_that_was_set() {
    let listener = stack(libc::AF_INET);
    let fd = create::attach(listener, true).unwrap();
    listen::bind(fd, listener, "10.77.0.2:7205".parse().unwrap()).unwrap();
    listen::listen(fd, listener, 16).unwrap();
    let core_of = |socket| stack_get(socket, libc::SOL_SOCKET, libc::SO_INCOMING_CPU, 4);
    let shown = |core: i32| Ok(core.to_ne_bytes().to_vec());
    assert_eq!(core_of(listener), shown(-1));
    let three = payload(3);
    set(listener, libc::SOL_SOCKET, libc::SO_INCOMING_CPU, &three).unwrap();
    let peer = "10.77.0.1:5000".parse().unwrap();
    for worker in 0..WORKERS {
        engine().segment.worker(worker).runs_on(10 + worker as u32);
        let connection = engine().incoming_at(listener, peer, (worker, 0));
        let accepted = accept::accept(fd, listener, 0).unwrap();
        assert_eq!(core_of(connection), shown(10 + worker as i32));
        close(accepted.fd).unwrap();
    }
    assert_eq!(core_of(listener), shown(3));
    close(fd).unwrap();
}

#[test]
fn a_kernel_socket_that_takes_over_has_all_that_was_set() {
    let (kernel, stack) = (kernel(libc::AF_INET6), stack(libc::AF_INET6));
    let set_ints = [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR, 1),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::SOL_SOCKET, libc::SO_SNDBUF, 20_000),
        (libc::SOL_SOCKET, libc::SO_RCVBUF, 30_000),
        (libc::SOL_SOCKET, libc::SO_PRIORITY, 4),
        (libc::SOL_SOCKET, libc::SO_INCOMING_CPU, 1),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 100),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 10),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 30_000),
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 5),
        (libc::IPPROTO_TCP, libc::TCP_MAXSEG, 1000),
        (libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0),
        (libc::IPPROTO_TCP, libc::TCP_SYNCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_LINGER2, -1),
        (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, 20_000),
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, 16_384),
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16),
        (libc::IPPROTO_TCP, libc::TCP_INQ, 1),
        (libc::IPPROTO_IP, libc::IP_TOS, 0x10),
        (libc::IPPROTO_IP, libc::IP_TTL, 33),
        (libc::IPPROTO_IP, libc::IP_FREEBIND, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, 9),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 0x20),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    ];
    for (level, name, number) in set_ints {
        set(stack, level, name, &payload(number)[..4]).unwrap();
    }
    let linger = [1i32.to_ne_bytes(), 7i32.to_ne_bytes()].concat();
    set(stack, libc::SOL_SOCKET, libc::SO_LINGER, &linger).unwrap();
    set(stack, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeval(3, 0)).unwrap();
    replay(stack, kernel.as_raw_fd());
    for (level, name, _) in set_ints.into_iter().chain([
        (libc::SOL_SOCKET, libc::SO_LINGER, 0),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO, 0),
    ]) {
        assert_eq!(
            kernel_get(&kernel, level, name, 16),
            stack_get(stack, level, name, 16),
            "level {level} option {name}"
        );
    }
}
