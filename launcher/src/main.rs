//! mtcp-run: runs an unmodified program on the stack.

mod child;
mod cli;
mod devices;
mod error;
mod locate;
mod logging;
mod preflight;
mod program;
mod rootless;
mod supervise;
mod sys;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use config::{Loaded, Settings};

use child::Start;
use cli::Cli;
use error::{Error, FAILED};
use launcher::stack::Stack;
use preflight::{Finding, Grade};
use psio::fault::FaultConfig;
use supervise::{FORWARDED, Outcome};
use sys::HeldSignals;

fn main() -> ExitCode {
    let cli = match Cli::parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("mtcp-run: {line}");
            }
            ExitCode::from(error.exit_status())
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    let is_answer = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    // Nobody is left to be told if this fails: a closed pipe.
    let _ = error.print();
    ExitCode::from(if is_answer { 0 } else { FAILED })
}

fn run(cli: &Cli) -> Result<u8, Error> {
    if cli.lists_devices() {
        let list = devices::list(Path::new("/sys"));
        return show(&list.map_err(Error::system("listing the PCI devices"))?).map(|()| 0);
    }
    let loaded = cli.settings(std::env::vars_os())?;
    check_faults(&loaded)?;
    logging::start(&loaded)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if cli.check {
        return check(cli, &loaded);
    }
    let path = program::find(cli.name(), std::env::var_os("PATH"))?;
    if cli.rootless {
        rootless::enter()?;
    }
    sys::become_subreaper().map_err(Error::system("becoming a subreaper"))?;
    let settings = &loaded.settings;
    if cli.kernel {
        refuse_if_missing(preflight::cores(settings))?;
        on_the_kernel(cli, settings, &path)
    } else {
        on_the_stack(cli, settings, &path)
    }
}

fn check_faults(loaded: &Loaded) -> Result<(), Error> {
    let faults = loaded.settings.faults.as_deref().unwrap_or_default();
    match faults.parse::<FaultConfig>() {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Faults {
            origin: loaded.origin("faults"),
            source,
        }),
    }
}

/// Shows the settings and what the machine has of what they need.
fn check(cli: &Cli, loaded: &Loaded) -> Result<u8, Error> {
    show(&loaded.report())?;
    if cli.rootless {
        rootless::enter()?;
    }
    let mut findings = preflight::stack(&loaded.settings);
    findings.push(match locate::preload(cli.preload_library().as_deref()) {
        Ok(path) => Finding {
            what: "preload library",
            grade: Grade::Good,
            text: path.display().to_string(),
        },
        Err(error) => Finding {
            what: "preload library",
            grade: Grade::Missing,
            text: error.to_string(),
        },
    });
    let lines: String = findings.iter().map(|f| format!("{f}\n")).collect();
    show(&format!("\n{lines}"))?;
    let worst = findings.iter().map(|finding| finding.grade).max();
    Ok(if worst == Some(Grade::Missing) {
        FAILED
    } else {
        0
    })
}

/// Writes to standard output. Whoever closed it wants to read no more, which is no error.
fn show(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    let written = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

fn on_the_kernel(cli: &Cli, settings: &Settings, path: &Path) -> Result<u8, Error> {
    let signals = hold_signals()?;
    let start = Start {
        path,
        command: &cli.command,
        cores: &settings.app_cores,
        preload: None,
        environment: Vec::new(),
    };
    let program = child::start(start, &signals)?;
    supervise::supervise(cli.name(), program, &signals, None).map(|outcome| outcome.status)
}

fn on_the_stack(cli: &Cli, settings: &Settings, path: &Path) -> Result<u8, Error> {
    // The library in the program could only fall back to standard error.
    if let Some(file) = &settings.trace_file {
        let opened = OpenOptions::new().create(true).append(true).open(file);
        opened.map_err(Error::system("opening the trace's file"))?;
    }
    refuse_if_missing(preflight::stack(settings))?;
    let preload = locate::preload(cli.preload_library().as_deref())?;
    if let Some(obstacle) = config::obstacle(path, sys::effective_ids(), sys::has_capabilities) {
        tracing::warn!(
            "{} {obstacle}: the preload library cannot enter it, its connections stay with the kernel",
            path.display()
        );
    }
    // The workers' threads inherit that the signals are held back.
    let signals = hold_signals()?;
    let stack = Stack::start(settings)?;
    let start = Start {
        path,
        command: &cli.command,
        cores: &settings.app_cores,
        preload: Some(&preload),
        environment: stack.child_env(),
    };
    let outcome = child::start(start, &signals).and_then(|program| {
        supervise::supervise(cli.name(), program, &signals, Some(stack.failed()))
    });
    end(stack, settings, signals, outcome)
}

/// Drains the stack. A signal now ends `mtcp-run` at once.
fn end(
    stack: Stack,
    settings: &Settings,
    signals: HeldSignals,
    outcome: Result<Outcome, Error>,
) -> Result<u8, Error> {
    signals
        .release()
        .map_err(Error::system("releasing the signals"))?;
    let is_orderly = outcome.as_ref().is_ok_and(|outcome| !outcome.forced);
    let deadline = if is_orderly {
        settings.drain
    } else {
        Duration::ZERO
    };
    let left = stack.drain(deadline);
    if left.connections > 0 {
        tracing::warn!(
            "{} connections still had something to send and were reset",
            left.connections
        );
    }
    match left.failure {
        Some(reason) => Err(Error::Failed(reason)),
        None => outcome.map(|outcome| outcome.status),
    }
}

fn hold_signals() -> Result<HeldSignals, Error> {
    HeldSignals::new(&FORWARDED).map_err(Error::system("holding signals back"))
}

fn refuse_if_missing(findings: Vec<Finding>) -> Result<(), Error> {
    for finding in findings.iter().filter(|f| f.grade == Grade::Doubtful) {
        tracing::warn!("{}: {}", finding.what, finding.text);
    }
    if findings.iter().any(|f| f.grade == Grade::Missing) {
        return Err(Error::Preflight(findings));
    }
    Ok(())
}
