//! ACKs that wait for what the program answers.

use crate::app::App;
use crate::bed::{Bed, Setup};
use crate::frames::TcpFrame;
use engine::tcp::{Duration, Flags};

const PORT: u16 = 80;
const REQUEST: usize = 64;

/// A server to which a request has come, its socket, and an ACK from the client.
fn asked() -> (Bed, App, u32, TcpFrame) {
    let mut setup = Setup::host(1);
    setup.config.tcp.quick_ack_delay = Duration::from_millis(5);
    let mut bed = setup.build();
    let mut app = bed.app(1);
    let listener = app.socket().unwrap();
    assert!(bed.listen(listener, PORT, 10));
    let (socket, frame) = ask(&mut bed, &mut app, listener, 5000);
    (bed, app, socket, frame)
}

/// A request from a port: the socket, and an ACK from the client.
fn ask(bed: &mut Bed, app: &mut App, listener: u32, port: u16) -> (u32, TcpFrame) {
    let mut frame = bed.segment_from(2, (port, PORT), Flags::SYN);
    let syn_ack = bed.answer(&frame);
    frame.flags = Flags::ACK;
    frame.seq += 1;
    frame.ack = syn_ack[0].seq.wrapping_add(1);
    bed.answer(&frame);
    let socket = app.accept(listener).unwrap();
    frame.payload = vec![1; REQUEST];
    assert!(bed.answer(&frame).is_empty(), "the ACK waits");
    assert_eq!(app.recv(socket, 100).len(), REQUEST);
    frame.seq = frame.seq.wrapping_add(REQUEST as u32);
    frame.payload.clear();
    (socket, frame)
}

#[test]
fn however_much_another_connection_says_the_ack_is_not_forgotten() {
    let (mut bed, mut app, _, first) = asked();
    let listener = app.socket().unwrap();
    assert!(bed.listen(listener, PORT + 1, 10));
    let mut frame = bed.segment_from(3, (6000, PORT + 1), Flags::SYN);
    let syn_ack = bed.answer(&frame);
    frame.flags = Flags::ACK;
    frame.seq += 1;
    frame.ack = syn_ack[0].seq.wrapping_add(1);
    bed.answer(&frame);
    frame.payload = vec![1; 8];
    assert!(bed.answer(&frame).is_empty(), "its ACK waits as well");
    frame.seq = frame.seq.wrapping_add(8);
    frame.payload.clear();
    for _ in 0..5000 {
        bed.answer(&frame);
    }
    assert!(bed.worker.acknowledge_put_off());
    bed.settle();
    let acks: Vec<u32> = bed.sent_segments().iter().map(|sent| sent.ack).collect();
    assert_eq!(acks, [first.seq, frame.seq]);
}

#[test]
fn an_answer_carries_the_ack() {
    let (mut bed, mut app, socket, request) = asked();
    app.send(socket, &[2; 32]);
    bed.settle();
    let sent = bed.sent_segments();
    assert_eq!((sent.len(), sent[0].payload.len()), (1, 32));
    assert_eq!(sent[0].ack, request.seq);
    assert!(!bed.worker.acknowledge_put_off());
}

#[test]
fn without_an_answer_the_ack_leaves_when_all_threads_sleep() {
    let (mut bed, _app, _, request) = asked();
    assert!(bed.worker.acknowledge_put_off());
    bed.settle();
    let sent = bed.sent_segments();
    assert_eq!((sent.len(), sent[0].ack), (1, request.seq));
    assert!(!bed.worker.acknowledge_put_off());
}

#[test]
fn without_an_answer_the_ack_leaves_after_its_delay() {
    let (mut bed, _app, _, request) = asked();
    bed.pass(10_000);
    let sent = bed.sent_segments();
    assert_eq!((sent.len(), sent[0].ack), (1, request.seq));
}
