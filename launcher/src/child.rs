//! Starts the program.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::Error;
use crate::sys::{self, CoreSet, HeldSignals, Pid};

/// What the program is started with.
pub struct Start<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Its name as given, and its arguments.
    pub command: &'a [OsString],
    /// Cores that it may use; empty for those of `mtcp-run`.
    pub cores: &'a [usize],
    /// The preload library, if it gets one.
    pub preload: Option<&'a Path>,
    /// Further variables of its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// Starts the program in our process group, so that the terminal's keys reach it, with the signal
/// mask that `mtcp-run` was given. It inherits no descriptor of ours, since all are close-on-exec.
///
/// # Errors
/// [`Error::NotFound`] or [`Error::CannotExecute`].
pub fn start(start: Start<'_>, signals: &HeldSignals) -> Result<Pid, Error> {
    let (name, arguments) = start.command.split_first().unzip();
    let name: &OsStr = name.map_or(start.path.as_os_str(), OsString::as_os_str);
    let mut command = Command::new(start.path);
    command.arg0(name).args(arguments.unwrap_or_default());
    command.envs(start.environment);
    if let Some(library) = start.preload {
        command.env(
            "LD_PRELOAD",
            ld_preload(library, std::env::var_os("LD_PRELOAD")),
        );
    }
    let cores = (!start.cores.is_empty()).then(|| CoreSet::new(start.cores));
    // A lease of a socket takes a descriptor of ours.
    let files = sys::raise_file_limit().map_err(Error::system("the limit on descriptors"))?;
    sys::prepare(&mut command, cores, signals, files);
    match command.spawn() {
        Ok(child) => Ok(child.id() as Pid),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NotFound {
            program: name.to_string_lossy().into_owned(),
        }),
        Err(error) => Err(Error::CannotExecute {
            program: name.to_string_lossy().into_owned(),
            reason: error.to_string(),
        }),
    }
}

/// LD_PRELOAD with the library in front of what stands there already.
fn ld_preload(library: &Path, before: Option<OsString>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        value.push(":");
        value.push(before);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_stands_in_front_of_others() {
        let library = Path::new("/lib/m.so");
        assert_eq!(ld_preload(library, None), "/lib/m.so");
        assert_eq!(ld_preload(library, Some("".into())), "/lib/m.so");
        assert_eq!(
            ld_preload(library, Some("/lib/a.so /lib/b.so".into())),
            "/lib/m.so:/lib/a.so /lib/b.so"
        );
    }
}
