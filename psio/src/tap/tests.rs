//! Each test makes a network namespace of its own, and so needs root (CAP_SYS_ADMIN).
#![allow(unsafe_code)]

use super::*;
use crate::segment::tests::tcp_frame;
use crate::segment::{fill_checksum, verify_checksum};
use crate::sys::wait_readable;
use crate::{ChecksumOffload, Gso, GsoKind, RxChecksum};
use std::net::UdpSocket;
use std::time::Duration;

/// Long enough for anything that will happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const STACK: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Runs `test` in a thread with an empty network namespace, which ends with it.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: changes the namespace of this thread alone, which has opened nothing yet.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        let error = io::Error::last_os_error();
        assert_eq!(
            result, 0,
            "TAP tests need CAP_SYS_ADMIN to make a network namespace: {error}"
        );
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A TAP with one queue, and the kernel's address on it.
fn open(config: &TapConfig) -> (Tap, Box<dyn Queue>) {
    let mut tap = Tap::open(config).unwrap();
    let queue = tap.open_queue(0).unwrap();
    (tap, queue)
}

fn exists(interface: &str) -> bool {
    let devices = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    devices
        .lines()
        .any(|line| line.trim_start().starts_with(&format!("{interface}:")))
}

/// Receives until `pick` takes something of a frame. The kernel sends frames of its own accord,
/// such as IPv6 router solicitations.
fn receive<T>(queue: &mut dyn Queue, mut pick: impl FnMut(&[u8], RxMeta) -> Option<T>) -> T {
    loop {
        let mut picked = None;
        let mut sink = |frame: &[u8], meta: RxMeta| picked = picked.take().or(pick(frame, meta));
        let taken = queue.receive(1, &mut sink).unwrap();
        if let Some(picked) = picked {
            return picked;
        }
        if taken == 0 {
            assert!(queue.arm());
            let [woken] = wait_readable([queue.wait_fd().unwrap()], Some(PATIENCE)).unwrap();
            queue.disarm(woken);
            assert!(woken, "the frame never came");
        }
    }
}

fn send(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) -> usize {
    queue.reserve(frame.len()).unwrap().copy_from_slice(frame);
    queue.commit(frame.len(), meta);
    queue.flush().unwrap()
}

/// Answers the kernel's question for the stack's address; returns the kernel's own.
fn answer_arp(queue: &mut dyn Queue, mac: MacAddr) -> MacAddr {
    let asks = [&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1][..]].concat();
    let host = receive(queue, |frame, _| {
        let matches = frame[12..22] == asks && frame[38..42] == STACK.octets();
        matches.then(|| MacAddr(frame[6..12].try_into().unwrap()))
    });
    let mut reply = [&host.0[..], &mac.0, &asks].concat();
    reply[21] = 2;
    reply.extend([&mac.0[..], &STACK.octets(), &host.0, &HOST.octets()].concat());
    assert_eq!(send(queue, &reply, TxMeta::default()), 1);
    host
}

#[test]
fn datagrams_cross_in_both_directions() {
    in_namespace(|| {
        let (tap, mut queue) = open(&TapConfig {
            mtu: 9000,
            ..TapConfig::default()
        });
        assert!(tap.capabilities().rx_coalescing);
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = socket.local_addr().unwrap().port();
        // Fits one packet only if the MTU was set.
        let question = [b'?'; 8000];
        socket.send_to(&question, (STACK, 7)).unwrap();
        let host = answer_arp(&mut queue, tap.mac());
        assert_ne!(host, tap.mac());

        let mut frame = receive(&mut queue, |frame, meta| {
            (frame[23] == 17 && frame[30..34] == STACK.octets()).then(|| {
                assert_eq!(
                    meta,
                    RxMeta {
                        checksum: RxChecksum::Good,
                        gso_size: 0
                    }
                );
                assert_eq!(frame[..6], tap.mac().0);
                assert_eq!(frame[42..], question);
                frame.to_vec()
            })
        });

        // Send it back with addresses and ports exchanged.
        frame[..6].copy_from_slice(&host.0);
        frame[6..12].copy_from_slice(&tap.mac().0);
        frame[26..30].copy_from_slice(&STACK.octets());
        frame[30..34].copy_from_slice(&HOST.octets());
        frame[34..36].copy_from_slice(&7u16.to_be_bytes());
        frame[36..38].copy_from_slice(&port.to_be_bytes());
        assert!(fill_checksum(&mut frame));
        assert_eq!(send(&mut queue, &frame, TxMeta::default()), 1);
        let mut answer = [0; 9000];
        let (len, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&question[..], (STACK, 7).into()));

        let stats = queue.stats();
        assert_eq!(
            (stats.tx_frames, stats.tx_dropped, stats.rx_dropped),
            (2, 0, 0)
        );
        assert_eq!(stats.tx_bytes, 42 + frame.len() as u64);
        assert!(stats.rx_frames >= 2 && stats.rx_bytes > 8042);
    });
}

#[test]
fn a_super_segment_reaches_the_kernel_whole() {
    in_namespace(|| {
        let (tap, mut queue) = open(&TapConfig::default());
        // Anything sent to a neighbour that is not known yet makes the kernel ask for it.
        UdpSocket::bind((HOST, 0))
            .unwrap()
            .send_to(b"?", (STACK, 7))
            .unwrap();
        let host = answer_arp(&mut queue, tap.mac());
        let payload = [7; 60_000];
        let mut frame = tcp_frame(false, 1000, 0x08, &payload);
        frame[..6].copy_from_slice(&host.0);
        frame[6..12].copy_from_slice(&tap.mac().0);
        frame[26..30].copy_from_slice(&STACK.octets());
        frame[30..34].copy_from_slice(&HOST.octets());
        // The sum of the pseudo-header alone: the kernel is to do the rest.
        let words = [0x0a4d, 0x0001, 0x0a4d, 0x0002, 6, 60_032u32];
        let sum: u32 = words.iter().sum();
        frame[50..52].copy_from_slice(&((sum & 0xffff) as u16 + (sum >> 16) as u16).to_be_bytes());
        let meta = TxMeta {
            checksum: Some(ChecksumOffload {
                start: 34,
                offset: 16,
            }),
            gso: Some(Gso {
                kind: GsoKind::TcpV4,
                size: 1448,
                header_len: 66,
            }),
        };
        assert_eq!(send(&mut queue, &frame, meta), 1);
        // Nobody listens. A reset for a segment without ACK acknowledges all of its bytes
        // (RFC 9293 §3.10.7.1), and there is just one if they came as one segment.
        let acknowledged = receive(&mut queue, |frame, meta| {
            (frame[23] == 6 && frame[47] == 0x14).then(|| {
                assert!(meta.checksum == RxChecksum::Good || verify_checksum(frame) == Some(true));
                u32::from_be_bytes(frame[42..46].try_into().unwrap())
            })
        });
        assert_eq!(acknowledged, 1000 + payload.len() as u32);
    });
}

#[test]
fn a_frame_that_the_kernel_refuses_is_counted_and_the_next_one_goes() {
    in_namespace(|| {
        let (_tap, mut queue) = open(&TapConfig::default());
        for len in [5, 60] {
            queue.reserve(len).unwrap().fill(0xff);
            queue.commit(len, TxMeta::default());
        }
        assert_eq!(queue.flush().unwrap(), 1);
        let stats = queue.stats();
        assert_eq!(
            (stats.tx_frames, stats.tx_bytes, stats.tx_dropped),
            (1, 60, 1)
        );
    });
}

#[test]
fn the_interface_lives_as_long_as_its_device_and_queues() {
    in_namespace(|| {
        let config = TapConfig {
            name: Some("cable".into()),
            queues: 2,
            ..TapConfig::default()
        };
        let mut tap = Tap::open(&config).unwrap();
        assert_eq!((tap.name(), tap.interface()), ("tap:cable", "cable"));
        assert_eq!(tap.capabilities().queues, 2);
        let mut first = tap.open_queue(0).unwrap();
        let mut second = tap.open_queue(1).unwrap();
        assert!(tap.open_queue(1).is_err() && tap.open_queue(2).is_err());
        for queue in [&mut first, &mut second] {
            assert_eq!(send(queue, &[0xff; 60], TxMeta::default()), 1);
        }
        drop(tap);
        assert!(exists("cable"));
        drop((first, second));
        assert!(!exists("cable"));
    });
}

#[test]
fn names_are_chosen_when_none_is_given() {
    in_namespace(|| {
        let no_address = TapConfig {
            host_addr: None,
            ..TapConfig::default()
        };
        let (a, b) = (
            Tap::open(&no_address).unwrap(),
            Tap::open(&no_address).unwrap(),
        );
        assert_eq!((a.interface(), b.interface()), ("mtcp0", "mtcp1"));
        assert!(exists("mtcp0") && exists("mtcp1"));
        assert_ne!(a.mac(), b.mac());
        assert_eq!(
            a.mac().0[0] & 3,
            2,
            "a unicast address, locally administered"
        );
    });
}

#[test]
fn an_interface_in_use_is_not_taken_twice() {
    in_namespace(|| {
        let config = TapConfig {
            name: Some("cable".into()),
            ..TapConfig::default()
        };
        let _tap = Tap::open(&config).unwrap();
        let error = Tap::open(&config).err().unwrap().to_string();
        assert!(error.contains("cable is in use"), "{error}");
        let other = TapConfig {
            name: Some("lo".into()),
            ..TapConfig::default()
        };
        let error = Tap::open(&other).err().unwrap().to_string();
        assert!(error.contains("lo, which is no TAP"), "{error}");
    });
}

#[test]
fn configurations_that_no_interface_can_have_are_refused() {
    let base = TapConfig::default();
    let named = |name: &str| TapConfig {
        name: Some(name.into()),
        ..TapConfig::default()
    };
    for (wrong, text) in [
        (
            TapConfig {
                queues: 0,
                ..base.clone()
            },
            "1 to 256 queues",
        ),
        (
            TapConfig {
                mtu: 67,
                ..base.clone()
            },
            "68 to 65521",
        ),
        (
            TapConfig {
                mtu: 65_522,
                ..base.clone()
            },
            "68 to 65521",
        ),
        (
            TapConfig {
                host_addr: Some((HOST, 33)),
                ..base
            },
            "at most 32 bits",
        ),
        (named(""), "no interface name"),
        (named("a/b"), "no interface name"),
        (named("sixteen-letters-"), "no interface name"),
    ] {
        let error = Tap::open(&wrong).err().unwrap();
        assert!(matches!(error, Error::Description(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

/// Takes all capabilities from this thread.
fn drop_capabilities() {
    // capset(2), version 3: 64 bits of capabilities in two parts of three words.
    let header: [u32; 2] = [0x2008_0522, 0];
    let none = [0u32; 6];
    // SAFETY: both arrays are what version 3 expects; the call is about this thread alone.
    let result = unsafe { libc::syscall(libc::SYS_capset, &header, &none) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn without_the_capability_the_error_says_how_to_get_it() {
    in_namespace(|| {
        drop_capabilities();
        let error = Tap::open(&TapConfig::default()).err().unwrap();
        assert!(matches!(error, Error::Missing { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("CAP_NET_ADMIN") && text.contains("--rootless"),
            "{text}"
        );
    });
}

#[test]
fn a_clone_device_that_cannot_be_opened_is_named_with_the_remedy() {
    for (errno, remedy) in [(libc::EACCES, "--rootless"), (libc::ENOENT, "modprobe tun")] {
        let error = interface::open_error(io::Error::from_raw_os_error(errno));
        assert!(matches!(error, Error::Missing { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("/dev/net/tun") && text.contains(remedy),
            "{text}"
        );
    }
}
