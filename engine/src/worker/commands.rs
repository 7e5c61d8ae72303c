//! What applications ask for through their command rings.

use super::Stack;
use super::options::HeaderOptions;
use super::slots::Role;
use super::streams::Bounds;
use crate::shared::{Watch, Watches, lock};
use crate::stats::Counter;
use crate::tcp::{self, State};
use context::command::{Command, EARLY, EXCLUSIVE, NOT_EARLY, Op};
use context::socket::{flag, state};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Commands taken from one context in a row, before others have their turn.
const TURN: usize = 256;
/// Watches of one socket; more are refused.
const MAX_WATCHES: usize = 1024;
/// Smallest and largest `SO_RCVBUF` and `SO_SNDBUF` that count (Linux: SOCK_MIN_*, *mem_max).
pub const BUFFER_BOUNDS: (u32, u32) = (2048, 16 << 20);
impl Stack {
    /// Handles the commands of all contexts that announced some. Returns whether there were any.
    pub fn take_commands(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut contexts = std::mem::take(&mut self.announced);
        shared
            .segment
            .worker(self.index)
            .take_announced(|context| contexts.push(context));
        let any = !contexts.is_empty();
        for context in contexts.drain(..) {
            if !self.drain_context(context, TURN) {
                shared.segment.worker(self.index).announce(context);
            }
        }
        self.announced = contexts;
        any
    }

    /// Handles at most `most` commands of a context; false if there may be more.
    pub fn drain_context(&mut self, context: u32, most: usize) -> bool {
        let shared = self.shared.clone();
        let Some(lane) = shared.segment.lane(context, self.index) else {
            return true;
        };
        for _ in 0..most {
            let Some(state) = self.contexts.get_mut(context as usize) else {
                return true;
            };
            if state.process == crate::shared::NO_PROCESS {
                return true;
            }
            let process = state.process;
            match lane.commands.pop(&mut state.head) {
                Ok(Some(words)) => match Command::from_words(words) {
                    Some(command) => self.execute(context, process, command),
                    None => self.count(Counter::bad_commands),
                },
                Ok(None) => {
                    self.refill(context, false);
                    return true;
                }
                Err(_) => {
                    // Start over where the application says it is: what was lost is its own.
                    state.head = lane.commands.tail();
                    self.count(Counter::bad_commands);
                    return true;
                }
            }
        }
        self.refill(context, false);
        false
    }

    fn execute(&mut self, context: u32, process: u32, command: Command) {
        if command.op == Op::Refill {
            self.refill(context, true);
            return;
        }
        let shared = self.shared.clone();
        let (Some(slot), Some(record)) = (
            self.slots.get(command.socket),
            shared.segment.socket(command.socket),
        ) else {
            self.count(Counter::bad_commands);
            return;
        };
        if slot.generation as u16 != command.generation || matches!(slot.role, Role::Free) {
            // For an earlier life of the record: nothing is left to do.
            return;
        }
        let connection = match slot.role {
            Role::Connection(id) => Some(id),
            _ => None,
        };
        match command.op {
            Op::Adopt => {
                slot.adopt(process);
                return;
            }
            Op::Watch => {
                self.watch(command.socket, command.arg);
                return;
            }
            Op::Unwatch => {
                self.unwatch(command.socket, command.arg);
                return;
            }
            _ => {}
        }
        // Whoever was given the number may act on it: its `Adopt` is on its way. What others hold is
        // left alone.
        if !matches!(command.op, Op::Info | Op::FastOpen) {
            slot.adopt(process);
            if !slot.holders.contains(&process) {
                return;
            }
        }
        match (command.op, connection) {
            (Op::Send, Some(id)) => {
                record.app.flags.fetch_and(!flag::TX_PENDING, SeqCst);
                self.collect_writes(id);
                if command.arg > 0
                    && let Some(connection) = self.connections.get(id)
                {
                    connection.tcb.end_record(command.arg);
                }
                // A writer that found room but no chunk: there are some after this, or later.
                if record.app.flags.load(SeqCst) & flag::NOSPACE != 0 && record.has_room() {
                    self.queue_writer(id);
                }
            }
            (Op::Consumed, Some(id)) => {
                record.app.flags.fetch_and(!flag::RX_PENDING, SeqCst);
                self.collect_reads(id);
                self.mark(id);
            }
            (Op::Shutdown, Some(id)) => {
                if command.arg == libc::SHUT_WR as u64 || command.arg == libc::SHUT_RDWR as u64 {
                    self.collect_writes(id);
                    let now = self.now;
                    if let Some(connection) = self.connections.get(id) {
                        connection.tcb.shutdown_write(now);
                        self.after(id, tcp::Events::SEND);
                    }
                }
                if command.arg != libc::SHUT_WR as u64
                    && let Some(connection) = self.connections.get(id)
                {
                    connection.tcb.shutdown_read();
                }
                self.raise(command.socket);
            }
            (Op::Shutdown, None) => {
                // Of a listener, or of a socket that failed: whoever waits is to look again.
                self.raise(command.socket);
                if matches!(
                    self.slots.get(command.socket).map(|s| &s.role),
                    Some(Role::Listener(_))
                ) {
                    self.stop_listening(command.socket);
                    let shut = state::RX_SHUT | state::TX_SHUT;
                    record
                        .engine
                        .state
                        .store(state::CLOSE | state::BOUND | shut, SeqCst);
                }
            }
            (Op::Options, Some(id)) => {
                let now = self.now;
                let flow = self.connections.get(id).map(|connection| connection.flow);
                let settings = flow.map(|flow| self.settings_for(record, flow.remote));
                let header = HeaderOptions::of_record(record);
                if let (Some(connection), Some(settings)) = (self.connections.get(id), settings) {
                    connection.tcb.change_settings(now, &settings);
                    connection.tos_ttl = header.of(&connection.flow);
                }
                self.set_send_limit(id);
                self.tell_writer(command.socket);
                self.mark(id);
            }
            (Op::Connect, None) => self.open_actively(command.socket),
            (Op::Info, _) => {
                let words = self.info_of(command.socket, connection);
                if let Some(context) = self.shared.segment.context(context) {
                    context.answer(command.arg as u32, &words);
                }
            }
            (Op::FastOpen, _) => {
                let word = match self.may_open_fast(record) {
                    true => EARLY,
                    false => NOT_EARLY,
                };
                if let Some(context) = self.shared.segment.context(context) {
                    context.answer(command.arg as u32, &[word]);
                }
            }
            (Op::Close, _) => self.leave(command.socket, process, command.arg != 0),
            _ => {}
        }
    }

    fn watch(&mut self, socket: u32, arg: u64) {
        let shared = self.shared.clone();
        let exclusive = arg & EXCLUSIVE != 0;
        let arg = arg & !EXCLUSIVE;
        let (set, cookie) = ((arg >> 32) as u32, arg as u32);
        let Some(state) = shared.sets.get(set as usize) else {
            self.count(Counter::bad_commands);
            return;
        };
        let watch = Watch {
            set,
            set_generation: state.generation.load(SeqCst),
            cookie,
            exclusive,
        };
        let is_current =
            |w: &Watch| shared.sets[w.set as usize].generation.load(SeqCst) == w.set_generation;
        let add = |watches: &mut Watches| {
            let same = watches.iter().position(|w| *w == Some(watch));
            let free = || {
                watches
                    .iter()
                    .position(|w| w.as_ref().is_none_or(|w| !is_current(w)))
            };
            match same.or_else(free) {
                Some(place) => {
                    watches[place] = Some(watch);
                    Some(place)
                }
                None if watches.len() < MAX_WATCHES => {
                    watches.push(Some(watch));
                    Some(watches.len() - 1)
                }
                None => None,
            }
        };
        let Some(slot) = self.slots.get(socket) else {
            return;
        };
        let place = match &slot.role {
            Role::Listener(listener) => add(&mut lock(&listener.watches)),
            _ => add(&mut slot.watches),
        };
        let Some(place) = place else {
            self.count(Counter::bad_commands);
            return;
        };
        // An event of an earlier watch in this place may still wait in some set: it does not stand
        // for this one.
        if let Some(record) = shared.segment.socket(socket)
            && place < 32
        {
            record.app.queued.fetch_and(!(1 << place), SeqCst);
        }
        self.raise(socket);
    }

    fn unwatch(&mut self, socket: u32, arg: u64) {
        let (set, cookie) = ((arg >> 32) as u32, arg as u32);
        let Some(slot) = self.slots.get(socket) else {
            return;
        };
        let remove = |watches: &mut Watches| {
            for watch in watches.iter_mut() {
                if watch.is_some_and(|w| w.set == set && w.cookie == cookie) {
                    *watch = None;
                }
            }
        };
        match &slot.role {
            Role::Listener(listener) => remove(&mut lock(&listener.watches)),
            _ => remove(&mut slot.watches),
        }
    }

    /// Bytes that may stand unacknowledged. A socket's own limit may just have shrunk (SO_SNDBUF):
    /// what was allowed before is allowed still.
    pub fn most_unacked(&self) -> u64 {
        u64::from(self.shared.config.send_buffer_max.max(BUFFER_BOUNDS.1))
    }

    /// Looks what the holders of a connection's socket have written.
    pub fn collect_writes(&mut self, id: u32) {
        let shared = self.shared.clone();
        let Some(socket) = self.connections.get(id).and_then(|c| c.socket) else {
            return;
        };
        let limit = self.most_unacked();
        let slot = self.slots.get(socket);
        let writers = slot.map_or(&[][..], |slot| &slot.holders);
        let bounds = Bounds { limit, writers };
        let (Some(connection), Some(record)) =
            (self.connections.get(id), shared.segment.socket(socket))
        else {
            return;
        };
        match connection
            .send
            .collect(&shared.segment, record, &mut self.pool, bounds)
        {
            Ok(end) => {
                let flags = record.app.flags.load(Relaxed);
                let more = flags & flag::MORE != 0;
                if flags & flag::URGENT != 0 {
                    connection
                        .tcb
                        .written_urgent(record.app.urgent.sent.load(SeqCst));
                }
                connection.tcb.written_more(end, more);
                self.mark(id);
            }
            Err(_) => self.punish(id),
        }
    }

    /// Looks what the application has read.
    pub fn collect_reads(&mut self, id: u32) {
        let shared = self.shared.clone();
        let now = self.now;
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let Some(record) = connection.socket.and_then(|s| shared.segment.socket(s)) else {
            return;
        };
        loop {
            let Some(head) = connection.recv.collect(record, &mut self.pool) else {
                self.punish(id);
                return;
            };
            // The stream may have seen it before, when it looked for memory.
            if head != connection.tcb.read() {
                connection.tcb.set_scarce(self.pressed);
                connection.tcb.consumed(now, head);
            }
            let due = connection.tcb.window_update_at();
            record.engine.rx_notify_at.store(due, SeqCst);
            // If the application has read that far meanwhile, it has compared with the old word.
            let read = record.app.rx_head.load(SeqCst);
            if read < due || read == head {
                return;
            }
        }
    }

    /// Ends a connection whose application broke the rules.
    fn punish(&mut self, id: u32) {
        if self
            .connections
            .get(id)
            .is_none_or(|c| c.tcb.state() == State::Closed)
        {
            return;
        }
        if self.nonsense_log.allow(self.now.as_micros()) {
            tracing::warn!(
                "an application wrote nonsense into its socket; the connection is reset"
            );
        }
        self.count(Counter::misbehaved);
        self.abort(id);
    }
}

/// TCP states by Linux's numbers.
pub fn state_number(state: State) -> u32 {
    match state {
        State::SynSent => state::SYN_SENT,
        State::SynReceived => state::SYN_RECV,
        State::Established => state::ESTABLISHED,
        State::FinWait1 => state::FIN_WAIT1,
        State::FinWait2 => state::FIN_WAIT2,
        State::CloseWait => state::CLOSE_WAIT,
        State::Closing => state::CLOSING,
        State::LastAck => state::LAST_ACK,
        // As Linux, whose sockets are done with the connection then.
        State::TimeWait | State::Closed => state::CLOSE,
    }
}
