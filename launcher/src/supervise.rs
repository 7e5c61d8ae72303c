//! Stays with the program until its last process is gone, and passes signals on.

use std::ffi::OsStr;
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

/// Two requests to end within this time are one: timeout(1), for one, signals its child and then its
/// process group.
const ECHO: Duration = Duration::from_millis(200);

/// How long after the program's end its user is told what `mtcp-run` still waits for.
const SILENCE: Duration = Duration::from_secs(5);

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

/// Waits until the program, called `name`, and everything that it left behind are gone. Once `failed` becomes
/// readable they are told to end (SIGTERM): a program without its stack serves nobody, and who runs
/// `mtcp-run` can only start it again when it is gone.
///
/// # Errors
/// What the system says.
pub fn supervise(
    name: &OsStr,
    program: Pid,
    signals: &HeldSignals,
    failed: Option<BorrowedFd<'_>>,
) -> Result<Outcome, Error> {
    let mut family = Family {
        program,
        exit: None,
        told: Vec::new(),
    };
    let mut requests = Requests::default();
    let mut reminder: Option<Instant> = None;
    let mut is_reminded = false;
    let mut grace: Option<Instant> = None;
    let mut deadline: Option<Instant> = None;
    while family.reap()? {
        let now = Instant::now();
        if deadline.is_none() && grace.is_some_and(|end| end <= now) {
            tracing::warn!("what is left of the program is killed (SIGKILL): it has not ended");
            deadline = Some(now + LAST_WAIT);
        }
        if family.exit.is_some() && !is_reminded {
            let at = *reminder.get_or_insert(now + SILENCE);
            is_reminded = at <= now;
            if is_reminded {
                tell_who_is_left(name);
            }
        }
        // Whoever lost its parent meanwhile is a child of ours now.
        if deadline.is_some() {
            family.signal_all(libc::SIGKILL);
        } else if grace.is_some() {
            family.tell_to_end();
        }
        if deadline.is_some_and(|end| end <= now) {
            break;
        }
        let ends = [deadline.or(grace), reminder.filter(|_| !is_reminded)];
        let next = ends.into_iter().flatten().min();
        let timeout = next.map(|end| end.saturating_duration_since(now));
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
        match requests.judge(received.signal, Instant::now()) {
            Verdict::PassOn => family.forward(received),
            Verdict::Echo => {}
            Verdict::Force if deadline.is_some() => {}
            Verdict::Force => {
                tracing::warn!(
                    "what is left of the program is killed (SIGKILL): a second request to end \
                     within a second"
                );
                deadline = Some(Instant::now() + LAST_WAIT);
            }
        }
    }
    Ok(Outcome {
        status: exit_status(family.exit.unwrap_or(Exit::Signal(libc::SIGKILL))),
        forced: deadline.is_some(),
    })
}

/// The requests to end that have come.
#[derive(Default)]
struct Requests {
    /// The last that counted, and when.
    last: Option<(Signal, Instant)>,
}

/// What to do with a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It is the program's.
    PassOn,
    /// It came with one that has been passed on.
    Echo,
    /// Whoever asked does not want to wait.
    Force,
}

impl Requests {
    /// A signal that `mtcp-run` was started to ignore, as a script's background job ignores SIGINT,
    /// forces nothing.
    fn judge(&mut self, signal: Signal, now: Instant) -> Verdict {
        if !matches!(signal, libc::SIGINT | libc::SIGTERM) || sys::is_ignored(signal) {
            return Verdict::PassOn;
        }
        let previous = self.last.map(|(of, at)| (of, now.duration_since(at)));
        match previous {
            Some((of, since)) if since < ECHO && of == signal => return Verdict::Echo,
            Some((_, since)) if since < ECHO => return Verdict::PassOn,
            _ => self.last = Some((signal, now)),
        }
        match previous {
            Some((_, since)) if since < IMPATIENCE => Verdict::Force,
            _ => Verdict::PassOn,
        }
    }
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

fn tell_who_is_left(name: &OsStr) {
    let left = processes(is_of_the_program).len();
    let others = match left {
        1 => "1 further process has".to_owned(),
        _ => format!("{left} further processes have"),
    };
    tracing::warn!(
        "{} has ended; mtcp-run stays until {others}",
        name.display()
    );
}

/// The children of this process, alive or not yet reaped.
fn children() -> Vec<Pid> {
    let own = own_pid();
    processes(|pid| engine::parent_of(pid) == Some(own))
}

fn processes(is_wanted: impl Fn(Pid) -> bool) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_wanted(*pid)).collect()
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
    fn two_requests_at_one_instant_are_one_and_two_within_a_second_force_the_end() {
        let start = Instant::now();
        let judged = |requests: [(Signal, u64); 3]| {
            let mut state = Requests::default();
            requests.map(|(signal, ms)| state.judge(signal, start + Duration::from_millis(ms)))
        };
        use Verdict::{Echo, Force, PassOn};
        let (int, term) = (libc::SIGINT, libc::SIGTERM);
        let at_once = [(term, 0), (term, 1), (term, 199)];
        assert_eq!(judged(at_once), [PassOn, Echo, Echo]);
        let two_of_a_kind_each = [(term, 0), (int, 1), (term, 200)];
        assert_eq!(judged(two_of_a_kind_each), [PassOn, PassOn, Force]);
        let impatient = [(int, 0), (int, 1), (term, 999)];
        assert_eq!(judged(impatient), [PassOn, Echo, Force]);
        let patient = [(term, 0), (term, 1000), (libc::SIGHUP, 1300)];
        assert_eq!(judged(patient), [PassOn, PassOn, PassOn]);
    }

    #[test]
    fn signals_count_from_128() {
        assert_eq!(exit_status(Exit::Status(7)), 7);
        assert_eq!(exit_status(Exit::Signal(libc::SIGKILL)), 137);
        assert_eq!(exit_status(Exit::Signal(64)), 192);
    }
}
