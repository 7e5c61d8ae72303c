use super::*;
use crate::segment::tests::tcp_frame;
use crate::sys::wait_readable;
use crate::{ChecksumOffload, Gso, GsoKind};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use super::meeting::{Role, introduce_second};
use super::ring::Memory;
use crate::sys::Bell;

/// Long enough for anything that will happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(path: &Path) -> WireConfig {
    WireConfig {
        path: path.into(),
        ring_bytes: MIN_CAPACITY,
        ..WireConfig::default()
    }
}

fn open(path: &Path) -> (Wire, Box<dyn Queue>) {
    let mut wire = Wire::open(&config(path)).unwrap();
    let queue = wire.open_queue(0).unwrap();
    (wire, queue)
}

/// Sleeps as a worker does, until the queue is woken. False if nothing came.
fn sleep(queue: &mut dyn Queue) -> bool {
    let woken = !queue.arm() || {
        let fd = queue.wait_fd().unwrap();
        wait_readable([fd], Some(PATIENCE)).unwrap()[0]
    };
    queue.disarm(woken);
    woken
}

fn try_send(queue: &mut dyn Queue, frame: &[u8], meta: TxMeta) -> bool {
    let Some(room) = queue.reserve(frame.len()) else {
        return false;
    };
    room.copy_from_slice(frame);
    queue.commit(frame.len(), meta);
    queue.flush().unwrap();
    true
}

/// Sends a frame to a peer that may still be on its way.
fn send(queue: &mut dyn Queue, frame: &[u8]) {
    loop {
        let before = queue.stats().tx_frames;
        assert!(
            try_send(queue, frame, TxMeta::default()),
            "the ring is full"
        );
        if queue.stats().tx_frames > before {
            return;
        }
        assert!(sleep(queue), "no peer came");
    }
}

/// Receives a frame, sleeping until it comes.
fn receive(queue: &mut dyn Queue) -> (Vec<u8>, RxMeta) {
    loop {
        let mut got = None;
        let mut sink = |frame: &[u8], meta: RxMeta| got = Some((frame.to_vec(), meta));
        queue.receive(1, &mut sink).unwrap();
        match got {
            Some(got) => return got,
            None => assert!(sleep(queue), "no frame came"),
        }
    }
}

/// Waits until frames sent are dropped: the peer's end has been noticed.
fn wait_for_unplugging(queue: &mut dyn Queue) {
    loop {
        let before = queue.stats().tx_dropped;
        try_send(queue, b"anybody there?", TxMeta::default());
        if queue.stats().tx_dropped > before {
            return;
        }
        assert!(sleep(queue), "the peer is still there");
    }
}

#[test]
fn frames_cross_with_what_is_known_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (_a, mut qa) = open(&dir.path().join("wire"));
    let (_b, mut qb) = open(&dir.path().join("wire"));
    send(&mut qb, b"hello");
    assert_eq!(receive(&mut qa), (b"hello".to_vec(), RxMeta::default()));

    let frame = tcp_frame(false, 1, 0x10, &[3; 60_000]);
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
    assert!(try_send(&mut qa, &frame, meta));
    let good = RxMeta {
        checksum: RxChecksum::Good,
        gso_size: 1448,
    };
    assert_eq!(receive(&mut qb), (frame, good));
}

#[test]
fn an_abstract_name_joins_as_well() {
    let name = format!("@psio-test-{}", std::process::id());
    let (_a, mut qa) = open(Path::new(&name));
    let (_b, mut qb) = open(Path::new(&name));
    send(&mut qa, b"hello");
    assert_eq!(receive(&mut qb).0, b"hello");
}

#[test]
fn each_queue_reaches_the_queue_with_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let config = WireConfig {
        queues: 3,
        ..config(&dir.path().join("wire"))
    };
    let mut a = Wire::open(&config).unwrap();
    let mut b = Wire::open(&config).unwrap();
    for index in 0..3 {
        let (mut qa, mut qb) = (a.open_queue(index).unwrap(), b.open_queue(index).unwrap());
        send(&mut qa, &[index as u8; 60]);
        assert_eq!(receive(&mut qb).0, [index as u8; 60]);
        send(&mut qb, &[index as u8; 70]);
        assert_eq!(receive(&mut qa).0, [index as u8; 70]);
    }
    assert!(a.open_queue(0).is_err() && a.open_queue(3).is_err());
}

#[test]
fn without_a_peer_frames_are_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (_wire, mut queue) = open(&dir.path().join("wire"));
    for _ in 0..100 {
        assert!(try_send(&mut queue, &[0; 1500], TxMeta::default()));
    }
    assert_eq!(
        queue.stats(),
        QueueStats {
            tx_dropped: 100,
            ..QueueStats::default()
        }
    );
    assert_eq!(
        queue.receive(10, &mut |_, _| panic!("from whom?")).unwrap(),
        0
    );
}

#[test]
fn a_full_ring_lends_no_room_until_the_peer_has_received() {
    let dir = tempfile::tempdir().unwrap();
    let (_a, mut qa) = open(&dir.path().join("wire"));
    let (_b, mut qb) = open(&dir.path().join("wire"));
    send(&mut qa, &[0; 1500]);
    let mut frames = 1;
    while try_send(&mut qa, &[0; 1500], TxMeta::default()) {
        frames += 1;
    }
    let lines = (ring::HEADER + 1500).div_ceil(ring::ALIGN);
    assert_eq!(frames, MIN_CAPACITY / (lines * ring::ALIGN));
    assert_eq!(qb.receive(usize::MAX, &mut |_, _| {}).unwrap(), frames);
    assert!(try_send(&mut qa, &[0; 1500], TxMeta::default()));
}

#[test]
fn millions_of_frames_cross_between_workers_that_sleep() {
    const FRAMES: u64 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let (_a, mut qa) = open(&path);
    // What the worker has to say is the number it has come to.
    let progress = Arc::new(AtomicU64::new(0));
    let echo = std::thread::spawn({
        let progress = Arc::clone(&progress);
        move || {
            let (_b, mut qb) = open(&path);
            let mut next = 0;
            while next < FRAMES {
                let mut answers = Vec::new();
                let mut sink = |frame: &[u8], _: RxMeta| {
                    assert_eq!(frame[..8], next.to_ne_bytes());
                    assert_eq!(frame.len() as u64, 60 + next % 1441);
                    next += 1;
                    if next.is_multiple_of(64) {
                        answers.push(next);
                    }
                };
                if qb.receive(64, &mut sink).unwrap() == 0 {
                    assert!(sleep(&mut qb), "stuck at {next}");
                }
                for answer in answers {
                    assert!(try_send(&mut qb, &answer.to_ne_bytes(), TxMeta::default()));
                }
                progress.store(next, Ordering::Relaxed);
            }
        }
    });
    let (mut sent, mut answered) = (0u64, 0u64);
    send(&mut qa, &[&sent.to_ne_bytes()[..], &[0; 52]].concat());
    sent += 1;
    while answered < FRAMES {
        // A window of two bursts, so that both sides sleep now and then.
        while sent < FRAMES && sent < answered + 128 {
            let len = 60 + (sent % 1441) as usize;
            let room = qa
                .reserve(len)
                .expect("the window is smaller than the ring");
            room[..8].copy_from_slice(&sent.to_ne_bytes());
            qa.commit(len, TxMeta::default());
            sent += 1;
        }
        qa.flush().unwrap();
        let mut sink = |frame: &[u8], _: RxMeta| {
            answered = u64::from_ne_bytes(frame.try_into().unwrap());
        };
        if qa.receive(64, &mut sink).unwrap() == 0 {
            let at = progress.load(Ordering::Relaxed);
            assert!(sleep(&mut qa), "the echo is stuck at {at}");
        }
    }
    echo.join().unwrap();
    assert_eq!(qa.stats().tx_frames, FRAMES);
}

#[test]
fn spinning_sees_a_frame_without_sleeping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let spinning = WireConfig {
        spin: PATIENCE,
        ..config(&path)
    };
    let mut a = Wire::open(&spinning).unwrap();
    let mut qa = a.open_queue(0).unwrap();
    let (_b, mut qb) = open(&path);
    send(&mut qa, b"we are joined");
    let spinner = std::thread::spawn(move || qa.arm());
    send(&mut qb, b"wake up");
    assert!(
        !spinner.join().unwrap(),
        "a frame is there: no reason to sleep"
    );
}

#[test]
fn what_a_peer_sent_before_it_left_still_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let (_a, mut qa) = open(&dir.path().join("wire"));
    let (b, mut qb) = open(&dir.path().join("wire"));
    send(&mut qa, b"joined");
    for number in 0..10u8 {
        send(&mut qb, &[number; 60]);
    }
    drop((b, qb));
    wait_for_unplugging(&mut qa);
    for number in 0..10u8 {
        assert_eq!(receive(&mut qa).0, [number; 60]);
    }
}

fn refusal(config: &WireConfig) -> String {
    match Wire::open(config) {
        Err(error @ Error::Refused { .. }) => error.to_string(),
        other => panic!("not refused: {:?}", other.err()),
    }
}

#[test]
fn a_third_end_is_refused_while_there_are_two() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let (_a, mut qa) = open(&path);
    let (b, mut qb) = open(&path);
    let said = refusal(&config(&path));
    assert!(
        said.ends_with("both ends are taken, and a wire has no third"),
        "{said}"
    );
    send(&mut qa, b"for b");
    assert_eq!(receive(&mut qb).0, b"for b");
    drop((b, qb));
    let (_c, mut qc) = open(&path);
    send(&mut qc, b"from c");
    assert_eq!(receive(&mut qa).0, b"from c");
}

#[test]
fn the_second_end_listens_when_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let (a, mut qa) = open(&path);
    let (_b, mut qb) = open(&path);
    send(&mut qa, b"first");
    assert_eq!(receive(&mut qb).0, b"first");
    drop((a, qa));
    wait_for_unplugging(&mut qb);
    let (_a, mut qa) = open(&path);
    send(&mut qb, b"again");
    assert_eq!(receive(&mut qa).0, b"again");
}

#[test]
fn ends_with_different_numbers_of_queues_do_not_join() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let (_a, mut qa) = open(&path);
    let said = refusal(&WireConfig {
        queues: 2,
        ..config(&path)
    });
    assert!(
        said.ends_with("this end has 2 queues and the other 1"),
        "{said}"
    );
    assert!(try_send(&mut qa, b"lost", TxMeta::default()));
    assert_eq!(qa.stats().tx_dropped, 1);
}

#[test]
fn a_wire_leaves_nothing_in_the_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let a = Wire::open(&config(&path)).unwrap();
    let b = Wire::open(&config(&path)).unwrap();
    assert!(path.exists());
    drop((a, b));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced_and_another_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Wire::open(&config(&path)).unwrap());

    std::fs::write(&path, "precious").unwrap();
    let error = Wire::open(&config(&path)).err().unwrap().to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn configurations_that_no_wire_can_have_are_refused() {
    let base = config(Path::new("@psio-test-refused"));
    for (wrong, text) in [
        (
            WireConfig {
                queues: 0,
                ..base.clone()
            },
            "1 to 64 queues",
        ),
        (
            WireConfig {
                queues: 65,
                ..base.clone()
            },
            "1 to 64 queues",
        ),
        (
            WireConfig {
                mtu: 67,
                ..base.clone()
            },
            "68 to 65535",
        ),
        (
            WireConfig {
                mtu: 65_536,
                ..base.clone()
            },
            "68 to 65535",
        ),
        (
            WireConfig {
                ring_bytes: usize::MAX,
                ..base
            },
            "at most",
        ),
    ] {
        let error = Wire::open(&wrong).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
}

/// A peer that speaks the language of the meeting, and then does as it likes.
fn hostile(path: &Path) -> (UnixStream, Session) {
    loop {
        let Role::Second(stream) = Address::parse(path).unwrap().meet().unwrap() else {
            panic!("the other end listens");
        };
        let bells = [Bell::new().unwrap()];
        // Refused as long as our last incarnation has not been noticed to be gone.
        if let Ok(session) = introduce_second(&stream, &bells) {
            return (stream, session);
        }
    }
}

#[test]
fn a_peer_that_breaks_the_rules_is_unplugged_and_the_next_joins() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");
    let (_a, mut qa) = open(&path);
    // What stands in the shared words of the ring to the first end, and of its first header.
    for (tail, header) in [
        (u64::MAX, 0),
        (65, 60),
        (MIN_CAPACITY as u64 + 64, 60),
        (64, 0),
        (64, 65_536),
        (64, 1000),
        (64, 1 << 49),
    ] {
        let (_stream, session) = hostile(&path);
        send(&mut qa, b"joined");
        let ring = SharedRing::new(&session.memory, 1);
        ring.header(0).store(header, Ordering::Relaxed);
        ring.tail().store(tail, Ordering::Release);
        session.bells[0].ring();
        loop {
            qa.receive(64, &mut |_, _| panic!("a frame from nowhere"))
                .unwrap();
            let before = qa.stats().tx_dropped;
            try_send(&mut qa, b"still there?", TxMeta::default());
            if qa.stats().tx_dropped > before {
                break;
            }
            assert!(sleep(&mut qa), "nothing was noticed");
        }
    }
    let (_b, mut qb) = open(&path);
    send(&mut qb, b"an honest one");
    assert_eq!(receive(&mut qa).0, b"an honest one");
}

#[test]
fn a_peer_whose_memory_could_shrink_is_not_joined() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("wire")).unwrap();
    let shape = shared::Shape {
        rings: 2,
        capacity: MIN_CAPACITY,
    };
    let unsealed = std::fs::File::create(dir.path().join("memory")).unwrap();
    unsealed.set_len(1 << 20).unwrap();
    assert!(shared::SharedMemory::attach(unsealed.into(), shape).is_err());
    let (_, fd) = shared::SharedMemory::create(shape).unwrap();
    let larger = shared::Shape {
        capacity: 2 * MIN_CAPACITY,
        ..shape
    };
    assert!(shared::SharedMemory::attach(fd, larger).is_err());
    drop(listener);
}

/// In the child process that a test starts: the path of the wire.
const CHILD: &str = "PSIO_WIRE_TEST_CHILD";

/// Killed with SIGKILL when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself, in a test that has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts this very test in another process, which is to call [`echo`].
fn start_child(test: &str, path: &Path) -> Killed {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so when its end is open.
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap() == "open"),
        "the child did not start"
    );
    Killed(child)
}

/// The child: sends back whatever comes, until it is killed.
fn echo(path: &Path) -> ! {
    let (_wire, mut queue) = open(path);
    println!("\nopen");
    loop {
        let mut frames = Vec::new();
        let mut sink = |frame: &[u8], _: RxMeta| frames.push(frame.to_vec());
        if queue.receive(64, &mut sink).unwrap() == 0 && !sleep(&mut queue) {
            // The parent is gone, or has failed.
            std::process::exit(1);
        }
        for frame in &frames {
            try_send(&mut queue, frame, TxMeta::default());
        }
    }
}

#[test]
fn processes_are_joined_again_after_either_was_killed() {
    if let Some(path) = std::env::var_os(CHILD) {
        echo(Path::new(&path));
    }
    let test = "wire::tests::processes_are_joined_again_after_either_was_killed";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wire");

    let first = start_child(test, &path);
    let (_wire, mut queue) = open(&path);
    send(&mut queue, b"first");
    assert_eq!(receive(&mut queue).0, b"first");
    drop(first);
    wait_for_unplugging(&mut queue);

    // It has left its socket behind: the parent's end takes over.
    for round in 0..3u8 {
        let child = start_child(test, &path);
        for number in 0..1000u32 {
            let frame = [&[round; 60], &number.to_ne_bytes()[..]].concat();
            send(&mut queue, &frame);
            assert_eq!(receive(&mut queue).0, frame);
        }
        drop(child);
        wait_for_unplugging(&mut queue);
    }
}
