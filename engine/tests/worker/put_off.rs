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
    let mut frame = bed.segment_from(2, (5000, PORT), Flags::SYN);
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
    (bed, app, socket, frame)
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
