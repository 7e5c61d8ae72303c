//! Runs scripts: `cargo run -p script -- [--linux] [--record] FILE…`.

use clap::Parser;
use script::run::{Addresses, Failure};
use script::script::Script;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs scripts in packetdrill's notation over our stack, or over Linux's.
#[derive(Parser)]
struct Arguments {
    /// Run over Linux's TCP, in a network namespace (needs root).
    #[arg(long)]
    linux: bool,
    /// Print what comes, in the script's notation, and go on where it is not as expected.
    #[arg(long)]
    record: bool,
    /// How far off an event may be on Linux, in milliseconds, besides an eighth of the time waited.
    #[arg(long, default_value_t = 20)]
    tolerance: u64,
    /// The scripts.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut failed = 0;
    for file in &arguments.files {
        match script::load(file).and_then(|s| run(&arguments, &s).map_err(|f| f.to_string())) {
            Ok(()) => println!("ok    {}", file.display()),
            Err(what) => {
                failed += 1;
                println!("FAIL  {}: {what}", file.display());
            }
        }
    }
    ExitCode::from(u8::from(failed > 0))
}

fn run(arguments: &Arguments, script: &Script) -> Result<(), Failure> {
    let addresses = Addresses::of(script.is_ipv6());
    match arguments.linux {
        true => {
            let tolerance = arguments.tolerance * 1000;
            script::kernel::run(script, addresses, arguments.record, tolerance)
        }
        false => script::stack::run(script, addresses, arguments.record),
    }
}
