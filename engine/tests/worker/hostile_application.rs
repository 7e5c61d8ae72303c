//! A process that breaks every rule of the segment: commands without sense, cursors that lie,
//! records, rings and links overwritten. It leaves alone what is not its own: the segment is one
//! for all processes of an application, and what they do to each other there cannot be prevented.

use crate::app::App;
use crate::bed::Bed;
use crate::dice::Dice;
use context::command::{Command, Op};
use context::layout::Geometry;
use context::socket::{Socket, flag};
use engine::shared::Message;
use std::net::SocketAddrV4;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

const OPS: [Op; 11] = [
    Op::Send,
    Op::Consumed,
    Op::Connect,
    Op::Close,
    Op::Shutdown,
    Op::Options,
    Op::Watch,
    Op::Unwatch,
    Op::Adopt,
    Op::Info,
    Op::Refill,
];

/// The process, with its threads.
pub struct Hostile {
    process: u32,
    threads: Vec<App>,
    /// Sockets that it holds, or held.
    sockets: Vec<u32>,
    /// Sockets of others.
    spared: Vec<u32>,
    /// Ready sets of its own.
    sets: [u32; 2],
    /// Where it may connect to.
    targets: Vec<SocketAddrV4>,
}

impl Hostile {
    /// A process with two threads. It does not touch the sockets in `spared`.
    pub fn start(bed: &mut Bed, process: u32, spared: &[u32], targets: &[SocketAddrV4]) -> Self {
        let threads = vec![bed.app(process), bed.app(process)];
        let sets = [1, 2];
        for set in sets {
            bed.renew_set(set);
        }
        Hostile {
            process,
            threads,
            sockets: Vec::new(),
            spared: spared.to_vec(),
            sets,
            targets: targets.to_vec(),
        }
    }

    /// Does one thing, sensible or not.
    pub fn go_on(&mut self, bed: &mut Bed, dice: &mut Dice<'_>) {
        let thread = dice.index(self.threads.len());
        let socket = match self.sockets.len() {
            0 => None,
            n => Some(self.sockets[dice.index(n)]),
        };
        match dice.below(24) {
            0..=2 => {
                if let Some(socket) = self.threads[thread].socket()
                    && self.may_touch(bed, socket)
                {
                    self.sockets.push(socket);
                    if self.sockets.len() > 16 {
                        self.sockets.remove(0);
                    }
                }
            }
            3 | 4 => {
                let to = self.targets[dice.index(self.targets.len())];
                if let Some(socket) = socket {
                    self.threads[thread].connect(socket, to);
                }
            }
            5 => {
                let port = 5000 + dice.below(4) as u16;
                if let Some(socket) = socket
                    && bed.bind(socket, port)
                {
                    bed.listen_bound(socket, port, dice.below(5) as u32);
                }
            }
            6 => {
                if let Some(listener) = socket
                    && let Some(accepted) = self.threads[thread].accept(listener)
                    && self.may_touch(bed, accepted)
                {
                    self.sockets.push(accepted);
                }
            }
            7..=9 => {
                if let Some(socket) = socket {
                    let data = vec![0xbd; 1 + dice.index(40_000)];
                    self.write(thread, socket, &data);
                }
            }
            10 => {
                if let Some(socket) = socket {
                    self.threads[thread].recv(socket, 1 + dice.index(40_000));
                }
            }
            11..=13 => self.any_command(thread, socket, dice),
            14 => {
                if let Some(socket) = socket {
                    self.threads[thread].close(socket);
                }
            }
            15..=17 => {
                if let Some(socket) = socket {
                    let record = bed.shared.segment.socket(socket).unwrap();
                    scribble_stream(record, dice);
                }
            }
            18 => {
                if let Some(socket) = socket {
                    let record = bed.shared.segment.socket(socket).unwrap();
                    scribble(words(record), dice);
                }
            }
            19 => {
                let context = self.threads[thread].context;
                scribble(words(bed.shared.segment.lane(context, 0).unwrap()), dice);
            }
            20 => {
                let set = self.sets[dice.index(2)];
                scribble(words(bed.shared.segment.event_ring(set, 0).unwrap()), dice);
                scribble(words(bed.shared.segment.ready_set(set).unwrap()), dice);
            }
            21 => {
                let link = dice.below(u64::from(bed.shared.segment.geometry().chunks.total()));
                // A link of its own, if it knows one.
                let chunk = socket
                    .and_then(|s| bed.shared.segment.socket(s))
                    .map(|record| record.app.tx_seek_chunk.load(SeqCst));
                if let Some(word) = chunk.and_then(|c| bed.shared.segment.link(c)) {
                    word.store(link as u32, SeqCst);
                }
                if let Some(socket) = socket {
                    let chunk = self.threads[thread].accept_chunk(socket);
                    if let Some(ring) = bed.shared.segment.accept_ring(chunk)
                        && bed.shared.segment.socket(socket).unwrap().tcp_state()
                            == context::socket::state::LISTEN
                    {
                        scribble(words(ring), dice);
                    }
                }
            }
            22 => {
                let worker = bed.shared.segment.worker(0);
                worker.announce(dice.word() as u32 % 5000);
                let _ = worker.must_ring();
            }
            _ => self.ask(bed, thread, socket, dice),
        }
    }

    /// The contexts of its threads.
    pub fn contexts(&self) -> Vec<u32> {
        self.threads.iter().map(|thread| thread.context).collect()
    }

    /// What a process can ask of the control thread, sensible or not.
    fn ask(&mut self, bed: &mut Bed, thread: usize, socket: Option<u32>, dice: &mut Dice<'_>) {
        match dice.below(4) {
            0 => {
                let context = self.threads[thread].context;
                bed.ask(|done| Message::CloseContext { context, done });
                self.threads[thread] = bed.open_context(context, self.process);
            }
            1 => bed.renew_set(self.sets[dice.index(2)]),
            2 => {
                let sockets = u64::from(bed.shared.segment.geometry().sockets());
                let any = dice.below(sockets) as u32;
                let socket = socket.filter(|_| dice.one_in(2)).unwrap_or(any);
                if self.may_touch(bed, socket) {
                    bed.listen_bound(socket, 5000 + dice.below(4) as u16, 5);
                }
            }
            _ => {
                if let Some(socket) = socket {
                    bed.ask(|done| Message::SetBacklog {
                        socket,
                        backlog: dice.below(10) as u32,
                        done,
                    });
                }
            }
        }
    }

    fn any_command(&mut self, thread: usize, socket: Option<u32>, dice: &mut Dice<'_>) {
        let app = &mut self.threads[thread];
        let op = OPS[dice.index(OPS.len())];
        let socket = match socket {
            Some(socket) if dice.below(8) != 0 => socket,
            _ => dice.odd_word() as u32,
        };
        if self.spared.contains(&socket) {
            return;
        }
        let exists = app.shared.segment.socket(socket).is_some();
        let generation = match exists && dice.below(4) != 0 {
            true => app.generation(socket),
            false => dice.word() as u16,
        };
        let arg = match op {
            Op::Watch | Op::Unwatch => {
                u64::from(self.sets[dice.index(2)]) << 32 | dice.below(1 << 20)
            }
            Op::Close | Op::Shutdown => dice.below(4),
            _ => dice.odd_word(),
        };
        app.push(Command {
            op,
            socket,
            generation,
            arg,
        });
    }

    /// Writes as a thread does, though with words that may have been spoilt before.
    fn write(&mut self, thread: usize, socket: u32, data: &[u8]) {
        let app = &mut self.threads[thread];
        let record = app.shared.segment.socket(socket).unwrap();
        let fresh = record.app.tx_open.load(SeqCst) == context::NONE;
        // A chunk that it does not hold may be another's by now.
        if fresh || sane(record, app.shared.segment.geometry()) {
            record.app.flags.fetch_and(!flag::CLOSED, SeqCst);
            record.app.tx_lock.reset();
            if record.app.tx_tail.load(SeqCst) < 1 << 40 {
                app.send(socket, data);
            }
        }
    }

    /// Whether a number that came out of shared memory names a socket of its own.
    fn may_touch(&self, bed: &Bed, socket: u32) -> bool {
        socket < bed.shared.segment.geometry().sockets() && !self.spared.contains(&socket)
    }
}

/// Whether the open chunk is where the record says.
fn sane(record: &Socket, geometry: &Geometry) -> bool {
    let _ = geometry;
    let start = record.app.tx_chunk_start.load(SeqCst);
    let tail = record.app.tx_tail.load(SeqCst);
    start <= tail && tail - start <= 1 << 16
}

/// Changes the words by which a stream is found, mostly to what might pass.
fn scribble_stream(record: &Socket, dice: &mut Dice<'_>) {
    let app = &record.app;
    let long = [
        &app.rx_head,
        &app.tx_tail,
        &app.tx_seek_pos,
        &app.tx_chunk_start,
        &app.rx_chunk_start,
    ];
    let short = [
        &app.tx_open,
        &app.tx_seek_chunk,
        &app.flags,
        &app.waiters,
        &app.queued,
        &record.options.bits,
        &record.options.max_segment,
        &record.options.receive_buffer,
        &record.options.send_buffer,
        &record.options.user_timeout,
        &record.options.keep_idle,
        &record.options.keep_interval,
        &record.options.keep_count,
        &record.options.tos_ttl,
    ];
    for _ in 0..1 + dice.below(3) {
        if dice.one_in(2) {
            let word = long[dice.index(long.len())];
            let step = dice.below(5000);
            match dice.below(3) {
                0 => word.store(dice.odd_word(), SeqCst),
                1 => word.store(word.load(SeqCst).wrapping_add(step), SeqCst),
                _ => word.store(word.load(SeqCst).wrapping_sub(step), SeqCst),
            }
        } else {
            short[dice.index(short.len())].store(dice.odd_word() as u32, SeqCst);
        }
    }
}

/// Overwrites some of the words.
fn scribble(words: &[AtomicU32], dice: &mut Dice<'_>) {
    for _ in 0..1 + dice.below(8) {
        // Cursors stand at the start.
        let near = words.len().min(64);
        let len = if dice.one_in(2) { near } else { words.len() };
        words[dice.index(len)].store(dice.odd_word() as u32, SeqCst);
    }
}

/// A shared record as words.
#[allow(unsafe_code)]
fn words<T>(record: &T) -> &[AtomicU32] {
    assert!(align_of::<T>() >= 4);
    // SAFETY: the records of the segment consist of atomics, which may be changed through a shared
    // reference, and for which every value is valid; the slice covers the record exactly. All
    // accesses of a test are of one thread, so none of different sizes race.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast(), size_of::<T>() / 4) }
}
