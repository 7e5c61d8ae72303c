//! `cargo xtask …`: set-up, demo, tests and benchmarks.

mod bench;
mod demo;
mod setup;
mod shell;
mod soak;
mod suite;
mod suites;
mod vm;

use std::num::NonZero;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, demo, tests and benchmarks")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs the programs that the demo, the tests and the benchmarks run (as root), or says
    /// what to install.
    Setup,
    /// Serves a page with nginx on our stack and fetches it with the kernel's curl.
    Demo,
    /// Runs every check: format, lints, tests, those of programs again with two and with four workers in
    /// each stack, documentation tests.
    Test {
        /// Gives every stack so many workers, and runs none of them again.
        #[arg(long, value_name = "N")]
        workers: Option<NonZero<usize>>,
        /// Passed on to the test runner, for example a filter.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs the tests over faulty links with ever new seeds, until the time is up or one fails.
    Soak(soak::Options),
    /// Runs test suites of others on the kernel and on the stack, and compares them.
    Suites(suites::Options),
    /// Has Linux's driver of the 82599 and ours run on our model of the card, in virtual machines (as
    /// root; downloads about 205 MB once).
    VmTest(vm::Options),
    /// Measures the stack and the kernel side by side.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let result = match Options::parse().task {
        Task::Setup => setup::provide(),
        Task::Demo => demo::run(),
        Task::Test { workers, arguments } => suite::run_all(workers, &arguments),
        Task::Soak(options) => soak::run(&options),
        Task::Suites(options) => suites::run(&options),
        Task::VmTest(options) => vm::test(&options),
        Task::Bench(options) => bench::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
