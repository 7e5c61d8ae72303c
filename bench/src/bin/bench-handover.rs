//! bench-handover: prints how many nanoseconds pass between two threads on one core when one wakes the
//! other and sleeps: the median of many batches. It is what the stack's end of a round trip costs twice
//! (engine to program, program to engine), whatever it does in between. Run it on one core (taskset).

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

const BATCHES: usize = 101;
const ROUNDS: u32 = 500;

/// Waits until `turn` is `mine`, asleep.
fn wait_for(turn: &AtomicU32, mine: u32) {
    while turn.load(SeqCst) % 2 != mine {
        thread::park();
    }
}

fn main() {
    let turn = AtomicU32::new(0);
    let last = BATCHES as u32 * ROUNDS * 2;
    let here = thread::current();
    let mut nanoseconds = thread::scope(|scope| {
        let other = scope.spawn(|| {
            while turn.load(SeqCst) < last {
                wait_for(&turn, 1);
                turn.fetch_add(1, SeqCst);
                here.unpark();
            }
        });
        let batch = |_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                turn.fetch_add(1, SeqCst);
                other.thread().unpark();
                wait_for(&turn, 0);
            }
            start.elapsed().as_nanos() as f64 / f64::from(ROUNDS) / 2.0
        };
        (0..BATCHES).map(batch).collect::<Vec<_>>()
    });
    nanoseconds.sort_by(f64::total_cmp);
    println!("{:.1}", nanoseconds[BATCHES / 2]);
}
