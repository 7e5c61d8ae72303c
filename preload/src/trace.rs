//! The trace: each intercepted call as one line in strace's form, and why a socket went where it
//! went.
//!
//! Whether anything is traced is decided once at start. A call that is not traced costs one relaxed
//! load and a branch.

#![allow(unsafe_code)]

mod line;

pub use line::Line;

use crate::{errno, process, real};
use config::{Decision, Reason, Role};
use context::socket::state;
use fdmap::Entry;
use libc::c_int;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tracing::Dispatch;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Which calls are traced.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Calls {
    /// None.
    #[default]
    None = 0,
    /// Those on descriptors behind which the stack stands.
    Stack = 1,
    /// Every intercepted call.
    All = 2,
}

static CALLS: AtomicU8 = AtomicU8::new(0);
static TRACER: OnceLock<Tracer> = OnceLock::new();

struct Tracer {
    sink: Dispatch,
    policy: bool,
    utc_offset: i64,
}

/// Starts the trace, which is written to `fd` (a private descriptor, or standard error). Only the
/// first call in a process has an effect.
pub fn start(calls: Calls, policy: bool, fd: RawFd) {
    if calls == Calls::None && !policy {
        return;
    }
    let tracer = Tracer {
        sink: sink(fd),
        policy,
        utc_offset: utc_offset(),
    };
    if TRACER.set(tracer).is_ok() {
        CALLS.store(calls as u8, Ordering::Release);
    }
}

/// What a call is about, which decides whether it is traced among [`Calls::Stack`].
pub enum About<'a> {
    /// A descriptor, the call's first argument.
    Descriptor(c_int),
    /// The descriptor that the call returns.
    Opens,
    /// Whatever this finds out; asked once before the call.
    Concerns(&'a dyn Fn() -> bool),
}

impl From<c_int> for About<'_> {
    fn from(fd: c_int) -> Self {
        About::Descriptor(fd)
    }
}

/// What an intercepted function returns.
pub trait Outcome: Copy {
    /// The number that is printed; negative means failure, with the reason in `errno`.
    fn number(self) -> i64;
}

impl Outcome for c_int {
    fn number(self) -> i64 {
        self.into()
    }
}

impl Outcome for isize {
    fn number(self) -> i64 {
        self as i64
    }
}

impl Outcome for i64 {
    fn number(self) -> i64 {
        self
    }
}

impl<T> Outcome for *mut T {
    fn number(self) -> i64 {
        if self.is_null() {
            -1
        } else {
            self as usize as i64
        }
    }
}

/// Runs `body`, an intercepted call, and traces it if that is wanted.
///
/// A descriptor in `about` is the first argument of the line; `args` adds the others, and is given
/// what the call returned.
///
/// Closures that take their captures by value let a call that goes to the kernel be the last thing that
/// the symbol does: it is jumped to, and no return is left to be mispredicted after the system call.
#[inline(always)]
pub fn call<'a, R: Outcome>(
    name: &'static str,
    about: impl Into<About<'a>>,
    args: impl FnOnce(&mut Line, i64),
    body: impl FnOnce() -> R,
) -> R {
    match CALLS.load(Ordering::Relaxed) {
        0 => body(),
        calls => traced(name, about.into(), calls == Calls::All as u8, args, body),
    }
}

#[cold]
fn traced<R: Outcome>(
    name: &'static str,
    about: About<'_>,
    all: bool,
    args: impl FnOnce(&mut Line, i64),
    body: impl FnOnce() -> R,
) -> R {
    let Some(tracer) = TRACER.get() else {
        return body();
    };
    let mut wanted = all;
    let mut line = Line::new();
    let start = clock(libc::CLOCK_REALTIME);
    line.begin(
        real::thread_id(),
        start + Duration::from_secs(tracer.utc_offset.rem_euclid(86_400) as u64),
        name,
    );
    match about {
        About::Descriptor(fd) => {
            wanted |= is_stack(fd);
            line.fd(fd);
        }
        About::Concerns(concerns) => wanted = wanted || concerns(),
        About::Opens => line.returns_fd(),
    }
    let begun = clock(libc::CLOCK_MONOTONIC);
    let result = body();
    let took = clock(libc::CLOCK_MONOTONIC).saturating_sub(begun);
    let number = result.number();
    let opened = number >= 0 && line.is_fd_returned() && is_stack(number as c_int);
    if wanted || opened {
        let saved = errno::get();
        args(&mut line, number);
        line.end(number, saved, took);
        emit(tracer, &line);
        errno::set(saved);
    }
    result
}

/// Traces the decision on one socket: who serves it, and why.
pub fn policy(fd: c_int, role: Role, address: SocketAddr, decision: Decision, reason: Reason) {
    let Some(tracer) = TRACER.get().filter(|tracer| tracer.policy) else {
        return;
    };
    let saved = errno::get();
    let mut line = Line::new();
    let now = clock(libc::CLOCK_REALTIME)
        + Duration::from_secs(tracer.utc_offset.rem_euclid(86_400) as u64);
    line.stamp(real::thread_id(), now);
    // Writing to a line cannot fail: it is cut at its end.
    let _ = write!(line, "{role} {address} fd {fd}: {decision} ({reason})");
    emit(tracer, &line);
    errno::set(saved);
}

fn emit(tracer: &Tracer, line: &Line) {
    tracing::dispatcher::with_default(&tracer.sink, || {
        tracing::event!(target: "mtcp::trace", tracing::Level::INFO, "{}", line.text());
    });
}

/// What stands behind a descriptor, as the trace shows it in angle brackets.
pub(crate) fn describe(fd: c_int, out: &mut impl fmt::Write) -> fmt::Result {
    match fdmap::get(fd) {
        Entry::Socket { index, .. } => {
            let Some(socket) = process::process().and_then(|p| p.segment.socket(index)) else {
                return out.write_str("<mtcp>");
            };
            let bits = socket.engine.state.load(Ordering::Acquire);
            if bits & state::WAS_CONNECTED != 0 {
                let names = &socket.names;
                write!(out, "<mtcp:{}->{}>", names.local(), names.remote())
            } else if bits & state::BOUND != 0 {
                write!(out, "<mtcp:{}>", socket.names.local())
            } else {
                out.write_str("<mtcp>")
            }
        }
        Entry::Epoll { .. } => out.write_str("<epoll>"),
        Entry::Kernel | Entry::Pooled | Entry::Private => Ok(()),
    }
}

/// Whether the stack stands behind a descriptor.
pub(crate) fn is_stack(fd: c_int) -> bool {
    matches!(fdmap::get(fd), Entry::Socket { .. } | Entry::Epoll { .. })
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: fills a timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Seconds by which local time is ahead of UTC. Asked once, because `localtime_r` may lock and
/// open files.
fn utc_offset() -> i64 {
    let now = clock(libc::CLOCK_REALTIME).as_secs() as libc::time_t;
    // SAFETY: an all-zero tm is valid, and localtime_r fills it or leaves it so.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const now, &raw mut tm);
        tm.tm_gmtoff
    }
}

fn sink(fd: RawFd) -> Dispatch {
    Dispatch::new(
        tracing_subscriber::fmt()
            .event_format(Bare)
            .with_writer(Descriptor(fd))
            .finish(),
    )
}

/// Prints an event's message and nothing around it: the line is complete.
struct Bare;

impl<S, N> FormatEvent<S, N> for Bare
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Writes by a raw system call, so that no hook is entered.
#[derive(Clone, Copy)]
struct Descriptor(RawFd);

impl std::io::Write for Descriptor {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match real::write(self.0, bytes) {
            Ok(n) => Ok(n),
            Err(error) => Err(std::io::Error::from_raw_os_error(error.0)),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Descriptor {
    type Writer = Descriptor;

    fn make_writer(&'a self) -> Descriptor {
        *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{close, create};
    use crate::testing::established;

    /// The lines of this thread so far. Other tests' threads trace as well once it has begun.
    fn lines(fd: RawFd) -> Vec<String> {
        let mut text = vec![0; 1 << 20];
        // SAFETY: reads into the vector, no further.
        let n = unsafe { libc::pread(fd, text.as_mut_ptr().cast(), text.len(), 0) };
        text.truncate(n as usize);
        let own = format!("[pid {}] ", real::thread_id());
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix(&own));
        // Without the time of day.
        lines
            .map(|line| line["00:00:00.000000 ".len()..].to_owned())
            .collect()
    }

    #[test]
    fn calls_on_the_stack_and_decisions_are_traced_and_nothing_else() {
        // SAFETY: makes a descriptor, which is kept for the life of the process.
        let file = unsafe { libc::memfd_create(c"trace".as_ptr(), libc::MFD_CLOEXEC) };
        // SAFETY: a call with numbers.
        unsafe { libc::fcntl(file, libc::F_SETFL, libc::O_APPEND) };
        start(Calls::Stack, true, file);
        let socket = established();
        let fd = create::attach(socket, true).unwrap();
        let shown = |line: &mut Line, n: i64| {
            line.buffer(b"hello".as_ptr().cast(), n.max(0) as usize)
                .arg(9);
        };
        assert_eq!(call("recv", fd, shown, || 5isize), 5);
        assert_eq!(call("recv", file, shown, || 5isize), 5);
        let fail = || {
            errno::set(libc::EAGAIN);
            -1isize
        };
        assert_eq!(call("recv", fd, shown, fail), -1);
        assert_eq!(errno::get(), libc::EAGAIN, "tracing leaves it alone");
        call("socket", About::Opens, |_, _| (), || fd);
        call("socket", About::Opens, |_, _| (), || file);
        call("dup2", About::Concerns(&|| false), |_, _| (), || fd);
        let to = "10.77.0.1:80".parse().unwrap();
        policy(fd, Role::Connect, to, Decision::Kernel, Reason::NoRoute);
        let name = format!("{fd}<mtcp:10.77.0.2:80->10.77.0.1:40000>");
        let lines = lines(file);
        let expected = [
            format!("recv({name}, \"hello\", 9) = 5 <"),
            format!("recv({name}, \"\", 9) = -1 EAGAIN (Resource temporarily unavailable) <"),
            format!("socket() = {name} <"),
            format!("connect 10.77.0.1:80 fd {fd}: kernel ("),
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(&expected), "{line}\n{expected}");
        }
        close::descriptor(fd, socket).unwrap();
    }
}
