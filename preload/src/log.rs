//! The library's own log: a line to the descriptor chosen at start, by a raw system call, so that
//! no hook is entered and nothing is allocated.

use crate::real;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

static SINK: AtomicI32 = AtomicI32::new(2);
/// Lines that may still be written: a program that meets a limit a million times says so a few
/// times only.
static BUDGET: AtomicU32 = AtomicU32::new(200);

/// Sends the log to `fd` from now on.
pub fn set_sink(fd: i32) {
    SINK.store(fd, Ordering::Relaxed);
}

/// Where the log goes.
pub fn sink() -> i32 {
    SINK.load(Ordering::Relaxed)
}

/// Writes one line. After 200 lines the log falls silent.
pub fn line(message: &str) {
    format(format_args!("{message}"));
}

/// As [`line`], formatted.
pub fn format(message: fmt::Arguments<'_>) {
    let left = BUDGET.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    let Ok(left) = left else {
        return;
    };
    let mut text = Text {
        bytes: [0; 512],
        len: 0,
    };
    // A text that is too long is cut.
    let _ = write!(text, "mtcp[{}]: {message}", real::process_id());
    if left == 1 {
        let _ = write!(text, " (the last line of this process)");
    }
    text.bytes[text.len] = b'\n';
    let _ = real::write(sink(), &text.bytes[..=text.len]);
}

struct Text {
    bytes: [u8; 512],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let n = s.len().min(room);
        self.bytes[self.len..self.len + n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        if n < s.len() { Err(fmt::Error) } else { Ok(()) }
    }
}
