//! epoll as programs see it, with the engine's side played by hand. Where Linux itself can be asked
//! what is right, it is.

mod membership;
mod triggers;
mod waits;

use super::*;
use crate::readiness::testing::{Descriptor, Engine, interrupt_until};
use crate::real;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const IN: u32 = bit::IN;
const OUT: u32 = bit::OUT;
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
const SOON: Deadline = Deadline::Never;

/// An epoll descriptor of a test.
struct Epoll<'a> {
    engine: &'a Engine,
    fd: RawFd,
}

impl<'a> Epoll<'a> {
    fn new(engine: &'a Engine) -> Epoll<'a> {
        let fd = create(libc::EPOLL_CLOEXEC).unwrap();
        Epoll { engine, fd }
    }

    fn slot(&self) -> u32 {
        match fdmap::get(self.fd) {
            Entry::Epoll { slot } => slot,
            other => panic!("{other:?}"),
        }
    }

    fn control(&self, op: c_int, fd: RawFd, events: u32, data: u64) -> Result<()> {
        control(self.engine, self.fd, op, fd, Some((events, data)))
    }

    /// Adds a descriptor with its number as the data.
    fn add(&self, fd: &Descriptor, events: u32) {
        self.control(libc::EPOLL_CTL_ADD, fd.0, events, fd.0 as u64)
            .unwrap();
    }

    fn modify(&self, fd: &Descriptor, events: u32) {
        self.control(libc::EPOLL_CTL_MOD, fd.0, events, fd.0 as u64)
            .unwrap();
    }

    fn delete(&self, fd: &Descriptor) {
        self.control(libc::EPOLL_CTL_DEL, fd.0, 0, 0).unwrap();
    }

    fn wait_with(
        &self,
        max: usize,
        deadline: Deadline,
        mask: Option<SignalMask>,
    ) -> Result<Vec<(u32, RawFd)>> {
        let mut out = vec![libc::epoll_event { events: 0, u64: 0 }; max];
        let n = wait(self.engine, self.fd, self.slot(), &mut out, deadline, mask)?;
        let events = out[..n].iter();
        Ok(events
            .map(|event| (event.events, event.u64 as RawFd))
            .collect())
    }

    /// What is ready now.
    fn now(&self) -> Vec<(u32, RawFd)> {
        self.wait_with(64, Deadline::Now, None).unwrap()
    }

    /// What is ready, once anything is.
    fn soon(&self) -> Vec<(u32, RawFd)> {
        self.wait_with(64, SOON, None).unwrap()
    }
}

impl Drop for Epoll<'_> {
    fn drop(&mut self) {
        close_for(self.engine, self.slot());
        fdmap::take(self.fd);
        real::close(self.fd);
    }
}

/// Runs `wake` while a thread waits, and returns what that thread is told.
fn woken_by(epoll: &Epoll<'_>, wake: impl FnOnce()) -> Vec<(u32, RawFd)> {
    let before = epoll.engine.slept();
    std::thread::scope(|s| {
        let waiter = s.spawn(|| epoll.soon());
        epoll.engine.wait_for_sleepers(before, 1);
        wake();
        waiter.join().unwrap()
    })
}
