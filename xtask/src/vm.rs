//! `cargo xtask vm-test`: Linux's own driver for the 82599 on our model of the card, in a virtual machine.
//!
//! Nothing is installed into the system: QEMU, a kernel and what the guest runs are packages of Debian,
//! unpacked below the target directory.

mod image;
mod packages;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::shell::{Error, at, cargo, need_root, run, target_directory};

/// How long the guest may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the guest; its report goes to standard output.
///
/// # Errors
/// A package cannot be fetched, the model refused something, or a check in the guest failed.
pub fn test() -> Result<(), Error> {
    need_root("vm-test")?;
    run(&mut cargo(&[
        "build",
        "--profile",
        "test",
        "--package",
        "ixgbe-vfio-user",
    ]))?;
    let place = target_directory().join("vm-test");
    let host = packages::provide(&place, &packages::HOST)?;
    let guest = packages::provide(&place, &packages::GUEST)?;
    let shared = host.join("tmp");
    fs::create_dir_all(&shared).map_err(at(&shared))?;
    let image = image::build(&guest)?;
    let file = shared.join("initrd");
    fs::write(&file, image).map_err(at(&file))?;
    let kernel = image::kernel(&guest)?;
    fs::copy(&kernel, shared.join("vmlinuz")).map_err(at(&kernel))?;
    let sockets = ["a", "b"].map(|name| shared.join(name));
    for socket in &sockets {
        let _ = fs::remove_file(socket);
    }
    let mut model = Running::start(
        Command::new(target_directory().join("debug/ixgbe-vfio-user"))
            .args(&sockets)
            .stdout(Stdio::piped()),
    )?;
    let mut said = BufReader::new(model.0.stdout.take().ok_or_else(nothing_to_read)?);
    let mut line = String::new();
    said.read_line(&mut line).map_err(at("ixgbe-vfio-user"))?;
    let mut qemu = Running::start(qemu(&host).stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let console = qemu.0.stdout.take().ok_or_else(nothing_to_read)?;
    let reader = std::thread::spawn(move || follow(BufReader::new(console)));
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
    for line in said.lines().map_while(Result::ok) {
        println!("{line}");
    }
    match reader.join() {
        Ok(true) => Ok(()),
        _ => Err(Error::Other(
            "the guest did not say that all has passed".to_owned(),
        )),
    }
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

/// Shows what the guest says; whether it said that all has passed.
fn follow(console: impl BufRead) -> bool {
    let mut passed = false;
    for line in console.lines().map_while(Result::ok) {
        println!("{line}");
        passed |= line.trim_end() == "vm-test: passed";
    }
    passed
}

/// The virtual machine: four processors, 512 MB that the model reaches, and the two cards.
fn qemu(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg("/usr/bin/qemu-system-x86_64");
    command.args([
        "-M",
        "q35,accel=tcg",
        "-cpu",
        "max",
        "-smp",
        "4",
        "-m",
        "512",
    ]);
    command.args(["-object", "memory-backend-memfd,id=m,size=512M,share=on"]);
    command.args(["-machine", "memory-backend=m", "-nographic", "-nodefaults"]);
    command.args(["-serial", "stdio", "-no-reboot"]);
    command.args(["-kernel", "/tmp/vmlinuz", "-initrd", "/tmp/initrd"]);
    command.args(["-append", "console=ttyS0 panic=-1 quiet"]);
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
