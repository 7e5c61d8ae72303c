//! The control thread with its real sockets: processes that come, fork, lease and die.

use super::Control;
use crate::net::InterfaceAddress;
use crate::shared::{Message, Shared, lock};
use crate::sys;
use crate::tcp::TcpConfig;
use crate::worker::Worker;
use crate::{EngineConfig, TimeWaitReuse};
use context::Segment;
use context::command::{Command, Op};
use context::control::{self, Name, REPLY_LEN, Reply, Request};
use context::layout::Plan;
use psio::pair::{PairConfig, pair};
use psio::{Device, MacAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;

/// A control thread, which turns when the test says so, and a worker.
struct Bed {
    control: Control,
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

fn config() -> EngineConfig {
    EngineConfig {
        addresses: vec![InterfaceAddress::new([10, 0, 0, 1].into(), 24).unwrap()],
        local: Vec::new(),
        routes: Vec::new(),
        ipv6: None,
        neighbors: Vec::new(),
        tcp: TcpConfig::default(),
        send_buffer: 64 << 10,
        send_buffer_max: 1 << 20,
        somaxconn: 4095,
        loopback: true,
        memory: 16 << 20,
        cores: vec![None],
        spin_us: 0,
        own_cores: false,
        max_time_wait: 10,
        time_wait_reuse: TimeWaitReuse::Off,
        max_orphans: 10,
        keepalive: false,
    }
}

impl Bed {
    fn new() -> Bed {
        Bed::for_threads(16)
    }

    fn for_threads(threads: usize) -> Bed {
        let plan = Plan {
            workers: 1,
            sockets: 16 * threads,
            contexts: threads,
            ready_sets: threads,
            memory: 16 << 20,
        };
        let segment = Segment::create(&plan, b"", true, 0).unwrap();
        let shared = Arc::new(Shared::new(segment, config()).unwrap());
        let (mut near, _) = pair(PairConfig::plain()).unwrap();
        let (queue, capabilities) = (near.open_queue(0).unwrap(), near.capabilities());
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let of_worker = shared.clone();
        let worker = std::thread::spawn(move || {
            let mut worker = Worker::new(of_worker, 0, queue, mac, capabilities).unwrap();
            worker.run().unwrap();
        });
        let name = format!("mtcp-test-{:016x}", u64::from_ne_bytes(sys::random()));
        let listener = sys::listen_abstract(&name).unwrap();
        let stop = sys::eventfd().unwrap();
        Bed {
            control: Control::new(shared.clone(), listener, stop).unwrap(),
            shared,
            worker: Some(worker),
        }
    }

    /// A process that has connected, with a thread.
    fn process(&mut self) -> Process {
        let (ours, theirs) = sys::seqpacket_pair().unwrap();
        let number = self.control.admit(ours, 0, 1, 0).unwrap();
        let mut process = Process {
            number,
            connection: theirs,
        };
        let hello = self.ask(&mut process, Request::Hello { pid: 7 }, &[], None);
        assert_eq!(hello.unwrap().0, number);
        process
    }

    fn ask(
        &mut self,
        process: &mut Process,
        request: Request,
        names: &[Name],
        fd: Option<&OwnedFd>,
    ) -> Result<(u32, Vec<OwnedFd>), i32> {
        let mut bytes = request.to_bytes().to_vec();
        bytes.extend(names.iter().flat_map(|name| name.to_bytes()));
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        control::send(process.connection.as_fd(), &bytes, &fds).unwrap();
        assert!(self.control.turn());
        let mut bytes = [0; REPLY_LEN];
        let (n, fds) = control::receive(process.connection.as_fd(), &mut bytes).unwrap();
        let reply = Reply::from_bytes(&bytes[..n]).expect("an answer");
        match reply.error {
            0 => Ok((reply.value, fds)),
            error => Err(error),
        }
    }

    /// A fresh socket of a process, bound so that its end can be seen.
    fn bound_socket(&mut self, process: &mut Process, port: u16) -> Name {
        let request = Request::NewContext { tid: 1 };
        let context = self.ask(process, request, &[], None).unwrap().0;
        let lane = self.shared.segment.lane(context, 0).unwrap();
        let [socket] = lane.sockets.take().expect("granted");
        let socket = socket as u32;
        let to = ([0, 0, 0, 0], port).into();
        let bind = Request::Bind { socket, to };
        self.ask(process, bind, &[], None).unwrap();
        let record = self.shared.segment.socket(socket).unwrap();
        let generation = record.engine.generation.load(SeqCst) as u16;
        Name { socket, generation }
    }

    fn fork(&mut self, process: &mut Process, names: &[Name]) -> Process {
        let (number, mut fds) = self.ask(process, Request::Fork, names, None).unwrap();
        Process {
            number,
            connection: fds.pop().expect("the child's connection"),
        }
    }

    fn lease(&mut self, process: &mut Process, name: Name) -> OwnedFd {
        let (_, mut fds) = self.ask(process, Request::Lease(name), &[], None).unwrap();
        fds.pop().expect("the lease")
    }

    /// Closes a connection or a lease, of which no copy is left.
    fn close(&mut self, fd: OwnedFd) {
        drop(fd);
        assert!(self.control.turn());
    }

    /// Bytes that the segment takes of the system's memory.
    fn resident(&self) -> u64 {
        let fd = self.shared.segment.fd().try_clone_to_owned().unwrap();
        std::fs::File::from(fd).metadata().unwrap().blocks() * 512
    }

    fn is_open(&self, name: Name) -> bool {
        // The worker answers after it has done what it was asked before.
        self.control
            .ask(|done| Message::Sync { done })
            .expect("the worker lives");
        lock(&self.shared.binds).claim(name.socket).is_some()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.shared.inboxes[0].send(Message::Stop);
        if let Some(worker) = self.worker.take() {
            worker.join().expect("the worker has not failed");
        }
    }
}

struct Process {
    number: u32,
    connection: OwnedFd,
}

#[test]
fn a_child_holds_what_its_parent_held_at_the_fork_and_no_more() {
    let mut bed = Bed::new();
    let mut parent = bed.process();
    let inherited = bed.bound_socket(&mut parent, 80);
    let child = bed.fork(&mut parent, &[inherited]);
    assert_ne!(child.number, parent.number);
    let later = bed.bound_socket(&mut parent, 81);
    bed.close(parent.connection);
    assert!(bed.is_open(inherited) && !bed.is_open(later));
    bed.close(child.connection);
    assert!(!bed.is_open(inherited));
}

#[test]
fn a_fork_that_fails_leaves_nothing_behind() {
    let mut bed = Bed::new();
    let mut parent = bed.process();
    let socket = bed.bound_socket(&mut parent, 80);
    let never_born = bed.fork(&mut parent, &[socket]);
    bed.close(never_born.connection);
    assert!(bed.is_open(socket));
    bed.close(parent.connection);
    assert!(!bed.is_open(socket));
}

#[test]
fn sockets_are_shared_in_several_messages_but_only_with_a_child_of_ones_own() {
    let mut bed = Bed::new();
    let (mut parent, mut stranger) = (bed.process(), bed.process());
    let socket = bed.bound_socket(&mut parent, 80);
    let child = bed.fork(&mut parent, &[]);
    let share = Request::Share {
        child: child.number,
    };
    let refused = bed.ask(&mut stranger, share, &[socket], None);
    assert_eq!(refused.unwrap_err(), libc::ECHILD);
    bed.ask(&mut parent, share, &[socket], None).unwrap();
    bed.close(parent.connection);
    assert!(bed.is_open(socket));
    bed.close(child.connection);
    assert!(!bed.is_open(socket));
}

#[test]
fn a_lease_keeps_its_socket_while_a_copy_of_it_is_open() {
    let mut bed = Bed::new();
    let mut process = bed.process();
    let socket = bed.bound_socket(&mut process, 80);
    let lease = bed.lease(&mut process, socket);
    let copy = lease.try_clone().unwrap();
    bed.close(process.connection);
    drop(lease);
    assert!(bed.is_open(socket));
    bed.close(copy);
    assert!(!bed.is_open(socket));
}

#[test]
fn who_shows_a_lease_holds_the_socket() {
    let mut bed = Bed::new();
    let mut giver = bed.process();
    let socket = bed.bound_socket(&mut giver, 80);
    let lease = bed.lease(&mut giver, socket);
    bed.close(giver.connection);
    let mut taker = bed.process();
    let other = sys::eventfd().unwrap();
    let refused = bed.ask(&mut taker, Request::Hold, &[], Some(&other));
    assert_eq!(refused.unwrap_err(), libc::ENOENT);
    let held = bed.ask(&mut taker, Request::Hold, &[], Some(&lease));
    assert_eq!(held.unwrap().0, socket.socket);
    bed.close(lease);
    assert!(bed.is_open(socket));
    bed.close(taker.connection);
    assert!(!bed.is_open(socket));
}

#[test]
fn who_has_just_closed_a_socket_and_shows_a_lease_of_it_holds_it_anew() {
    let mut bed = Bed::new();
    let mut process = bed.process();
    let request = Request::NewContext { tid: 1 };
    let context = bed.ask(&mut process, request, &[], None).unwrap().0;
    let (socket, mut sent) = (bed.bound_socket(&mut process, 80), 0);
    let lease = bed.lease(&mut process, socket);
    let close = Command {
        op: Op::Close,
        socket: socket.socket,
        generation: socket.generation,
        arg: 0,
    };
    let lane = bed.shared.segment.lane(context, 0).unwrap();
    lane.commands.push(&mut sent, close.to_words()).unwrap();
    // The worker has not been told of the command yet.
    let held = bed.ask(&mut process, Request::Hold, &[], Some(&lease));
    assert_eq!(held.unwrap().0, socket.socket);
    bed.shared.segment.worker(0).announce(context);
    bed.close(lease);
    assert!(bed.is_open(socket));
    bed.close(process.connection);
    assert!(!bed.is_open(socket));
}

#[test]
fn only_a_holder_is_given_a_lease() {
    let mut bed = Bed::new();
    let (mut holder, mut stranger) = (bed.process(), bed.process());
    let socket = bed.bound_socket(&mut holder, 80);
    let refused = bed.ask(&mut stranger, Request::Lease(socket), &[], None);
    assert_eq!(refused.unwrap_err(), libc::EBADF);
    let earlier = Name {
        generation: socket.generation.wrapping_sub(1),
        ..socket
    };
    let refused = bed.ask(&mut holder, Request::Lease(earlier), &[], None);
    assert_eq!(refused.unwrap_err(), libc::EBADF);
}

#[test]
fn only_a_holder_names_a_socket_and_listens_on_it() {
    let mut bed = Bed::new();
    let (mut holder, mut stranger) = (bed.process(), bed.process());
    let request = Request::NewContext { tid: 1 };
    let context = bed.ask(&mut holder, request, &[], None).unwrap().0;
    let lane = bed.shared.segment.lane(context, 0).unwrap();
    let [socket] = lane.sockets.pop(&mut 0).unwrap().expect("granted");
    let socket = socket as u32;
    let to = ([0, 0, 0, 0], 80).into();
    let requests = [
        Request::Bind { socket, to },
        Request::Listen { socket, backlog: 1 },
    ];
    for request in requests {
        let refused = bed.ask(&mut stranger, request, &[], None);
        assert_eq!(refused.unwrap_err(), libc::EBADF);
    }
    for request in requests {
        bed.ask(&mut holder, request, &[], None).unwrap();
    }
    for request in requests {
        let refused = bed.ask(&mut stranger, request, &[], None);
        assert_eq!(refused.unwrap_err(), libc::EBADF);
    }
}

#[test]
fn who_writes_into_a_lease_does_not_wait() {
    let mut bed = Bed::new();
    let mut process = bed.process();
    let socket = bed.bound_socket(&mut process, 80);
    let lease = bed.lease(&mut process, socket);
    let error = control::send(lease.as_fd(), b"x", &[]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_kernel_socket_in_a_message_keeps_the_listener_beside_it() {
    let mut bed = Bed::new();
    let mut sender = bed.process();
    let socket = bed.bound_socket(&mut sender, 80);
    let kernel = sys::eventfd().unwrap();
    let record = bed.shared.segment.socket(socket.socket).unwrap();
    let inode = sys::inode(kernel.as_fd()).unwrap();
    record.names.set_kernel_inode(inode);
    let child = bed.fork(&mut sender, &[socket]);
    for _ in 0..2 {
        bed.ask(&mut sender, Request::Pin(socket), &[], None)
            .unwrap();
    }
    bed.close(child.connection);
    let mut receiver = bed.process();
    let held = bed.ask(&mut receiver, Request::Hold, &[], Some(&kernel));
    assert_eq!(held.unwrap().0, socket.socket);
    bed.close(sender.connection);
    assert!(bed.is_open(socket));
    bed.close(receiver.connection);
    assert!(!bed.is_open(socket));
}

#[test]
fn a_message_that_has_not_arrived_keeps_what_another_has_brought() {
    let mut bed = Bed::new();
    let mut sender = bed.process();
    let socket = bed.bound_socket(&mut sender, 80);
    let kernel = sys::eventfd().unwrap();
    let record = bed.shared.segment.socket(socket.socket).unwrap();
    record
        .names
        .set_kernel_inode(sys::inode(kernel.as_fd()).unwrap());
    for _ in 0..2 {
        bed.ask(&mut sender, Request::Pin(socket), &[], None)
            .unwrap();
    }
    // The sender closes its own descriptor.
    bed.control.tell_gone(sender.number, socket);
    for _ in 0..2 {
        let mut receiver = bed.process();
        let held = bed.ask(&mut receiver, Request::Hold, &[], Some(&kernel));
        assert_eq!(held.unwrap().0, socket.socket);
        bed.close(receiver.connection);
    }
    assert!(!bed.is_open(socket));
}

#[test]
fn what_was_sent_and_never_asked_for_ends_with_its_sender() {
    let mut bed = Bed::new();
    let (mut sender, mut other) = (bed.process(), bed.process());
    let socket = bed.bound_socket(&mut sender, 80);
    let refused = bed.ask(&mut other, Request::Pin(socket), &[], None);
    assert_eq!(refused.unwrap_err(), libc::EBADF);
    bed.ask(&mut sender, Request::Pin(socket), &[], None)
        .unwrap();
    bed.close(sender.connection);
    assert!(!bed.is_open(socket));
}

#[test]
fn memory_of_threads_that_have_ended_goes_back_to_the_system() {
    const THREADS: usize = 300;
    let mut bed = Bed::for_threads(THREADS + 1);
    let mut process = bed.process();
    let mut peaks = Vec::new();
    for round in 0..4 {
        let mut ended = Vec::new();
        for tid in 0..THREADS as u32 {
            let context = bed.ask(&mut process, Request::NewContext { tid }, &[], None);
            let set = bed.ask(&mut process, Request::NewReadySet, &[], None);
            ended.push((context.unwrap().0, set.unwrap().0));
        }
        let peak = bed.resident();
        if round == 3 {
            // Those of a process that is killed as well.
            drop(process);
            assert!(bed.control.turn());
            process = bed.process();
        } else {
            for (context, set) in ended {
                let (context, set) = (Request::FreeContext(context), Request::FreeReadySet(set));
                bed.ask(&mut process, context, &[], None).unwrap();
                bed.ask(&mut process, set, &[], None).unwrap();
            }
        }
        // Of each, at least the pages with the cursors of its rings had been touched.
        let back = peak - bed.resident();
        assert!(back >= 200 * 3 * 4096, "{back} bytes");
        peaks.push(peak);
    }
    let first = peaks[0];
    assert!(peaks.iter().all(|peak| *peak <= first), "{peaks:?}");
}
