//! An application thread that uses the segment as the preload library does.

use context::command::{Command, Op};
use context::ready::Event;
use context::socket::{flag, state};
use context::stream::{Reader, Writer};
use context::{NONE, Segment};
use engine::shared::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// A thread with its context. Each call only leaves its command: the worker acts in its next round.
pub struct App {
    pub process: u32,
    pub context: u32,
    pub shared: Arc<Shared>,
    /// The worker whose lane this is.
    worker: usize,
    command_tail: u32,
}

impl App {
    /// The thread that a fresh context belongs to, as far as it deals with one worker.
    pub fn new(shared: Arc<Shared>, worker: usize, context: u32, process: u32) -> App {
        App {
            process,
            context,
            shared,
            worker,
            command_tail: 0,
        }
    }

    fn segment(&self) -> &Segment {
        &self.shared.segment
    }

    /// Pushes a command. False if the ring is full.
    pub fn push(&mut self, command: Command) -> bool {
        let lane = self.shared.segment.lane(self.context, self.worker).unwrap();
        let pushed = lane
            .commands
            .push(&mut self.command_tail, command.to_words());
        self.shared
            .segment
            .worker(self.worker)
            .announce(self.context);
        pushed == Ok(true)
    }

    /// Pushes a command about a socket that the thread holds.
    pub fn command(&mut self, op: Op, socket: u32, arg: u64) -> bool {
        let generation = self.generation(socket);
        self.push(Command {
            op,
            socket,
            generation,
            arg,
        })
    }

    /// The low bits of a record's generation; 0 if there is no such record.
    pub fn generation(&self, socket: u32) -> u16 {
        let record = self.segment().socket(socket);
        record.map_or(0, |r| r.engine.generation.load(SeqCst) as u16)
    }

    /// `socket(2)`: takes a granted record. `None` if there is none now.
    pub fn socket(&mut self) -> Option<u32> {
        let lane = self.shared.segment.lane(self.context, self.worker).unwrap();
        match lane.sockets.take() {
            Some([socket]) => Some(socket as u32),
            None => {
                self.refill();
                None
            }
        }
    }

    /// Says that grants have run short.
    pub fn refill(&mut self) {
        self.push(Command {
            op: Op::Refill,
            socket: NONE,
            generation: 0,
            arg: 0,
        });
    }

    /// `connect(2)`.
    pub fn connect(&mut self, socket: u32, to: impl Into<SocketAddr>) {
        let record = self.segment().socket(socket).unwrap();
        record.names.request(to.into());
        record
            .app
            .flags
            .fetch_or(flag::KNOWN | flag::CONNECTING, SeqCst);
        self.command(Op::Connect, socket, 0);
    }

    /// `accept(2)`: the next connection that waits at a listener.
    pub fn accept(&mut self, listener: u32) -> Option<u32> {
        let socket = self.take(listener, true)?;
        self.command(Op::Adopt, socket, 0);
        Some(socket)
    }

    /// The part of accept(2) before its command: `whole`, or killed before it moves the cursor.
    pub fn take(&mut self, listener: u32, whole: bool) -> Option<u32> {
        let record = self.segment().socket(listener)?;
        let chunk = record.accept_rings[self.worker].load(SeqCst);
        let ring = (chunk != 0).then(|| self.segment().accept_ring(chunk))??;
        let mut head = ring.head();
        let [socket] = ring.first(head).ok()??;
        let record = self.segment().socket(socket as u32)?;
        record.app.taker.store(self.process, SeqCst);
        if whole {
            ring.pop(&mut head).ok()?;
        }
        Some(socket as u32)
    }

    /// `send(2)`: as much as there is room and memory for.
    pub fn send(&mut self, socket: u32, data: &[u8]) -> usize {
        let shared = self.shared.clone();
        let segment = &shared.segment;
        let lane = segment.lane(self.context, self.worker).unwrap();
        let record = segment.socket(socket).unwrap();
        let Some(mut writer) = Writer::lock(segment, record, 1) else {
            return 0;
        };
        let mut done = 0;
        let grant = |class: context::chunk::Class| {
            let take = |i: usize| match i {
                0 => lane.small.take(),
                1 => lane.medium.take(),
                _ => lane.large.take(),
            };
            let others = [class.index(), 0, 1, 2];
            let found = others.into_iter().find_map(take);
            found.map(|[chunk]| chunk as u32)
        };
        let n = writer.write(data.len() as u64, grant, |to, n| {
            copy(data[done..].as_ptr(), to, n);
            done += n;
            n
        });
        if (n as usize) < data.len() {
            writer.want_room();
        }
        let notify = writer.must_notify();
        drop(writer);
        if notify {
            self.command(Op::Send, socket, 0);
        }
        if (n as usize) < data.len() {
            self.refill();
        }
        n as usize
    }

    /// `recv(2)`: at most `len` bytes of what is there.
    pub fn recv(&mut self, socket: u32, len: usize) -> Vec<u8> {
        let shared = self.shared.clone();
        let segment = &shared.segment;
        let record = segment.socket(socket).unwrap();
        let Some(mut reader) = Reader::lock(segment, record, 1) else {
            return Vec::new();
        };
        let mut data = vec![0; len];
        let mut done = 0;
        reader.read(len as u64, false, |from, n| {
            let n = n.min(data.len() - done);
            copy(from, data[done..].as_mut_ptr(), n);
            done += n;
        });
        let notify = reader.must_notify();
        drop(reader);
        if notify {
            self.command(Op::Consumed, socket, 0);
        }
        data.truncate(done);
        data
    }

    /// `shutdown(2)` of the writing side.
    pub fn shutdown_write(&mut self, socket: u32) {
        let record = self.segment().socket(socket).unwrap();
        record.app.flags.fetch_or(flag::SHUT_WR, SeqCst);
        self.command(Op::Shutdown, socket, libc::SHUT_WR as u64);
    }

    /// `close(2)`.
    pub fn close(&mut self, socket: u32) {
        self.command(Op::Close, socket, 0);
        let record = self.segment().socket(socket).unwrap();
        record.app.flags.fetch_or(flag::CLOSED, SeqCst);
    }

    /// `close(2)` with `SO_LINGER` on and a time of 0.
    pub fn reset(&mut self, socket: u32) {
        self.command(Op::Close, socket, 1);
    }

    /// The state of a socket, a number of [`state`].
    pub fn state(&self, socket: u32) -> u32 {
        self.segment().socket(socket).unwrap().tcp_state()
    }

    /// Whether a connection is established.
    pub fn is_connected(&self, socket: u32) -> bool {
        self.state(socket) == state::ESTABLISHED
    }

    /// Whether a connection was established at some time.
    pub fn was_connected(&self, socket: u32) -> bool {
        let record = self.segment().socket(socket).unwrap();
        record.engine.state.load(SeqCst) & state::WAS_CONNECTED != 0
    }

    /// Whether the peer will send no more.
    pub fn is_at_end(&self, socket: u32) -> bool {
        let record = self.segment().socket(socket).unwrap();
        record.engine.state.load(SeqCst) & state::RX_SHUT != 0 && record.readable() == 0
    }

    /// Takes the pending error, as `SO_ERROR` does.
    pub fn take_error(&self, socket: u32) -> i32 {
        let record = self.segment().socket(socket).unwrap();
        record.engine.error.swap(0, SeqCst)
    }

    /// Asks for a socket's edges.
    pub fn watch(&mut self, set: u32, cookie: u32, socket: u32) {
        self.command(Op::Watch, socket, u64::from(set) << 32 | u64::from(cookie));
    }

    /// Takes a watch back.
    pub fn unwatch(&mut self, set: u32, cookie: u32, socket: u32) {
        let arg = u64::from(set) << 32 | u64::from(cookie);
        self.command(Op::Unwatch, socket, arg);
    }

    /// Takes the events of a ready set; `head` is the reader's cursor.
    pub fn events(&self, set: u32, head: &mut u32) -> Vec<Event> {
        let ring = self.segment().event_ring(set, self.worker).unwrap();
        let mut events = Vec::new();
        while let Ok(Some(words)) = ring.pop(head) {
            let event = Event::from_words(words);
            if event.slot < context::ready::COALESCED
                && let Some(record) = self.segment().socket(event.socket)
            {
                record.app.queued.fetch_and(!(1 << event.slot), SeqCst);
            }
            events.push(event);
        }
        events
    }

    /// Bytes that wait to be read.
    pub fn readable(&self, socket: u32) -> u64 {
        self.segment().socket(socket).unwrap().readable()
    }

    /// Bytes that may be written.
    pub fn writable(&self, socket: u32) -> u64 {
        self.segment().socket(socket).unwrap().writable()
    }

    /// The accept ring's chunk of a listener; 0 if there is none.
    pub fn accept_chunk(&self, listener: u32) -> u32 {
        self.segment().socket(listener).unwrap().accept_rings[self.worker].load(Relaxed)
    }
}

/// Copies between shared and private memory.
#[allow(unsafe_code)]
fn copy(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: one side is a piece of a chunk, as long as the stream says, the other a buffer that
    // the caller has bounded by `n`; nobody else touches the chunk, the test has one thread.
    unsafe { std::ptr::copy_nonoverlapping(from, to, n) }
}
