//! Stream memory and socket records: lent, used, and given back.

use crate::bed::{Bed, Family, Setup, exchange, pass_together};
use crate::conversation::Conversation;
use crate::dice::Dice;
use context::chunk::SIZES;
use context::command::{Command, Op};
use engine::shared::Message;
use engine::stats::Counter;

over_both_families! {
    an_idle_connection_gives_its_chunks_back,
    unread_data_stays_within_the_receive_buffer,
    without_memory_data_waits_and_goes_on_later,
}

/// A connection over which a lot has gone in both directions.
fn busy(family: Family) -> (Bed, Bed, Conversation, Dice<'static>) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let mut dice = Dice::seeded(9);
    for _ in 0..100 {
        talk.go_on(&mut dice);
        exchange(&mut a, &mut b, |_, _| true);
    }
    (a, b, talk, dice)
}

fn an_idle_connection_gives_its_chunks_back(family: Family) {
    let (mut a, mut b, mut talk, mut dice) = busy(family);
    talk.finish(&mut a, &mut b);
    pass_together(&mut a, &mut b, 2_000_000);
    // What is left is lent to the thread, as it was before there was any connection.
    for (bed, end) in [(&mut a, &talk.client), (&mut b, &talk.server)] {
        let context = end.app.context;
        let before = bed.memory();
        bed.ask(|done| Message::CloseContext { context, done });
        let lent = before - bed.memory();
        let rings = if end.app.process == 1 && bed.memory() == SIZES[2] as u64 {
            SIZES[2] as u64
        } else {
            0
        };
        assert!(lent > 0);
        assert_eq!(bed.memory(), rings, "only a listener's accept ring is left");
        let (context, process) = (end.app.context, end.app.process);
        bed.ask(|done| Message::OpenContext {
            context,
            process,
            done,
        });
    }
    // And it goes on.
    talk.client.app = crate::app::App::new(a.shared.clone(), 0, 0, 1);
    talk.server.app = crate::app::App::new(b.shared.clone(), 0, 0, 1);
    talk.go_on(&mut dice);
    talk.finish(&mut a, &mut b);
}

fn unread_data_stays_within_the_receive_buffer(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    let before = b.memory();
    for _ in 0..300 {
        talk.client.app.send(talk.client.socket, &[1; 60_000]);
        pass_together(&mut a, &mut b, 1000);
    }
    let buffer = u64::from(b.shared.config.tcp.recv_buffer_max);
    assert!(talk.server.app.readable(talk.server.socket) <= buffer);
    assert!(b.memory() - before <= buffer + SIZES[2] as u64);
}

fn without_memory_data_waits_and_goes_on_later(family: Family) {
    let mut setup = Setup::over(family, 2);
    setup.config.memory = 1 << 20;
    setup.config.tcp.recv_buffer = 1 << 20;
    let (mut a, mut b) = (Setup::over(family, 1).build(), setup.build());
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    // Another process holds all that it can have; what is left is for receivers.
    let mut hoarder = b.app(2);
    for _ in 0..100 {
        take_all(&mut b, &mut hoarder);
    }
    let mut sent = 0;
    for _ in 0..5 {
        sent += talk.client.app.send(talk.client.socket, &[1; 60_000]) as u64;
        pass_together(&mut a, &mut b, 3_000_000);
    }
    assert!(talk.server.app.readable(talk.server.socket) < sent);
    assert!(b.count_of("tcp_no_room") > 0);
    b.process_gone(2, &[hoarder.context]);
    // The peer's retransmission timer has backed off meanwhile.
    pass_together(&mut a, &mut b, 120_000_000);
    assert_eq!(talk.server.app.readable(talk.server.socket), sent);
}

/// Takes all chunks out of a thread's rings and asks for more.
fn take_all(bed: &mut Bed, app: &mut crate::app::App) {
    let lane = bed.shared.segment.lane(app.context, 0).unwrap();
    while lane.small.take().is_some() {}
    while lane.medium.take().is_some() {}
    while lane.large.take().is_some() {}
    app.refill();
    bed.settle();
}

#[test]
fn a_context_that_is_closed_returns_its_grants() {
    let mut bed = Setup::host(1).build();
    let mut app = bed.app(1);
    assert!(bed.memory() > 0);
    for _ in 0..5 {
        app.refill();
        bed.settle();
    }
    let context = app.context;
    bed.ask(|done| Message::CloseContext { context, done });
    assert_eq!(bed.memory(), 0);
    assert_eq!(records(&mut bed), bed.shared.segment.geometry().sockets());
}

/// How many records a fresh process can get. They go back.
fn records(bed: &mut Bed) -> u32 {
    let mut app = bed.app(1000);
    let mut got = 0;
    loop {
        match app.socket() {
            Some(_) => got += 1,
            None if bed.settle() => {
                let lane = bed.shared.segment.lane(app.context, 0).unwrap();
                if lane.sockets.is_empty() {
                    break;
                }
            }
            None => break,
        }
    }
    bed.process_gone(1000, &[app.context]);
    got
}

#[test]
fn records_that_an_idle_thread_has_in_stock_serve_others() {
    let mut bed = Setup::host(1).build();
    let _idle = bed.app(1);
    assert_eq!(records(&mut bed), bed.shared.segment.geometry().sockets());
}

#[test]
fn chunks_that_idle_threads_have_in_stock_go_back_while_memory_is_scarce() {
    let mut setup = Setup::host(1);
    setup.config.memory = 64 << 10;
    let mut bed = setup.build();
    let mut idle = bed.app(1);
    assert!(bed.memory() > 32 << 10);
    bed.pass(300_000);
    assert_eq!(bed.memory(), 0);
    idle.refill();
    bed.settle();
    assert!(bed.memory() > 0, "it gets some when it asks");
}

/// Small chunks that a thread has in stock.
fn stock(bed: &Bed, app: &crate::app::App) -> u32 {
    let lane = bed.shared.segment.lane(app.context, 0).unwrap();
    lane.small.len()
}

#[test]
fn a_thread_that_was_busy_and_is_not_keeps_few_chunks_in_stock() {
    let mut bed = Setup::host(1).build();
    let mut busy = bed.app(1);
    let at_first = stock(&bed, &busy);
    for _ in 0..3 {
        take_all(&mut bed, &mut busy);
    }
    let when_busy = stock(&bed, &busy);
    assert!(when_busy > 2 * at_first);
    let context = bed.app(2).context;
    bed.ask(|done| Message::CloseContext { context, done });
    // The sweep that follows gives back what nobody uses.
    bed.pass(500_000);
    assert_eq!(stock(&bed, &busy), when_busy);
    bed.pass(3_000_000);
    assert_eq!(stock(&bed, &busy), at_first);
    take_all(&mut bed, &mut busy);
    assert!(stock(&bed, &busy) > at_first, "it gets more when it asks");
}

/// A thread that took grants out of its rings and ended without using them.
#[test]
fn grants_that_a_thread_has_lost_come_back_with_its_process() {
    let mut bed = Setup::host(1).build();
    for _ in 0..10 {
        let mut app = bed.app(1);
        for _ in 0..5 {
            app.socket().unwrap();
            take_all(&mut bed, &mut app);
        }
        let context = app.context;
        bed.ask(|done| Message::CloseContext { context, done });
        let mut again = bed.open_context(context, 1);
        take_all(&mut bed, &mut again);
        bed.ask(|done| Message::CloseContext { context, done });
    }
    assert!(bed.memory() > 0);
    bed.process_gone(1, &[]);
    assert_eq!(bed.memory(), 0);
    assert_eq!(records(&mut bed), bed.shared.segment.geometry().sockets());
}

#[test]
fn a_thread_cannot_give_back_what_was_lent_to_another() {
    let mut bed = Setup::host(1).build();
    let mut owner = bed.app(1);
    let before = bed.memory();
    let liar = bed.app(2);
    assert!(bed.memory() > before);
    let socket = owner.socket().unwrap();
    assert!(bed.bind(socket, 80));
    let lane = bed.shared.segment.lane(owner.context, 0).unwrap();
    let [chunk] = lane.small.take().unwrap();
    // The liar's rings name the owner's things.
    let theirs = bed.shared.segment.lane(liar.context, 0).unwrap();
    let mut tail = theirs.sockets.head();
    theirs.sockets.push(&mut tail, [u64::from(socket)]).unwrap();
    let mut tail = theirs.small.head();
    theirs.small.push(&mut tail, [chunk]).unwrap();
    bed.process_gone(2, &[liar.context]);
    assert_eq!(bed.memory(), before, "its own, all of it, and nothing else");
    assert!(!bed.bind(socket, 81), "it is bound still");
}

#[test]
fn a_socket_that_never_connected_keeps_no_chunk() {
    let mut bed = Setup::host(1).build();
    let mut app = bed.app(1);
    let socket = app.socket().unwrap();
    let lane = bed.shared.segment.lane(app.context, 0).unwrap();
    let [chunk] = lane.small.take().unwrap();
    let record = bed.shared.segment.socket(socket).unwrap();
    record
        .app
        .tx_open
        .store(chunk as u32, std::sync::atomic::Ordering::SeqCst);
    app.close(socket);
    let context = app.context;
    bed.ask(|done| Message::CloseContext { context, done });
    assert_eq!(bed.memory(), 0);
}

#[test]
fn records_run_out_and_come_back() {
    let mut setup = Setup::host(1);
    setup.plan.sockets = 64;
    let mut bed = setup.build();
    assert_eq!(records(&mut bed), 64);
    assert_eq!(records(&mut bed), 64);
    assert_eq!(bed.count(Counter::closed), 0);
}

#[test]
fn commands_without_sense_are_counted() {
    let mut bed = Setup::host(1).build();
    let mut app = bed.app(1);
    app.push(Command {
        op: Op::Close,
        socket: u32::MAX,
        generation: 0,
        arg: 0,
    });
    let lane = bed.shared.segment.lane(app.context, 0).unwrap();
    let mut tail = lane.commands.tail();
    lane.commands.push(&mut tail, [0xff << 48, 0]).unwrap();
    lane.commands.push(&mut tail, [0, 0]).unwrap();
    bed.settle();
    assert_eq!(bed.count(Counter::bad_commands), 3);
}
