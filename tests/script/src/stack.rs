//! Our own stack as a host: one worker over a wire in memory, under a clock that only this file moves.

mod fast_open;
mod options;
mod readiness;
mod sockets;
mod station;
pub(crate) mod sysctl;
mod urgent;

use crate::bed::{Bed, Setup, mac};
use crate::call::{Call, Outcome};
use crate::frames::ethernet;
use crate::run::{Addresses, Failure, Host, Ticket};
use crate::script::{Action, Script};
use engine::tcp::TcpConfig;
use sockets::Sockets;
use std::collections::VecDeque;

/// Timers fire at whole milliseconds, and timestamps count them.
const TOLERANCE: u64 = 2_000;
/// Frames that wait to be compared; a stack that sends more without end is stopped.
const MOST_FRAMES: usize = 100_000;

/// Our stack.
pub struct Stack {
    bed: Bed,
    sockets: Sockets,
    /// The clock when the script began.
    start: u64,
    /// Sent and not yet asked for.
    sent: VecDeque<(u64, Vec<u8>)>,
    /// Calls by ticket: those that block still, and what the others came to.
    calls: Vec<Progress>,
}

enum Progress {
    Blocks(Call),
    Done(u64, Outcome),
}

/// Runs a script over a fresh stack.
///
/// # Errors
/// The first line that did not come true, or a setting that the stack does not have (line 0).
pub fn run(script: &Script, addresses: Addresses, record: bool) -> Result<(), Failure> {
    let mut stack = Stack::new(script, addresses).map_err(|what| Failure { line: 0, what })?;
    crate::run::run(script, &mut stack, addresses, record)
}

impl Stack {
    /// A fresh stack, set up as the script's options and first commands say.
    ///
    /// # Errors
    /// A setting that it does not have.
    pub fn new(script: &Script, addresses: Addresses) -> Result<Stack, String> {
        let mut setup = Setup::host(1);
        setup.config.tcp = TcpConfig::default();
        // Linux's tcp_wmem and tcp_rmem.
        setup.config.send_buffer_max = 4 << 20;
        setup.config.loopback = false;
        station::configure(&mut setup, addresses)?;
        for (name, value) in &script.options {
            if name == "mtu" {
                setup.pair.capabilities.mtu = value.parse().map_err(|_| "no MTU")?;
            }
        }
        for event in &script.events {
            match &event.action {
                Action::Command(command) => sysctl::apply(&mut setup, command)
                    .map_err(|what| format!("line {}: {what}", event.line))?,
                // Settings behind the first call would come too late: `command` refuses them.
                _ => break,
            }
        }
        let mut bed = setup.build();
        let sockets = Sockets::new(&mut bed, addresses);
        let start = bed.now;
        let mut stack = Stack {
            bed,
            sockets,
            start,
            sent: VecDeque::new(),
            calls: Vec::new(),
        };
        if let Some(introduction) = station::introduction(addresses) {
            stack.deliver(&introduction);
            stack.settle();
        }
        Ok(stack)
    }

    /// Lets the worker do all that there is to do at this moment, and blocked calls with it.
    fn settle(&mut self) {
        loop {
            self.bed.settle();
            let mut answers = Vec::new();
            let now = self.bed.now - self.start;
            for (frame, _) in self.bed.sent_with() {
                // Behind the Ethernet header; what is no IP is between the stations.
                if !matches!(frame.get(12..14), Some([8, 0] | [0x86, 0xdd])) {
                    continue;
                }
                match station::answer(&frame[14..]) {
                    Some(answer) => answers.push(answer),
                    None => self.sent.push_back((now, frame[14..].to_vec())),
                }
            }
            assert!(self.sent.len() < MOST_FRAMES, "the stack sends without end");
            let mut again = !answers.is_empty();
            for answer in answers {
                self.deliver(&answer);
            }
            for call in &mut self.calls {
                if let Progress::Blocks(blocked) = call
                    && let Some(outcome) = self.sockets.resume(&mut self.bed, blocked)
                {
                    *call = Progress::Done(now, outcome);
                    again = true;
                }
            }
            if !again {
                return;
            }
        }
    }

    fn deliver(&mut self, datagram: &[u8]) {
        let kind = if datagram[0] >> 4 == 4 {
            0x0800
        } else {
            0x86dd
        };
        let frame = ethernet(mac(1), station::station(), kind, datagram);
        self.bed.inject(&frame);
    }

    /// Moves the clock to the next thing that happens, or to `time` if that is sooner.
    fn step(&mut self, time: u64) {
        let due = self.bed.worker.next_deadline().max(self.bed.now + 1);
        self.bed.now = due.min(self.start + time);
        self.settle();
    }
}

impl Host for Stack {
    fn now(&self) -> u64 {
        self.bed.now - self.start
    }

    fn wait_until(&mut self, time: u64) {
        while self.now() < time {
            self.step(time);
        }
    }

    fn inject(&mut self, datagram: &[u8]) -> Result<(), String> {
        self.deliver(datagram);
        self.settle();
        Ok(())
    }

    fn next_datagram(&mut self, time: u64) -> Option<(u64, Vec<u8>)> {
        while self.sent.is_empty() && self.now() < time {
            self.step(time);
        }
        self.sent.pop_front()
    }

    fn call(&mut self, call: &Call) -> Ticket {
        self.settle();
        let now = self.now();
        let progress = match self.sockets.call(&mut self.bed, call) {
            Some(outcome) => Progress::Done(now, outcome),
            None => Progress::Blocks(call.clone()),
        };
        self.calls.push(progress);
        self.settle();
        self.calls.len() - 1
    }

    fn outcome(&mut self, ticket: Ticket, time: u64) -> Option<(u64, Outcome)> {
        loop {
            if let Some(Progress::Done(at, outcome)) = self.calls.get(ticket) {
                return Some((*at, outcome.clone()));
            }
            if self.now() >= time {
                return None;
            }
            self.step(time);
        }
    }

    fn info(&mut self, fd: i32) -> Result<Vec<u8>, String> {
        self.sockets.info(&mut self.bed, fd)
    }

    fn command(&mut self, command: &str) -> Result<(), String> {
        // Those before the first call have been carried out.
        match self.sockets.is_untouched() {
            true => Ok(()),
            false => Err(format!(
                "`{command}` comes too late: the stack runs already"
            )),
        }
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn tolerance(&self, _delta: u64) -> u64 {
        TOLERANCE
    }
}
