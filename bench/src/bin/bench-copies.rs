//! bench-copies: how fast bytes can cross the wire in shared memory at all, with as many copies as a
//! bulk transfer of the stack makes: two to send (program to stream, stream to wire), three to
//! receive (wire to engine, engine to stream, stream to program). Prints bits a second as JSON.

use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bench::CHUNK;
use clap::Parser;
use psio::wire::{Wire, WireConfig};
use psio::{Device as _, Queue, TxMeta};
use serde_json::json;

/// Bytes of a frame: what the stack sends at once.
const FRAME: usize = 64 * 1024 - 1024;

/// Frames taken at once: few enough that the ring, which has room for 16, is given back in parts.
const TAKEN: usize = 4;

#[derive(Parser)]
#[command(about = "The speed of a wire in shared memory with a bulk transfer's copies")]
struct Options {
    /// Where both ends of the wire meet; a UNIX socket that is made.
    #[arg(long)]
    wire: PathBuf,
    /// Seconds to copy.
    #[arg(long, value_name = "SECONDS")]
    duration: f64,
    /// The sender's core.
    #[arg(long, default_value_t = 0)]
    sender: usize,
    /// The receiver's core.
    #[arg(long, default_value_t = 1)]
    receiver: usize,
}

/// Puts this thread on a core.
fn run_on(core: usize) -> Result<(), String> {
    // taskset(1) names a thread as the kernel does.
    let thread = std::fs::read_link("/proc/thread-self").map_err(|error| error.to_string())?;
    let thread = thread.file_name().unwrap_or_default();
    let mut command = Command::new("taskset");
    command.args(["-p", "-c", &core.to_string()]).arg(thread);
    let output = command
        .output()
        .map_err(|error| format!("taskset: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Sends until told to stop.
fn send(mut queue: Box<dyn Queue>, stop: &AtomicBool) -> Result<(), psio::Error> {
    let program = vec![0x5a_u8; CHUNK];
    let mut stream = vec![0_u8; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        stream.copy_from_slice(black_box(&program));
        for part in stream.chunks(FRAME) {
            while !stop.load(Ordering::Relaxed) {
                if let Some(frame) = queue.reserve(part.len()) {
                    frame.copy_from_slice(part);
                    queue.commit(part.len(), TxMeta::default());
                    break;
                }
                queue.flush()?;
                thread::yield_now();
            }
            queue.flush()?;
        }
    }
    Ok(())
}

/// Receives for so long; returns the bytes. The wire's queue makes the first copy itself.
fn receive(mut queue: Box<dyn Queue>, duration: Duration) -> Result<u64, psio::Error> {
    let mut stream = vec![0_u8; FRAME];
    let mut program = vec![0_u8; FRAME];
    let mut bytes = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        let frames = queue.receive(TAKEN, &mut |frame, _| {
            stream[..frame.len()].copy_from_slice(frame);
            program[..frame.len()].copy_from_slice(black_box(&stream[..frame.len()]));
            black_box(&program);
            bytes += frame.len() as u64;
        })?;
        if frames == 0 {
            thread::yield_now();
        }
    }
    Ok(bytes)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let duration = Duration::try_from_secs_f64(options.duration)?;
    let config = WireConfig {
        path: options.wire,
        ..WireConfig::default()
    };
    let (mut near, mut far) = (Wire::open(&config)?, Wire::open(&config)?);
    let (output, input) = (near.open_queue(0)?, far.open_queue(0)?);
    let stop = AtomicBool::new(false);
    let bytes = thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<(), String> {
            run_on(options.sender)?;
            send(output, &stop).map_err(|error| error.to_string())
        });
        let received = run_on(options.receiver)
            .and_then(|()| receive(input, duration).map_err(|error| error.to_string()));
        stop.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap_or_else(|_| Err("panicked".to_owned()));
        sent.and(received)
    })?;
    let bits = bytes as f64 * 8.0 / options.duration;
    println!("{}", json!({ "bytes": bytes, "bits_per_second": bits }));
    Ok(())
}
