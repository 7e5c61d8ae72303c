//! A process that breaks every rule of the segment: commands without sense, cursors that lie,
//! records, rings and links overwritten. It leaves alone what is not its own: the segment is one
//! for all processes of an application, and what they do to each other there cannot be prevented.

use crate::app::App;
use crate::bed::Bed;
use crate::dice::Dice;
use context::command::{Command, Op};
use context::socket::Socket;
use engine::shared::Message;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

const OPS: [Op; 12] = [
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
    Op::FastOpen,
];

/// The process, with two threads: the first keeps its lane in order, the second spoils its own.
///
/// Once it has begun to spoil things it writes no more data: the memory that it believes to hold may
/// be another's by then, because of what it has said itself.
pub struct Hostile {
    process: u32,
    honest: App,
    liar: App,
    sockets: Vec<u32>,
    /// Whether it has begun to spoil things.
    turned: bool,
    /// Sockets of others.
    spared: Vec<u32>,
    /// Ready sets of its own.
    sets: [u32; 2],
    /// Where it may connect to.
    targets: Vec<SocketAddr>,
}

impl Hostile {
    /// A process that does not touch the sockets in `spared`.
    pub fn start(bed: &mut Bed, process: u32, spared: &[u32], targets: &[SocketAddr]) -> Self {
        let (honest, liar) = (bed.app(process), bed.app(process));
        let sets = [1, 2];
        for set in sets {
            bed.renew_set(set);
        }
        Hostile {
            process,
            honest,
            liar,
            sockets: Vec::new(),
            turned: false,
            spared: spared.to_vec(),
            sets,
            targets: targets.to_vec(),
        }
    }

    /// Does one thing, sensible or not.
    pub fn go_on(&mut self, bed: &mut Bed, dice: &mut Dice<'_>) {
        if self.sockets.is_empty() || dice.below(8) == 0 {
            if let Some(socket) = self.honest.socket() {
                self.hold(socket);
            }
            return;
        }
        let socket = self.sockets[dice.index(self.sockets.len())];
        let shared = bed.shared.clone();
        let record = shared.segment.socket(socket).unwrap();
        let what = dice.below(20);
        if (8..17).contains(&what) && !self.turned {
            if dice.below(8) != 0 {
                return;
            }
            self.turned = true;
        }
        match what {
            0 | 1 => {
                let to = self.targets[dice.index(self.targets.len())];
                self.honest.connect(socket, to);
            }
            2 => {
                let port = 5000 + dice.below(4) as u16;
                if bed.bind(socket, port) {
                    bed.listen_bound(socket, port, dice.below(5) as u32);
                }
            }
            3 => {
                if let Some(accepted) = self.honest.accept(socket) {
                    self.hold(accepted);
                }
            }
            4..=6 if !self.turned => {
                let data = vec![0xbd; 1 + dice.index(40_000)];
                self.honest.send(socket, &data);
            }
            7 if !self.turned => {
                self.honest.recv(socket, 1 + dice.index(40_000));
            }
            8 => {
                self.honest.close(socket);
            }
            9..=11 => self.any_command(socket, dice),
            12 | 13 => scribble_stream(record, dice),
            14 => {
                scribble(words(&record.engine), dice);
                scribble(words(&record.app), dice);
                scribble(words(&record.options), dice);
                scribble(words(&record.names), dice);
            }
            // A stream that goes on where a link leads anywhere.
            15 => {
                let app = &record.app;
                app.tx_tail.fetch_add(1 << dice.below(17), SeqCst);
                app.tx_seek_chunk.store(dice.odd_word() as u32, SeqCst);
            }
            16 => {
                scribble(
                    words(shared.segment.lane(self.liar.context, 0).unwrap()),
                    dice,
                );
                self.liar.refill();
            }
            17 => {
                let set = self.sets[dice.index(2)];
                scribble(words(shared.segment.event_ring(set, 0).unwrap()), dice);
                scribble(words(shared.segment.ready_set(set).unwrap()), dice);
                if let Some(ring) = shared.segment.accept_ring(self.honest.accept_chunk(socket)) {
                    scribble(words(ring), dice);
                }
            }
            18 => {
                let worker = shared.segment.worker(0);
                worker.announce(dice.word() as u32 % 5000);
                let _ = worker.must_ring();
            }
            _ => self.ask(bed, socket, dice),
        }
    }

    /// Its death.
    pub fn end(self, bed: &mut Bed) {
        bed.process_gone(self.process, &[self.honest.context, self.liar.context]);
    }

    /// Takes a number into the list, unless it names what is not its own.
    fn hold(&mut self, socket: u32) {
        let sockets = self.honest.shared.segment.geometry().sockets();
        if socket < sockets && !self.spared.contains(&socket) {
            self.sockets.retain(|held| *held != socket);
            self.sockets.push(socket);
            if self.sockets.len() > 16 {
                self.sockets.remove(0);
            }
        }
    }

    /// What a process can ask of the control thread, sensible or not.
    fn ask(&mut self, bed: &mut Bed, socket: u32, dice: &mut Dice<'_>) {
        match dice.below(5) {
            0 => {
                let context = self.liar.context;
                bed.ask(|done| Message::CloseContext { context, done });
                self.liar = bed.open_context(context, self.process);
            }
            1 => {
                let context = self.honest.context;
                bed.ask(|done| Message::CloseContext { context, done });
                self.honest = bed.open_context(context, self.process);
            }
            2 => bed.renew_set(self.sets[dice.index(2)]),
            3 => {
                let sockets = u64::from(bed.shared.segment.geometry().sockets());
                let any = dice.below(sockets) as u32;
                let socket = if dice.one_in(2) { socket } else { any };
                if !self.spared.contains(&socket) {
                    bed.listen_bound(socket, 5000 + dice.below(4) as u16, 5);
                }
            }
            _ => bed.ask(|done| Message::SetBacklog {
                socket,
                backlog: dice.below(10) as u32,
                done,
            }),
        }
    }

    fn any_command(&mut self, held: u32, dice: &mut Dice<'_>) {
        let op = OPS[dice.index(OPS.len())];
        let socket = match dice.below(8) {
            0 => dice.odd_word() as u32,
            _ => held,
        };
        if self.spared.contains(&socket) {
            return;
        }
        let app = if dice.one_in(2) {
            &mut self.honest
        } else {
            &mut self.liar
        };
        let generation = match dice.below(4) {
            0 => dice.word() as u16,
            _ => app.generation(socket),
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
