//! The kernel's answers for frames, beside those of [`Rss`].
#![allow(unsafe_code)]

use super::*;
use std::net::SocketAddr;

const PROG_TEST_RUN: libc::c_long = 10;

/// What bpf(2) takes to run a program once.
#[repr(C)]
struct Run {
    program: u32,
    result: u32,
    data_len: u32,
    output_len: u32,
    data: u64,
    output: u64,
    repeat: u32,
    duration: u32,
}

/// The queue that the kernel chooses for a frame.
fn chosen(steering: &Steering, frame: &[u8]) -> u32 {
    let mut run = Run {
        program: steering.as_raw_fd() as u32,
        result: u32::MAX,
        data_len: frame.len() as u32,
        output_len: 0,
        data: frame.as_ptr() as u64,
        output: 0,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the structure and the frame live until the call is over; both lengths are given.
    let done = unsafe {
        let len = size_of::<Run>();
        libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut run, len)
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    run.result
}

/// The frame of a TCP segment, with so many words of IPv4 options.
fn frame(from: SocketAddr, to: SocketAddr, options: u8) -> Vec<u8> {
    let mut frame = vec![0; 12];
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            frame.extend([8, 0, 0x45 + options, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(from.ip().octets());
            frame.extend(to.ip().octets());
            frame.extend(vec![1; 4 * usize::from(options)]);
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            frame.extend(from.ip().octets());
            frame.extend(to.ip().octets());
        }
        _ => panic!("two families"),
    }
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend([0; 16]);
    frame
}

fn end(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), port)
}

#[test]
fn the_kernel_chooses_the_queue_that_the_hash_says() {
    let hosts = [
        ("10.77.0.1", "10.77.0.2"),
        ("192.0.2.200", "10.77.0.2"),
        ("fd77::1", "fd77::2"),
        ("2001:db8:1:2:3:4:5:6", "fd77::2"),
    ];
    for queues in [2, 3, 4, 16] {
        let steering = Steering::load(queues).unwrap();
        let rss = steering.rss();
        for (from, to) in hosts {
            for port in (1024..65_000).step_by(997) {
                let (from, to) = (end(from, port), end(to, 80));
                let expected = u32::from(rss.queue_for(from, to));
                let says = |options| chosen(&steering, &frame(from, to, options));
                assert_eq!(says(0), expected, "{from} to {to}, {queues} queues");
                if from.is_ipv4() {
                    assert_eq!(says(3), expected, "with options");
                }
            }
        }
    }
}

#[test]
fn what_has_no_ports_goes_to_the_first_queue() {
    let steering = Steering::load(2).unwrap();
    let (from, to) = (end("10.77.0.1", 1025), end("10.77.0.2", 80));
    let whole = (1025..1100)
        .map(|port| frame(end("10.77.0.1", port), to, 0))
        .find(|frame| chosen(&steering, frame) == 1)
        .unwrap();
    for (at, value) in [(20, 0x20), (21, 1), (23, 17), (14, 0x35)] {
        let mut frame = whole.clone();
        frame[at] = value;
        assert_eq!(chosen(&steering, &frame), 0, "byte {at}");
    }
    let mut arp = vec![0xff; 42];
    arp[12..16].copy_from_slice(&[8, 6, 0, 1]);
    assert_eq!(chosen(&steering, &arp), 0);
    // Shorter than its headers say.
    assert_eq!(chosen(&steering, &frame(from, to, 0)[..34]), 0);
}
