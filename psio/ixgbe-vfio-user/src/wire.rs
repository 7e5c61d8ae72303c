//! The wire between two cards, which also has them work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ixgbe_model::{Card, Frames};

use crate::Port;

/// Frames that may wait in a card before the wire keeps them back: it is as slow as the slower end, so
/// that what is lost was lost by a driver.
const WAITING: usize = 64;

/// How long the cards may be idle: interrupts that are moderated are signalled by then.
const IDLE: Duration = Duration::from_micros(200);

/// Two cards at work, until this is dropped.
pub struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Joins two cards by a wire. What the second card sends wakes nobody: at most 200 µs later it is seen.
pub fn join(first: Port, second: Port) -> Wire {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let mut lanes = [
            Lane::new(first.clone(), second.clone()),
            Lane::new(second, first),
        ];
        while !stopped.load(Ordering::Relaxed) {
            let moved = lanes.iter_mut().map(Lane::work).sum::<usize>();
            if moved == 0 {
                lanes[0].from.wait(IDLE);
            }
        }
    });
    Wire {
        stop,
        thread: Some(thread),
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A card that refuses something has said so.
            let _ = thread.join();
        }
    }
}

/// One direction.
struct Lane {
    from: Port,
    to: Port,
    under_way: Frames,
}

impl Lane {
    fn new(from: Port, to: Port) -> Lane {
        Lane {
            from,
            to,
            under_way: Frames::default(),
        }
    }

    /// Moves what there is and what there is room for; returns how many frames.
    fn work(&mut self) -> usize {
        if self.under_way.is_empty()
            && let Some(sent) = self.from.card(|card| std::mem::take(card.sent()))
        {
            self.under_way = sent;
        }
        let under_way = &mut self.under_way;
        let moved = self.to.card(|card| arrive(card, under_way));
        moved.unwrap_or(0)
    }
}

fn arrive(card: &mut Card, frames: &mut Frames) -> usize {
    let mut moved = 0;
    while card.waiting() < WAITING
        && let Some(frame) = frames.front()
    {
        card.arrive(frame);
        frames.pop();
        moved += 1;
    }
    moved
}
