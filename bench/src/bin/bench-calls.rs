//! bench-calls: prints how many nanoseconds a call takes that is none of a socket's, read(2) of one
//! byte from /dev/zero: the least of many batches, which is what the call costs undisturbed.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::time::Instant;

const BATCHES: u32 = 200;
const CALLS: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut zero = File::open("/dev/zero")?;
    let mut byte = [0];
    let mut least = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..CALLS {
            zero.read_exact(&mut byte)?;
        }
        least = least.min(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    println!("{least:.1}");
    Ok(())
}
