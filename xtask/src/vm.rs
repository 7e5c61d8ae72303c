//! `cargo xtask vm-test`: our model of the 82599 in virtual machines, where Linux's own driver and ours
//! drive it.
//!
//! Nothing is installed into the system: QEMU, a kernel and what the guest runs are packages of Debian,
//! unpacked below the target directory.

mod guest;
mod image;
mod packages;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::shell::{Error, at, build_programs, cargo, need_root, run, target_directory};
use guest::Guest;

/// How long a guest may take.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What is run.
#[derive(Args)]
pub struct Options {
    /// Only the guest whose first card is driven so.
    #[arg(long)]
    only: Option<Guest>,
}

/// Runs the guests; their reports go to standard output.
///
/// # Errors
/// A package cannot be fetched, the model refused something, or a check in a guest failed.
pub fn test(options: &Options) -> Result<(), Error> {
    need_root("vm-test")?;
    run(&mut cargo(&[
        "build",
        "--profile",
        "test",
        "--package",
        "ixgbe-vfio-user",
    ]))?;
    let place = target_directory().join("vm-test");
    for guest in Guest::ALL {
        if options.only.is_none_or(|only| only == guest) {
            boot(guest, &place)?;
        }
    }
    Ok(())
}

/// Runs a guest to its end.
fn boot(guest: Guest, place: &Path) -> Result<(), Error> {
    let host = &packages::provide(place, &packages::HOST)?;
    let system = &packages::provide(place, &packages::GUEST)?;
    let built = match guest.built() {
        [] => PathBuf::new(),
        _ => build_programs()?,
    };
    let shared = host.join("tmp");
    fs::create_dir_all(&shared).map_err(at(&shared))?;
    let programs = packages::provide(place, guest.packages())?;
    let image = image::build(system, &programs, guest, &built)?;
    let file = shared.join("initrd");
    fs::write(&file, image).map_err(at(&file))?;
    let kernel = image::kernel(system)?;
    fs::copy(&kernel, shared.join("vmlinuz")).map_err(at(&kernel))?;
    let sockets = ["a", "b"].map(|name| shared.join(name));
    for socket in &sockets {
        let _ = fs::remove_file(socket);
    }
    let mut model = Running::start(
        Command::new(target_directory().join("debug/ixgbe-vfio-user"))
            .args(guest.is_strict().then_some("--strict"))
            .args(&sockets)
            .stdout(Stdio::piped()),
    )?;
    let mut said = BufReader::new(model.0.stdout.take().ok_or_else(nothing_to_read)?);
    let mut line = String::new();
    said.read_line(&mut line).map_err(at("ixgbe-vfio-user"))?;
    let mut qemu = qemu(guest, host);
    let mut qemu = Running::start(qemu.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let console = qemu.0.stdout.take().ok_or_else(nothing_to_read)?;
    let reader = std::thread::spawn(move || {
        let mut guest = Said::default();
        guest.follow(BufReader::new(console));
        guest
    });
    let start = Instant::now();
    while !reader.is_finished() {
        let refused = model.0.try_wait().map_err(at("ixgbe-vfio-user"))?;
        if let Some(status) = refused.filter(|status| !status.success()) {
            return Err(Error::Other(format!("the model has ended: {status}")));
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::Other(format!(
                "the guest took more than {PATIENCE:?}"
            )));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut model = Said::default();
    model.follow(said);
    let Ok(guest) = reader.join() else {
        return Err(Error::Other("the guest's console is gone".to_owned()));
    };
    if !guest.passed {
        let text = "the guest did not say that all has passed";
        return Err(Error::Other(text.to_owned()));
    }
    if !guest.counts.is_empty() && guest.counts != model.counts {
        let text = "the guest's counts are not those of the model";
        return Err(Error::Other(text.to_owned()));
    }
    Ok(())
}

fn nothing_to_read() -> Error {
    Error::Other("a pipe is missing".to_owned())
}

/// A process that is ended when this is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Running, Error> {
        let line = testbed::describe(command);
        let child = command.spawn();
        child
            .map(Running)
            .map_err(|error| Error::NotStarted { line, error })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What matters of what was said.
#[derive(Default)]
struct Said {
    /// All has passed.
    passed: bool,
    /// What the cards have carried.
    counts: Vec<String>,
}

impl Said {
    /// Shows lines until there are no more.
    fn follow(&mut self, lines: impl BufRead) {
        for line in lines.lines().map_while(Result::ok) {
            println!("{line}");
            let line = line.trim_end();
            self.passed |= line == "vm-test: passed";
            if line.starts_with("count: ") {
                self.counts.push(line.to_owned());
            }
        }
    }
}

/// The virtual machine: four processors, memory that the model reaches, and the two cards.
fn qemu(guest: Guest, root: &Path) -> Command {
    let memory = guest.memory();
    let mut command = Command::new("chroot");
    command.arg(root).arg("/usr/bin/qemu-system-x86_64");
    command.args(["-M", "q35,accel=tcg", "-cpu", "max", "-smp", "4"]);
    command.args(["-m", &memory.to_string(), "-object"]);
    command.arg(format!("memory-backend-memfd,id=m,size={memory}M,share=on"));
    command.args(["-machine", "memory-backend=m", "-nographic", "-nodefaults"]);
    command.args(["-serial", "stdio", "-no-reboot"]);
    command.args(["-kernel", "/tmp/vmlinuz", "-initrd", "/tmp/initrd"]);
    // Emulated on a busy machine, the timer may be too slow for its check.
    let mut arguments = "console=ttyS0 panic=-1 quiet no_timer_check".to_owned();
    if guest.has_iommu() {
        command.args(["-device", "intel-iommu,caching-mode=on,intremap=on"]);
        // Only what is handed to VFIO is translated.
        arguments += " intel_iommu=on iommu=pt";
    }
    command.args(["-append", &arguments]);
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        let slot = number + 1;
        command.arg("-device");
        command.arg(format!(
            "pcie-root-port,id=rp{slot},chassis={slot},slot={slot}"
        ));
        command.arg("-device").arg(format!(
            r#"{{"driver":"vfio-user-pci","bus":"rp{slot}","socket":{{"path":"/tmp/{name}","type":"unix"}}}}"#
        ));
    }
    command
}

/// Makes a link, unless it is there.
fn link(target: &str, name: &PathBuf) -> Result<(), Error> {
    if name.is_symlink() {
        return Ok(());
    }
    symlink(target, name).map_err(at(name))
}
