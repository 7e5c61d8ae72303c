//! Stays with the program until its last process is gone, and passes signals on.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sys::{self, Event, Exit, HeldSignals, Pid, Reaped, Received, Signal};

/// Signals that are passed on to the program.
pub const FORWARDED: [Signal; 7] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// Two requests to end within this time force it.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// How long the program may take to end once its stack has failed, before it is killed.
const GRACE: Duration = Duration::from_secs(30);

/// How long killed processes may take to be gone before `mtcp-run` ends without them.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Its exit status, 128+n if signal n ended it.
    pub status: u8,
    /// It was killed because somebody asked for the end twice, or it did not end without its stack.
    pub forced: bool,
}

/// Waits until the program and everything that it left behind are gone. Once `failed` becomes
/// readable they are told to end (SIGTERM): a program without its stack serves nobody, and who runs
/// `mtcp-run` can only start it again when it is gone.
///
/// # Errors
/// What the system says.
pub fn supervise(
    program: Pid,
    signals: &HeldSignals,
    failed: Option<BorrowedFd<'_>>,
) -> Result<Outcome, Error> {
    let mut family = Family {
        program,
        exit: None,
        told: Vec::new(),
    };
    let mut last_request: Option<Instant> = None;
    let mut grace: Option<Instant> = None;
    let mut deadline: Option<Instant> = None;
    while family.reap()? {
        let now = Instant::now();
        if grace.is_some_and(|end| end <= now) {
            deadline.get_or_insert(now + LAST_WAIT);
        }
        // Whoever lost its parent meanwhile is a child of ours now.
        if deadline.is_some() {
            family.signal_all(libc::SIGKILL);
        } else if grace.is_some() {
            family.tell_to_end();
        }
        let end = deadline.or(grace);
        let timeout = end.map(|end| end.saturating_duration_since(now));
        if timeout == Some(Duration::ZERO) {
            break;
        }
        let event = signals
            .next(failed.filter(|_| grace.is_none()), timeout)
            .map_err(Error::system("reading a signal"))?;
        let received = match event {
            Event::Signal(received) if received.signal != libc::SIGCHLD => received,
            Event::Alarm => {
                tracing::warn!("the stack has failed: the program is told to end (SIGTERM)");
                grace = Some(Instant::now() + GRACE);
                continue;
            }
            Event::Signal(_) | Event::Nothing => continue,
        };
        // A process of the program has signalled its whole group, as apache does when it ends: that
        // reached whom it concerns, and nobody asked mtcp-run for anything.
        if sys::is_in_our_group(received.sender) && is_of_the_program(received.sender) {
            continue;
        }
        // Signals are read in the order of their numbers: the program's end may still be unread.
        family.reap()?;
        if matches!(received.signal, libc::SIGINT | libc::SIGTERM) {
            let previous = last_request.replace(Instant::now());
            if previous.is_some_and(|at| at.elapsed() < IMPATIENCE) {
                deadline.get_or_insert(Instant::now() + LAST_WAIT);
                continue;
            }
        }
        family.forward(received);
    }
    Ok(Outcome {
        status: exit_status(family.exit.unwrap_or(Exit::Signal(libc::SIGKILL))),
        forced: deadline.is_some(),
    })
}

/// The program, and the processes that it left behind, which became children of ours.
struct Family {
    program: Pid,
    exit: Option<Exit>,
    /// Who has been told to end because the stack has failed.
    told: Vec<Pid>,
}

impl Family {
    /// Reaps all that have ended; whether any are left.
    fn reap(&mut self) -> Result<bool, Error> {
        loop {
            match sys::reap().map_err(Error::system("waiting for the program"))? {
                Reaped::Child(pid, exit) => {
                    self.told.retain(|told| *told != pid);
                    if pid == self.program {
                        self.exit = Some(exit);
                    }
                }
                Reaped::AllRunning => return Ok(true),
                Reaped::NoChildren => return Ok(false),
            }
        }
    }

    /// Passes a signal on to whom it concerns and has not reached yet.
    fn forward(&self, received: Received) {
        // The kernel sends the terminal's signals to its whole foreground group.
        let has_got_it = |pid| received.is_from_kernel && sys::is_in_our_group(pid);
        let ends = matches!(
            received.signal,
            libc::SIGHUP | libc::SIGINT | libc::SIGQUIT | libc::SIGTERM
        );
        let concerned = |pid: &Pid| ends || self.exit.is_some() || *pid == self.program;
        children()
            .into_iter()
            .filter(concerned)
            .filter(|pid| !has_got_it(*pid))
            .for_each(|pid| sys::send(pid, received.signal));
    }

    /// Sends SIGTERM to each once.
    fn tell_to_end(&mut self) {
        for pid in children() {
            if !self.told.contains(&pid) {
                self.told.push(pid);
                sys::send(pid, libc::SIGTERM);
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        for pid in children() {
            sys::send(pid, signal);
        }
    }
}

fn exit_status(exit: Exit) -> u8 {
    match exit {
        Exit::Status(status) => status,
        // Signals end at 64.
        Exit::Signal(signal) => 128 + signal as u8,
    }
}

/// The children of this process, alive or not yet reaped.
fn children() -> Vec<Pid> {
    let own = own_pid();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &Pid| engine::parent_of(*pid) == Some(own))
        .collect()
}

fn is_of_the_program(pid: Pid) -> bool {
    pid != own_pid() && engine::is_descendant(pid, own_pid())
}

fn own_pid() -> Pid {
    std::process::id() as Pid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_count_from_128() {
        assert_eq!(exit_status(Exit::Status(7)), 7);
        assert_eq!(exit_status(Exit::Signal(libc::SIGKILL)), 137);
        assert_eq!(exit_status(Exit::Signal(64)), 192);
    }
}
