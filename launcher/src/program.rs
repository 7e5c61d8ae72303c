//! Finds the program as execvp(3) would, and sees whether the preload library can enter it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::sys;

/// How many interpreters of interpreters are followed, as in the kernel.
const MAX_INTERPRETERS: usize = 5;

/// Why the dynamic linker does not load the preload library into a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// It has no dynamic linker.
    Static,
    /// It gains privileges when it is executed (AT_SECURE, see ld.so(8)).
    Privileged,
    /// It is made for another processor than `mtcp-run`.
    Foreign,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::Static => "is statically linked",
            Obstacle::Privileged => "is setuid or setgid or has file capabilities",
            Obstacle::Foreign => "is made for another processor or word size",
        })
    }
}

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

/// What keeps the preload library out of the program at `path`, as far as its file tells.
pub fn obstacle(path: &Path) -> Option<Obstacle> {
    let mut path = path.to_owned();
    for _ in 0..MAX_INTERPRETERS {
        let file = File::open(&path).ok()?;
        let mut head = Vec::new();
        (&file).take(256).read_to_end(&mut head).ok()?;
        // The set-id bits of a script do not count, those of its interpreter do.
        if let Some(interpreter) = interpreter(&head) {
            path = interpreter;
            continue;
        }
        if gains_privileges(&file, &path) {
            return Some(Obstacle::Privileged);
        }
        return elf_obstacle(&file, &head);
    }
    None
}

/// The interpreter that the first line of a script names.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let mut words = line.split(|b| *b == b' ' || *b == b'\t');
    let name = words.find(|word| !word.is_empty())?;
    Some(OsString::from_vec(name.to_vec()).into())
}

fn gains_privileges(file: &File, path: &Path) -> bool {
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    let (uid, gid) = sys::effective_ids();
    let mode = metadata.mode();
    let setuid = mode & libc::S_ISUID != 0 && metadata.uid() != uid;
    let setgid = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 && metadata.gid() != gid;
    setuid || setgid || (uid != 0 && sys::has_capabilities(path))
}

/// Offsets and values are of the System V ABI's chapters 4 and 5 (elf(5)).
fn elf_obstacle(file: &File, head: &[u8]) -> Option<Obstacle> {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const PT_INTERP: u32 = 3;
    const PROGRAM_HEADER: usize = 56;
    if !head.starts_with(b"\x7fELF") || head.len() < 64 {
        return None;
    }
    let own_machine = match std::env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        "riscv64" => 243,
        _ => return None,
    };
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    if head[4] != CLASS_64 || head[5] != LITTLE_ENDIAN || half(18) != own_machine {
        return Some(Obstacle::Foreign);
    }
    let table = u64::from_le_bytes(head[32..40].try_into().ok()?);
    let (entry_len, entries) = (usize::from(half(54)), usize::from(half(56)));
    if entry_len < PROGRAM_HEADER {
        return None;
    }
    let mut headers = vec![0; entry_len * entries];
    file.read_exact_at(&mut headers, table).ok()?;
    let mut kinds = headers
        .chunks_exact(entry_len)
        .map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]));
    (!kinds.any(|kind| kind == PT_INTERP)).then_some(Obstacle::Static)
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

    #[test]
    fn a_dynamic_program_has_no_obstacle() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(obstacle(&own), None);
    }

    /// A 64-bit ELF header of this machine with one program header of that type.
    fn elf(kind: u32) -> Vec<u8> {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let mut image = own[..64].to_vec();
        image[32..40].copy_from_slice(&64u64.to_le_bytes());
        image[54..56].copy_from_slice(&56u16.to_le_bytes());
        image[56..58].copy_from_slice(&1u16.to_le_bytes());
        image.extend(kind.to_le_bytes());
        image.extend([0; 52]);
        image
    }

    #[test]
    fn a_program_without_a_dynamic_linker_is_static() {
        let dir = tempfile::tempdir().unwrap();
        let load = file(dir.path(), "static", 0o755, &elf(1));
        assert_eq!(obstacle(&load), Some(Obstacle::Static));
        let interp = file(dir.path(), "dynamic", 0o755, &elf(3));
        assert_eq!(obstacle(&interp), None);
    }

    #[test]
    fn a_program_of_another_processor_is_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let mut image = elf(3);
        image[18] ^= 0xff;
        let path = file(dir.path(), "foreign", 0o755, &image);
        assert_eq!(obstacle(&path), Some(Obstacle::Foreign));
    }

    #[test]
    fn a_script_counts_as_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let inner = file(dir.path(), "static", 0o755, &elf(1));
        let line = format!("#! {} -x\n", inner.display());
        let script = file(dir.path(), "script", 0o755, line.as_bytes());
        assert_eq!(obstacle(&script), Some(Obstacle::Static));
    }

    #[test]
    fn a_script_that_is_its_own_interpreter_ends_the_search() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loop");
        let line = format!("#!{}\n", path.display());
        file(dir.path(), "loop", 0o755, line.as_bytes());
        assert_eq!(obstacle(&path), None);
    }

    #[test]
    fn junk_has_no_obstacle_and_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let mut lies = elf(1);
        lies[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        lies[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        for (name, text) in [("empty", &b""[..]), ("short", b"\x7fELF"), ("lies", &lies)] {
            let path = file(dir.path(), name, 0o755, text);
            assert_eq!(obstacle(&path), None, "{name}");
        }
    }
}
