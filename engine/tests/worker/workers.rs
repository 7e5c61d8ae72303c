//! Several workers of one stack: each accepts for every listener, and what arrives at the wrong one
//! finds its way.

use crate::app::App;
use crate::bed::{Bed, Setup, address, mac};
use crate::frames::{ethernet, fix_checksums, ipv4};
use context::socket::state;
use engine::binds::Bind;
use engine::shared::{Listener, Message, lock};
use engine::stats::Counter;
use engine::tcp::Flags;
use psio::Rss;
use psio::rss::MICROSOFT_KEY;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

/// Two workers, and a thread of process 1 with a lane to each.
pub fn two_workers(change: impl FnOnce(&mut Setup)) -> [(Bed, App); 2] {
    let mut setup = Setup::host(1);
    setup.plan.workers = 2;
    setup.config.cores = vec![None, None];
    change(&mut setup);
    let mut first = setup.build();
    let mut second = first.another_worker(1);
    let apps = [first.open_context(0, 1), second.open_context(0, 1)];
    let [a, b] = apps;
    [(first, a), (second, b)]
}

/// A listener on port 80 that belongs to the first worker.
fn listen(workers: &mut [(Bed, App); 2]) -> u32 {
    let socket = workers[0].1.socket().unwrap();
    let bind = Bind {
        socket,
        address: Ipv4Addr::UNSPECIFIED.into(),
        only_v6: false,
        reuse_address: false,
        reuse_port: false,
        uid: 0,
        listens: true,
    };
    assert_eq!(
        lock(&workers[0].0.shared.binds).bind(80, bind, 1, |_| false),
        Some(80)
    );
    let listener = Arc::new(Listener {
        socket,
        address: Ipv4Addr::UNSPECIFIED.into(),
        only_v6: false,
        port: 80,
        backlog: 10.into(),
        watches: Default::default(),
    });
    for (bed, _) in workers {
        let listener = listener.clone();
        assert!(bed.ask(|done| Message::Listen { listener, done }));
    }
    socket
}

/// A peer's handshake with the stack, at one worker. Returns the number that the peer expects next.
fn open(bed: &mut Bed, port: u16) -> u32 {
    let reply = bed
        .answer(&bed.segment_from(2, (port, 80), Flags::SYN))
        .remove(0);
    let mut ack = bed.segment_from(2, (port, 80), Flags::ACK);
    (ack.seq, ack.ack) = (1001, reply.seq.wrapping_add(1));
    bed.answer(&ack);
    ack.ack
}

#[test]
fn each_worker_accepts_for_a_listener_and_tells_its_watches() {
    let mut workers = two_workers(|_| ());
    let listener = listen(&mut workers);
    workers[0].0.renew_set(1);
    workers[1].0.renew_set(1);
    // Generations are odd while a set is in use: two workers have counted twice.
    workers[0].0.shared.sets[1]
        .generation
        .fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    workers[0].1.watch(1, 5, listener);
    workers[0].0.settle();
    for (i, (bed, app)) in workers.iter_mut().enumerate() {
        let mut head = 0;
        app.events(1, &mut head);
        open(bed, 1000);
        assert_eq!(app.events(1, &mut head)[0].cookie, 5, "worker {i}");
        let socket = app.accept(listener).unwrap();
        assert_eq!(bed.shared.segment.geometry().worker_of(socket), i);
        app.send(socket, b"hello");
        bed.settle();
        assert_eq!(bed.sent_segments()[0].payload, b"hello");
    }
}

#[test]
fn closing_a_listener_resets_what_waits_at_every_worker() {
    let mut workers = two_workers(|_| ());
    let listener = listen(&mut workers);
    for (bed, _) in &mut workers {
        open(bed, 1000);
    }
    workers[0].1.close(listener);
    for (bed, app) in &mut workers {
        bed.settle();
        assert!(bed.sent_segments()[0].has(Flags::RST));
        assert_eq!(app.accept_chunk(listener), 0);
        bed.process_gone(1, &[0]);
        assert_eq!(bed.memory(), 0);
    }
}

#[test]
fn an_answer_that_arrives_at_the_wrong_worker_finds_its_connection() {
    let mut workers = two_workers(|_| ());
    let (first, second) = workers.split_at_mut(1);
    let ((wrong, _), (right, app)) = (&mut first[0], &mut second[0]);
    let socket = app.socket().unwrap();
    app.connect(socket, SocketAddrV4::new(address(2), 80));
    right.settle();
    let syn = right.sent_segments().remove(0);
    let mut reply = right.segment_from(2, (80, syn.src.1), Flags::SYN | Flags::ACK);
    reply.ack = syn.seq.wrapping_add(1);
    wrong.inject(&reply.bytes());
    wrong.settle();
    assert!(wrong.sent().is_empty(), "no reset");
    assert_eq!(wrong.count(Counter::redirected), 1);
    right.settle();
    assert!(app.is_connected(socket));
}

/// Has the device spread flows by a hash that the stack knows.
fn know_the_hash(bed: &Bed) -> Arc<Rss> {
    let rss = Arc::new(Rss::new(MICROSOFT_KEY, 2));
    assert!(bed.shared.rss.set(rss.clone()).is_ok());
    rss
}

#[test]
fn connections_are_opened_from_ports_that_bring_the_answers_to_their_worker() {
    let mut workers = two_workers(|_| ());
    let rss = know_the_hash(&workers[0].0);
    for (i, (bed, app)) in workers.iter_mut().enumerate() {
        for _ in 0..20 {
            let socket = app.socket().unwrap();
            app.connect(socket, SocketAddrV4::new(address(2), 80));
            bed.settle();
            let syn = bed.sent_segments().remove(0);
            let own = SocketAddr::new(address(1).into(), syn.src.1);
            let peer = SocketAddr::new(address(2).into(), 80);
            assert_eq!(usize::from(rss.queue_for(peer, own)), i);
        }
    }
}

#[test]
fn what_the_device_delivers_against_its_hash_is_handed_over() {
    let mut workers = two_workers(|_| ());
    listen(&mut workers);
    let rss = know_the_hash(&workers[0].0);
    let own = SocketAddr::new(address(1).into(), 80);
    let is_seconds =
        |port: &u16| rss.queue_for(SocketAddr::new(address(2).into(), *port), own) == 1;
    let port = (1000..).find(is_seconds).unwrap();
    let [(wrong, _), (right, _)] = &mut workers;
    let syn = wrong.segment_from(2, (port, 80), Flags::SYN);
    assert!(wrong.answer(&syn).is_empty());
    assert_eq!(wrong.count(Counter::redirected), 1);
    right.settle();
    let reply = right.sent_segments().remove(0);
    assert!(reply.has(Flags::SYN | Flags::ACK));
    let port = (port + 1..).find(is_seconds).unwrap();
    let syn = right.segment_from(2, (port, 80), Flags::SYN);
    assert_eq!(right.answer(&syn).len(), 1);
    assert_eq!(right.count(Counter::redirected), 0, "it keeps its own");
}

#[test]
fn an_icmp_error_reaches_the_connection_at_another_worker() {
    let mut workers = two_workers(|_| ());
    let [(wrong, _), (right, app)] = &mut workers;
    let socket = app.socket().unwrap();
    app.connect(socket, SocketAddrV4::new(address(2), 80));
    right.settle();
    let syn = right.sent().remove(0);
    // Protocol unreachable (RFC 792), with the start of what it is about.
    let mut message = vec![3, 2, 0, 0, 0, 0, 0, 0];
    message.extend(&syn[14..14 + 28]);
    let datagram = ipv4(address(2), address(1), 1, &message);
    let mut frame = ethernet(mac(1), mac(2), 0x0800, &datagram);
    fix_checksums(&mut frame);
    wrong.inject(&frame);
    wrong.settle();
    right.settle();
    assert_eq!(app.take_error(socket), libc::ENOPROTOOPT);
}

#[test]
fn frames_for_a_worker_that_does_not_take_them_are_counted_and_dropped() {
    let mut workers = two_workers(|_| ());
    listen(&mut workers);
    let rss = know_the_hash(&workers[0].0);
    let own = SocketAddr::new(address(1).into(), 80);
    let peers =
        (1000..).filter(|port| rss.queue_for(SocketAddr::new(address(2).into(), *port), own) == 1);
    let (bed, _) = &mut workers[0];
    for port in peers.take(9000) {
        bed.inject(&bed.segment_from(2, (port, 80), Flags::SYN).bytes());
        bed.settle();
    }
    let taken = bed.count(Counter::redirected);
    assert!((1..9000).contains(&taken), "{taken}");
    assert_eq!(taken + bed.count(Counter::redirect_full), 9000);
}

#[test]
fn an_arp_reply_helps_all_workers() {
    let mut workers = two_workers(|setup| setup.config.neighbors.clear());
    let mut sockets = Vec::new();
    for (bed, app) in &mut workers {
        let socket = app.socket().unwrap();
        app.connect(socket, SocketAddrV4::new(address(2), 80));
        bed.settle();
        assert_eq!(app.state(socket), state::SYN_SENT);
        bed.sent();
        sockets.push(socket);
    }
    let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
    for host in [2, 1] {
        reply.extend(mac(host).0);
        reply.extend(address(host).octets());
    }
    workers[1]
        .0
        .inject(&ethernet(mac(1), mac(2), 0x0806, &reply));
    for (bed, _) in workers.iter_mut().rev() {
        bed.settle();
        let syn = bed.sent_segments().remove(0);
        assert_eq!((syn.flags, syn.dst_mac), (Flags::SYN, mac(2)));
    }
}

#[test]
fn a_flow_that_moves_to_another_queue_finds_its_connection() {
    let mut workers = two_workers(|_| ());
    let listener = listen(&mut workers);
    let (first, second) = workers.split_at_mut(1);
    let ((home, app), (elsewhere, _)) = (&mut first[0], &mut second[0]);
    let next = open(home, 1000);
    let socket = app.accept(listener).unwrap();
    let mut data = home.segment_from(2, (1000, 80), Flags::ACK);
    (data.seq, data.ack, data.payload) = (1001, next, b"moved".to_vec());
    elsewhere.inject(&data.bytes());
    elsewhere.settle();
    assert!(elsewhere.sent().is_empty(), "no reset");
    home.settle();
    assert_eq!(app.recv(socket, 100), b"moved");
}

#[test]
fn what_no_worker_knows_is_reset_by_the_last_that_is_asked() {
    let mut workers = two_workers(|_| ());
    listen(&mut workers);
    let [(first, _), (second, _)] = &mut workers;
    let mut stray = first.segment_from(2, (1000, 80), Flags::ACK);
    (stray.seq, stray.ack) = (5, 7);
    first.inject(&stray.bytes());
    first.settle();
    assert!(first.sent().is_empty());
    second.settle();
    let reset = second.sent_segments().remove(0);
    assert!(reset.has(Flags::RST));
    assert_eq!(reset.seq, 7);
    first.settle();
    assert!(first.sent().is_empty(), "it goes round once");
}
