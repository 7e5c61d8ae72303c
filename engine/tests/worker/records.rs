//! The ends of records (`MSG_EOR`), which no segment crosses.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange};
use crate::conversation::Conversation;
use crate::fast_open::{connect_fast, fast_client, serving};
use crate::frames::TcpFrame;
use context::command::Op;
use context::socket::option;
use engine::tcp::Flags;
use std::sync::atomic::Ordering::SeqCst;

over_both_families! {
    a_write_after_the_end_of_a_record_does_not_join_it,
    the_end_of_a_record_in_a_syn_is_kept_when_its_data_is_sent_again,
}

/// Lengths of the payloads that `a` sends, but for those of SYNs.
fn payloads(a: &mut Bed, b: &mut Bed) -> Vec<usize> {
    let mut seen = Vec::new();
    exchange(a, b, |from_a, frame| {
        if from_a
            && let Some(segment) = TcpFrame::parse(frame)
            && !segment.has(Flags::SYN)
            && !segment.payload.is_empty()
        {
            seen.push(segment.payload.len());
        }
        true
    });
    seen
}

/// No small segment waits for another.
fn hurry(bed: &Bed, app: &mut App, socket: u32) {
    let record = bed.shared.segment.socket(socket).unwrap();
    record.options.bits.fetch_or(option::NODELAY, SeqCst);
    app.command(Op::Options, socket, 0);
}

fn a_write_after_the_end_of_a_record_does_not_join_it(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let Conversation { mut client, .. } = Conversation::start(&mut a, &mut b, (1, 1), 80);
    hurry(&a, &mut client.app, client.socket);
    client.app.send(client.socket, &[1; 100]);
    client.app.send(client.socket, &[2; 50]);
    assert_eq!(payloads(&mut a, &mut b), [150], "without a record");
    client.app.send(client.socket, &[1; 100]);
    client.app.command(Op::Send, client.socket, 250);
    client.app.send(client.socket, &[2; 50]);
    assert_eq!(payloads(&mut a, &mut b), [100, 50]);
}

fn the_end_of_a_record_in_a_syn_is_kept_when_its_data_is_sent_again(family: Family) {
    let (mut b, _server, listener) = serving(family, 5);
    let (mut a, mut client) = fast_client(family);
    // Gets the cookie.
    connect_fast(&mut client, &mut a, &b, b"");
    exchange(&mut a, &mut b, |_, _| true);
    // The server takes no data with SYNs any more.
    let options = &b.shared.segment.socket(listener).unwrap().options;
    options.fastopen_queue.store(0, SeqCst);
    let socket = connect_fast(&mut client, &mut a, &b, &[1; 100]);
    hurry(&a, &mut client, socket);
    client.command(Op::Send, socket, 100);
    a.settle();
    client.send(socket, &[2; 50]);
    assert_eq!(payloads(&mut a, &mut b), [100, 50]);
}
