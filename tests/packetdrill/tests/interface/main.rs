//! The shared object through its C interface, as packetdrill uses it.

#![allow(unsafe_code)]

mod driver;
mod packets;

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

use driver::{Driver, PEER_ISN, PORT, from_peer};
use packets::{ACK, FIN, PEER, PEER6, PSH, RST, SYN, Segment};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));
/// Of the network from which packetdrill makes up its local address.
const LOCAL6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd3d, 0xfa7b, 0xd17d, 0x1234, 0, 0, 0, 9));
/// Bytes of the longest `struct tcp_info` that a packetdrill has.
const TCP_INFO_ROOM: u32 = 280;
const ESTABLISHED: u8 = 1;
const SO_MEMINFO: c_int = 55;

/// A process has one stack, so each test needs a process of its own: cargo nextest.
fn driver() -> Driver {
    Driver::load("receive_timeout=20")
}

/// getsockopt(2) by the main program's own libc, which is how packetdrill asks.
fn getsockopt(fd: c_int, level: c_int, name: c_int, room: u32) -> Result<Vec<u8>, i32> {
    let mut value = vec![0xee; room as usize];
    let mut len = room;
    // SAFETY: a value of `len` bytes.
    let result = unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &mut len) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
    }
    value.truncate(len as usize);
    Ok(value)
}

/// The third field of the thread's stat, as packetdrill reads it.
fn is_asleep(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.split(' ').nth(2) == Some("S")
}

/// Runs a call that blocks in a thread, and `meanwhile` once that thread is asleep.
fn blocking<T: Send>(call: impl FnOnce() -> T + Send, meanwhile: impl FnOnce()) -> T {
    let thread = AtomicI32::new(0);
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            // SAFETY: cannot fail.
            thread.store(unsafe { libc::gettid() }, Ordering::SeqCst);
            call()
        });
        while thread.load(Ordering::SeqCst) == 0 || !is_asleep(thread.load(Ordering::SeqCst)) {
            assert!(!blocked.is_finished(), "the call did not block");
            std::thread::yield_now();
        }
        meanwhile();
        blocked.join().unwrap()
    })
}

#[test]
fn a_connection_lives_and_dies() {
    let driver = driver();
    let listener = driver.listening(LOCAL);
    driver.set_non_blocking(listener);
    let before = driver.now_us();
    driver.inject(&from_peer(LOCAL));
    let (packet, time) = driver.receive().unwrap();
    assert!((before..=driver.now_us()).contains(&time), "{time}");
    let answer = Segment::from_packet(&packet);
    assert_eq!((answer.from, answer.to), ((LOCAL, PORT), PEER));
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, PEER_ISN + 1));
    let ack = Segment {
        flags: ACK,
        seq: PEER_ISN + 1,
        ack: answer.seq + 1,
        options: Vec::new(),
        ..from_peer(LOCAL)
    };
    driver.inject(&ack);

    // An injected packet has had its effect when the call returns.
    let fd = driver.accept(listener);
    assert!(fd >= 0);
    let info = getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, TCP_INFO_ROOM).unwrap();
    assert_eq!((info.len(), info[0]), (280, ESTABLISHED));
    let send_mss = u32::from_ne_bytes(info[16..20].try_into().unwrap());
    assert_eq!(send_mss, 1000);
    let memory = getsockopt(fd, libc::SOL_SOCKET, SO_MEMINFO, 36).unwrap();
    let buffer = getsockopt(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 4).unwrap();
    assert_eq!(memory[4..8], buffer);
    getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_CC_INFO, 20).unwrap();

    assert_eq!(driver.write(fd, &[7; 2000]), 2000);
    for flags in [ACK, PSH | ACK] {
        let data = driver.segment();
        assert_eq!((data.flags, data.payload), (flags, vec![7; 1000]));
    }
    driver.inject(&Segment {
        ack: ack.ack + 2000,
        payload: b"answer".to_vec(),
        ..ack.clone()
    });
    assert_eq!(driver.read(fd, 100), b"answer");

    assert_eq!(driver.close(fd), 0);
    let mut last = driver.segment();
    while last.flags & FIN == 0 {
        last = driver.segment();
    }
    assert_eq!(last.ack, ack.seq + 6);
    driver.inject(&Segment {
        flags: RST | ACK,
        seq: ack.seq + 6,
        ack: last.seq + 1,
        ..ack
    });
    assert_eq!(driver.close(listener), 0);
    // SAFETY: no pointers but packetdrill's own.
    unsafe { (driver.0.free)(driver.0.userdata) };
}

#[test]
fn a_thread_that_blocks_in_accept_is_asleep() {
    let driver = driver();
    let local = IpAddr::from([192, 168, 1, 1]);
    let listener = driver.listening(local);
    let fd = blocking(|| driver.accept(listener), || drop(driver.handshake(local)));
    assert!(fd >= 0);
    driver.close(fd);
    driver.close(listener);
}

#[test]
fn a_thread_that_blocks_in_read_is_asleep() {
    let driver = driver();
    // packetdrill makes up an address of the network when it is not told one.
    let local = IpAddr::from([192, 168, 211, 77]);
    let listener = driver.listening(local);
    let ack = driver.handshake(local);
    let fd = driver.accept(listener);
    let data = Segment {
        flags: PSH | ACK,
        payload: vec![3; 500],
        ..ack
    };
    let read = blocking(|| driver.read(fd, 1000), || driver.inject(&data));
    assert_eq!(read, vec![3; 500]);
    driver.close(fd);
    driver.close(listener);
}

/// Connects a socket to `peer`, which answers; nothing else may be on the wire.
fn connects(driver: &Driver, fd: c_int, to: IpAddr, peer: (IpAddr, u16)) {
    let call = || driver.connect(fd, (to, peer.1));
    let answer = || {
        let syn = driver.segment();
        assert_eq!((syn.flags, syn.to), (SYN, peer));
        driver.inject(&Segment {
            from: peer,
            to: syn.from,
            flags: SYN | ACK,
            seq: PEER_ISN,
            ack: syn.seq + 1,
            options: vec![2, 4, 0x03, 0xe8],
            payload: Vec::new(),
        });
        let ack = driver.segment();
        assert_eq!((ack.flags, ack.ack), (ACK, PEER_ISN + 1));
    };
    assert_eq!(blocking(call, answer), 0);
    driver.close(fd);
}

#[test]
fn a_connection_is_made_to_the_peer() {
    let driver = driver();
    connects(&driver, driver.socket(), PEER.0, PEER);
}

#[test]
fn a_connection_is_made_over_ipv6_and_nobody_is_solicited() {
    let driver = driver();
    connects(&driver, driver.socket_of(libc::AF_INET6), PEER6.0, PEER6);
}

#[test]
fn a_mapped_address_makes_a_connection_over_ipv4() {
    let driver = driver();
    let IpAddr::V4(peer) = PEER.0 else {
        panic!("the peer has an IPv4 address");
    };
    let mapped = IpAddr::V6(peer.to_ipv6_mapped());
    connects(&driver, driver.socket_of(libc::AF_INET6), mapped, PEER);
}

#[test]
fn a_listener_at_any_ipv6_address_of_the_network_takes_connections() {
    let driver = driver();
    let listener = driver.listening(LOCAL6);
    let ack = driver.handshake(LOCAL6);
    let fd = driver.accept(listener);
    driver.inject(&Segment {
        flags: ACK | PSH,
        payload: b"over IPv6".to_vec(),
        ..ack
    });
    assert_eq!(driver.segment().ack, PEER_ISN + 10);
    assert_eq!(driver.read(fd, 100), b"over IPv6");
}

#[test]
fn errors_come_back_in_errno() {
    let driver = driver();
    let fd = driver.socket();
    assert_eq!(driver.bind(fd, Ipv4Addr::new(10, 0, 0, 1).into()), -1);
    let errno = std::io::Error::last_os_error().raw_os_error();
    assert_eq!(errno, Some(libc::EADDRNOTAVAIL));
    driver.close(fd);
    assert_eq!(
        getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, 280),
        Err(libc::EBADF)
    );
}

#[test]
fn a_packet_that_does_not_come_is_reported_as_none() {
    let driver = Driver::load("receive_timeout=1");
    assert_eq!(driver.receive(), None);
}

#[test]
fn bytes_move_from_the_socket_through_a_pipe() {
    let driver = driver();
    let local = IpAddr::from([192, 168, 2, 1]);
    let listener = driver.listening(local);
    let ack = driver.handshake(local);
    let fd = driver.accept(listener);
    driver.inject(&Segment {
        flags: PSH | ACK,
        payload: vec![9; 100],
        ..ack
    });
    let mut pipe = [0; 2];
    let (mut from_offset, mut to_offset) = (0, 0);
    // SAFETY: room for two descriptors, and two offsets.
    let moved = unsafe {
        assert_eq!((driver.0.pipe)(driver.0.userdata, pipe.as_mut_ptr()), 0);
        (driver.0.splice)(
            driver.0.userdata,
            fd,
            &mut from_offset,
            pipe[1],
            &mut to_offset,
            100,
            0,
        )
    };
    assert_eq!(moved, 100);
    assert_eq!(driver.read(pipe[0], 200), vec![9; 100]);
    for fd in [pipe[0], pipe[1], fd, listener] {
        driver.close(fd);
    }
}

#[test]
fn a_file_goes_out_by_the_main_programs_sendfile() {
    let driver = driver();
    let local = IpAddr::from([192, 168, 4, 1]);
    let listener = driver.listening(local);
    driver.handshake(local);
    let fd = driver.accept(listener);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let mut offset = 0;
    // SAFETY: an offset, and no other pointer.
    let sent = unsafe { libc::sendfile(fd, file.as_raw_fd(), &mut offset, 4) };
    assert_eq!((sent, offset), (4, 4));
    assert_eq!(driver.segment().payload, b"\x7fELF");
    driver.close(fd);
    driver.close(listener);
}

#[test]
fn epoll_tells_of_data() {
    let driver = driver();
    let local = IpAddr::from([192, 168, 3, 1]);
    let listener = driver.listening(local);
    let ack = driver.handshake(local);
    let fd = driver.accept(listener);
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 42,
    };
    // SAFETY: one event to read, room for one.
    let mut wait = |epoll, timeout| unsafe {
        (driver.0.epoll_wait)(driver.0.userdata, epoll, &mut event, 1, timeout)
    };
    // SAFETY: no pointers but the event's.
    let epoll = unsafe {
        let epoll = (driver.0.epoll_create)(driver.0.userdata, 1);
        let mut watched = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: 42,
        };
        let add = libc::EPOLL_CTL_ADD;
        let added = (driver.0.epoll_ctl)(driver.0.userdata, epoll, add, fd, &mut watched);
        assert_eq!(added, 0);
        epoll
    };
    assert_eq!(wait(epoll, 0), 0);
    driver.inject(&Segment {
        flags: PSH | ACK,
        payload: b"x".to_vec(),
        ..ack
    });
    assert_eq!(wait(epoll, 0), 1);
    for fd in [epoll, fd, listener] {
        driver.close(fd);
    }
}
