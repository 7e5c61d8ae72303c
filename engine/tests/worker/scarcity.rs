//! Stream memory when there is little of it: whoever holds much of it to no purpose does not stop
//! the others, and what nobody uses goes back.

use crate::app::App;
use crate::bed::{Bed, Family, Setup, exchange, mac, pass_together};
use crate::conversation::Conversation;
use engine::stats::Counter;
use engine::tcp::Flags;

over_both_families! {
    memory_that_nobody_uses_goes_back_to_the_system,
    a_byte_far_ahead_of_a_hole_is_given_up_after_a_while,
    many_tiny_holes_hold_no_more_than_a_window_and_are_answered_each,
    what_was_read_counts_as_read_whoever_of_the_worker_has_noticed_it,
}

const MEMORY: u64 = 16 << 20;
/// Connections whose reader has gone to sleep.
const SLEEPERS: usize = 300;

/// Host 1 with plenty of memory and host 2 with little, and connections between them.
struct Scene {
    a: Bed,
    b: Bed,
    client: App,
    server: App,
    listener: u32,
    /// Sockets at the client and at the server.
    pairs: Vec<(u32, u32)>,
}

impl Scene {
    fn new(connections: usize) -> Scene {
        Scene::with(MEMORY, connections)
    }

    fn with(memory: u64, connections: usize) -> Scene {
        let (plenty, mut little) = (Setup::host(1), Setup::host(2));
        little.config.memory = memory;
        little.plan.memory = memory;
        little.config.send_buffer = 16 << 10;
        let (mut a, mut b) = (plenty.build(), little.build());
        let (client, mut server) = (a.app(1), b.app(1));
        let listener = server.socket().unwrap();
        assert!(b.listen(listener, 80, 1000));
        let mut scene = Scene {
            a,
            b,
            client,
            server,
            listener,
            pairs: Vec::new(),
        };
        for _ in 0..connections {
            scene.connect();
        }
        scene
    }

    fn connect(&mut self) {
        let socket = loop {
            if let Some(socket) = self.client.socket() {
                break socket;
            }
            self.a.settle();
        };
        self.client.connect(socket, self.b.at(80));
        exchange(&mut self.a, &mut self.b, |_, _| true);
        let accepted = self
            .server
            .accept(self.listener)
            .expect("a connection waits");
        self.b.settle();
        self.pairs.push((socket, accepted));
    }

    /// The server writes what it can to clients that do not read.
    fn fill_with_unread_answers(&mut self) {
        for _ in 0..30 {
            for pair in 0..SLEEPERS {
                let socket = self.pairs[pair].1;
                self.server.send(socket, &[1; 30_000]);
                self.b.settle();
            }
            pass_together(&mut self.a, &mut self.b, 10_000);
        }
    }

    /// The server sends `len` bytes over a connection whose client reads at once, within `seconds`.
    fn download(&mut self, pair: usize, len: usize, seconds: u64) -> usize {
        let (client, server) = self.pairs[pair];
        let (mut sent, mut got) = (0, 0);
        let end = self.a.now + seconds * 1_000_000;
        while self.a.now < end && got < len {
            sent += self.server.send(server, &vec![1; (len - sent).min(30_000)]);
            pass_together(&mut self.a, &mut self.b, 5000);
            got += self.client.recv(client, len).len();
            pass_together(&mut self.a, &mut self.b, 5000);
        }
        got
    }

    /// The client sends `len` bytes over a connection whose server reads at once.
    fn upload(&mut self, pair: usize, len: usize, seconds: u64) -> usize {
        let (client, server) = self.pairs[pair];
        let (mut sent, mut got) = (0, 0);
        let end = self.a.now + seconds * 1_000_000;
        while self.a.now < end && got < len {
            sent += self.client.send(client, &vec![1; (len - sent).min(30_000)]);
            pass_together(&mut self.a, &mut self.b, 5000);
            got += self.server.recv(server, len).len();
            pass_together(&mut self.a, &mut self.b, 5000);
        }
        got
    }
}

#[test]
fn who_connects_while_memory_is_scarce_is_offered_no_more_than_is_taken() {
    let mut scene = Scene::new(SLEEPERS);
    scene.fill_with_unread_answers();
    assert!(scene.b.count(Counter::memory_pressure) > 0);
    let refused = scene.b.count_of("tcp_no_room");
    scene.connect();
    assert_eq!(scene.upload(SLEEPERS, 300_000, 5), 300_000);
    assert_eq!(scene.b.count_of("tcp_no_room"), refused);
}

#[test]
fn writers_to_peers_that_never_read_leave_memory_to_others() {
    let mut scene = Scene::new(SLEEPERS + 1);
    scene.fill_with_unread_answers();
    assert!(scene.b.memory() > MEMORY / 2, "{}", scene.b.memory());
    assert_eq!(scene.download(SLEEPERS, 300_000, 60), 300_000);
    assert_eq!(scene.upload(SLEEPERS, 300_000, 60), 300_000);
}

/// As nginx with edge-triggered epoll does: it writes until it is told that there is no room.
#[test]
fn so_many_writers_to_peers_that_never_read_leave_a_write_to_each_other() {
    let memory = 4 << 20;
    let mut scene = Scene::with(memory, SLEEPERS + 20);
    for _ in 0..40 {
        for pair in 0..SLEEPERS {
            let socket = scene.pairs[pair].1;
            if scene.server.send(socket, &[1; 30_000]) == 0 {
                scene.server.refill();
            }
            scene.b.settle();
        }
        pass_together(&mut scene.a, &mut scene.b, 10_000);
    }
    assert!(scene.b.memory() > memory / 2, "{}", scene.b.memory());
    for pair in SLEEPERS..SLEEPERS + 20 {
        assert_eq!(scene.download(pair, 1000, 5), 1000);
    }
    assert_eq!(scene.download(SLEEPERS, 100_000, 60), 100_000);
}

#[test]
fn streams_that_nobody_reads_leave_memory_to_others() {
    let mut scene = Scene::new(SLEEPERS + 1);
    for _ in 0..30 {
        for pair in 0..SLEEPERS {
            let socket = scene.pairs[pair].0;
            scene.client.send(socket, &[1; 30_000]);
            scene.a.settle();
        }
        pass_together(&mut scene.a, &mut scene.b, 10_000);
    }
    assert!(scene.b.memory() > MEMORY / 2);
    assert!(scene.b.count(Counter::memory_pressure) > 0);
    assert_eq!(scene.upload(SLEEPERS, 300_000, 60), 300_000);
    assert_eq!(scene.download(SLEEPERS, 300_000, 60), 300_000);
    // The sleepers wake up: everything that was sent arrives.
    let mut quiet = 0;
    while quiet < 30 {
        let mut read = 0;
        for pair in 0..SLEEPERS {
            read += scene.server.recv(scene.pairs[pair].1, 1 << 20).len();
        }
        quiet = if read == 0 { quiet + 1 } else { 0 };
        pass_together(&mut scene.a, &mut scene.b, 4_000_000);
    }
    for (client, _) in &scene.pairs {
        let record = scene.a.shared.segment.socket(*client).unwrap();
        assert_eq!(record.unacked(), 0);
    }
}

fn memory_that_nobody_uses_goes_back_to_the_system(family: Family) {
    let (mut a, mut b) = (
        Setup::over(family, 1).build(),
        Setup::over(family, 2).build(),
    );
    let mut talk = Conversation::start(&mut a, &mut b, (1, 1), 80);
    for _ in 0..300 {
        talk.client.app.send(talk.client.socket, &[1; 60_000]);
        pass_together(&mut a, &mut b, 1000);
    }
    let unread = talk.server.app.readable(talk.server.socket);
    assert!(unread > 50_000);
    while talk.server.app.readable(talk.server.socket) > 0 {
        talk.server.app.recv(talk.server.socket, 100_000);
        pass_together(&mut a, &mut b, 1_000_000);
    }
    pass_together(&mut a, &mut b, 30_000_000);
    assert!(b.count(Counter::memory_returned) >= unread / 2);
    // It can be used again.
    let sent = talk.client.app.send(talk.client.socket, &[2; 60_000]);
    pass_together(&mut a, &mut b, 1_000_000);
    let data = talk.server.app.recv(talk.server.socket, sent);
    assert_eq!(data, vec![2; sent]);
    let unread = talk.server.app.readable(talk.server.socket);
    assert_eq!(unread, 0);
}

/// A peer by hand that is connected to port 80 of `bed`; returns the next segment of its stream.
fn peer(bed: &mut Bed, server: &mut App) -> (crate::frames::TcpFrame, u32) {
    let listener = server.socket().unwrap();
    assert!(bed.listen(listener, 80, 10));
    let syn = bed.segment_from(1, (1000, 80), Flags::SYN);
    let answer = bed.answer(&syn).remove(0);
    let mut segment = bed.segment_from(1, (1000, 80), Flags::ACK);
    segment.dst_mac = mac(2);
    segment.seq = syn.seq + 1;
    segment.ack = answer.seq + 1;
    bed.answer(&segment);
    (segment, server.accept(listener).unwrap())
}

fn a_byte_far_ahead_of_a_hole_is_given_up_after_a_while(family: Family) {
    let mut bed = Setup::over(family, 2).build();
    let mut server = bed.app(1);
    let (mut segment, socket) = peer(&mut bed, &mut server);
    bed.pass(1_000_000);
    let before = bed.memory();
    let start = segment.seq;
    segment.seq = start + 60_000;
    segment.payload = vec![9];
    bed.answer(&segment);
    bed.pass(5_000_000);
    assert!(bed.memory() >= before + 60_000, "it waits for the hole");
    bed.pass(6_000_000);
    assert_eq!(bed.memory(), before);
    assert_eq!(bed.count(Counter::out_of_order_pruned), 1);
    // The hole is filled, and the byte has to come again.
    for offset in (0..60_000).step_by(1000) {
        segment.seq = start + offset;
        segment.payload = vec![8; 1000];
        bed.answer(&segment);
    }
    assert_eq!(server.readable(socket), 60_000);
    segment.seq = start + 60_000;
    segment.payload = vec![9];
    bed.answer(&segment);
    assert_eq!(server.recv(socket, 60_001)[60_000], 9);
}

fn many_tiny_holes_hold_no_more_than_a_window_and_are_answered_each(family: Family) {
    let mut bed = Setup::over(family, 2).build();
    let mut server = bed.app(1);
    let (mut segment, socket) = peer(&mut bed, &mut server);
    let before = bed.memory();
    let start = segment.seq;
    let mut answers = 0;
    for n in 0..20_000u32 {
        segment.seq = start + 1 + 2 * n;
        segment.payload = vec![7];
        answers += bed.answer(&segment).len();
    }
    assert!(answers <= 20_000);
    assert!(bed.memory() - before <= 2 * 65_536);
    assert!(bed.count_of("tcp_too_many_holes") > 0);
    for offset in (0..40_000).step_by(1000) {
        segment.seq = start + offset;
        segment.payload = vec![7; 1000];
        bed.answer(&segment);
    }
    assert_eq!(server.readable(socket), 40_000);
}

/// Looking for memory, the worker sees that all was read, before it hears so from the program.
fn what_was_read_counts_as_read_whoever_of_the_worker_has_noticed_it(family: Family) {
    let mut little = Setup::over(family, 2);
    little.config.memory = 1 << 20;
    little.plan.memory = 1 << 20;
    let mut bed = little.build();
    let mut server = bed.app(1);
    let (mut segment, socket) = peer(&mut bed, &mut server);
    let mut port = 81;
    while bed.memory() <= 3 << 18 {
        // Each listener's queue takes some; what is lent is taken back.
        let other = server.socket().unwrap();
        assert!(bed.listen(other, port, 10));
        bed.pass(200_000);
        port += 1;
    }
    assert_eq!(bed.count(Counter::memory_pressure), 1);
    segment.payload = b"request".to_vec();
    bed.answer(&segment);
    assert_eq!(server.recv(socket, 100), b"request");
    segment.seq += 1000;
    bed.answer(&segment);
    assert_eq!(bed.count_of("tcp_no_room"), 1);
    server.close(socket);
    bed.settle();
    let ends: Vec<Flags> = bed.sent_segments().iter().map(|s| s.flags).collect();
    assert_eq!(ends, [Flags::FIN | Flags::ACK]);
}
