//! Finds the program as execvp(3) would.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::sys;

/// The path of `program`: itself if it has a slash, else the first executable of that name in
/// `search`, the value of PATH.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::CannotExecute`].
pub fn find(program: &OsStr, search: Option<OsString>) -> Result<PathBuf, Error> {
    let name = || program.to_string_lossy().into_owned();
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![program.into()]
    } else if program.is_empty() {
        Vec::new()
    } else {
        let search = search.unwrap_or_else(|| "/bin:/usr/bin".into());
        let folders = std::env::split_paths(&search);
        folders.map(|folder| here(folder).join(program)).collect()
    };
    let mut refused = None;
    for path in candidates {
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(reason) => refused = refused.or(reason),
        }
    }
    Err(match refused {
        Some(reason) => Error::CannotExecute {
            program: name(),
            reason,
        },
        None => Error::NotFound { program: name() },
    })
}

/// An empty element of PATH is the working directory.
fn here(folder: PathBuf) -> PathBuf {
    if folder.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        folder
    }
}

/// Whether a file can be executed: `Err(None)` if it is not there, `Err` with the reason if it is.
fn executable(path: &Path) -> Result<(), Option<String>> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(Some("is a folder".to_owned())),
        Ok(metadata) if !metadata.is_file() => Err(Some("is not a file".to_owned())),
        Ok(_) => sys::may_execute(path).map_err(|error| Some(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Some(error.to_string()))
        }
        Err(_) => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn file(folder: &Path, name: &str, mode: u32, text: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_first_executable_of_path_is_found() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        file(a.path(), "tool", 0o644, b"");
        let wanted = file(b.path(), "tool", 0o755, b"");
        let path = std::env::join_paths([a.path(), b.path()]).unwrap();
        assert_eq!(find(OsStr::new("tool"), Some(path)).unwrap(), wanted);
    }

    #[test]
    fn what_is_not_there_and_what_cannot_run_differ() {
        let dir = tempfile::tempdir().unwrap();
        file(dir.path(), "plain", 0o644, b"");
        let path = || Some(dir.path().into());
        let status = |name: &OsStr| find(name, path()).unwrap_err().exit_status();
        assert_eq!(status(OsStr::new("missing")), 127);
        assert_eq!(status(OsStr::new("")), 127);
        assert_eq!(status(OsStr::new("/no/such/program")), 127);
        assert_eq!(status(OsStr::new("plain")), 126);
        assert_eq!(status(dir.path().as_os_str()), 126, "a folder");
    }
}
