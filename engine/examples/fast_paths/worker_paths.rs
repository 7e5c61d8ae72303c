//! Whole workers, from frames to the shared segment and back. The applications' own part is no
//! engine's cost: count inside `Worker::round` only.

use crate::app::App;
use crate::bed::{Bed, Setup, exchange};
use crate::frames::TcpFrame;
use engine::tcp::{Duration, Flags};
use psio::pair::PairConfig;
use psio::{RxChecksum, RxMeta};

const PORT: u16 = 80;
const FULL: usize = 1460;

/// A worker whose device has every offload, as a TAP or a wire has them, and whose ACKs wait for an answer
/// as those of `mtcp-run` do.
fn offloaded(host: u8) -> Bed {
    let mut setup = Setup {
        pair: PairConfig::default(),
        ..Setup::host(host)
    };
    setup.config.tcp.quick_ack_delay = Duration::from_millis(5);
    setup.build()
}

/// One in-order frame of 1,460 bytes each time, in bursts of 32, read by the application.
pub fn receive_in_order(times: u64) {
    let mut bed = offloaded(1);
    let mut app = bed.app(1);
    let listener = app.socket().expect("a record");
    assert!(bed.listen(listener, PORT, 10));
    let mut frame = bed.segment_from(2, (5000, PORT), Flags::SYN);
    let syn_ack: Vec<TcpFrame> = bed.answer(&frame);
    frame.flags = Flags::ACK;
    frame.seq += 1;
    frame.ack = syn_ack[0].seq.wrapping_add(1);
    bed.answer(&frame);
    let socket = app.accept(listener).expect("a connection");
    frame.payload = vec![0; FULL];
    for _ in 0..times.div_ceil(32) {
        for _ in 0..32 {
            let about = RxMeta {
                checksum: RxChecksum::Good,
                ..RxMeta::default()
            };
            bed.inject_with(&frame.bytes(), about);
            frame.seq = frame.seq.wrapping_add(FULL as u32);
        }
        bed.now += 10;
        bed.settle();
        let got = app.recv(socket, 32 * FULL);
        assert_eq!(got.len(), 32 * FULL, "everything arrives");
        bed.settle();
        bed.sent();
    }
}

fn carry(a: &mut Bed, b: &mut Bed) {
    a.now += 20;
    b.now = a.now;
    exchange(a, b, |_, _| true);
}

/// Sends 64 bytes. A thread is lent few chunks, and more in the next round.
fn send(app: &mut App, socket: u32, mut carry: impl FnMut()) {
    while app.send(socket, &[0; 64]) == 0 {
        carry();
    }
}

/// Connections that are at the same step together, as with many clients.
const TOGETHER: usize = 32;

/// Short connections between two workers: 64 bytes each way, closed by the server first. What is
/// counted is the cost of both sides.
pub fn short_connections(times: u64) {
    let (mut a, mut b) = (offloaded(1), offloaded(2));
    let (mut client, mut server) = (a.app(1), b.app(1));
    let listener = server.socket().expect("a record");
    assert!(b.listen(listener, PORT, 64));
    for _ in 0..times.div_ceil(TOGETHER as u64) {
        let mut sockets = Vec::with_capacity(TOGETHER);
        while sockets.len() < TOGETHER {
            match client.socket() {
                Some(socket) => sockets.push(socket),
                None => carry(&mut a, &mut b),
            }
        }
        for socket in &sockets {
            client.connect(*socket, b.at(PORT));
        }
        carry(&mut a, &mut b);
        for socket in &sockets {
            send(&mut client, *socket, || carry(&mut a, &mut b));
        }
        carry(&mut a, &mut b);
        for _ in &sockets {
            let accepted = server.accept(listener).expect("a connection waits");
            assert_eq!(server.recv(accepted, 64).len(), 64);
            send(&mut server, accepted, || carry(&mut a, &mut b));
            server.close(accepted);
        }
        carry(&mut a, &mut b);
        for socket in &sockets {
            assert_eq!(client.recv(*socket, 64).len(), 64);
            client.close(*socket);
        }
        carry(&mut a, &mut b);
    }
}
