//! What keeps the preload library out of a program.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How many interpreters of interpreters are followed, as in the kernel.
const MAX_INTERPRETERS: usize = 5;

// Bits of a file's mode (inode(7)).
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o010;

/// Why the dynamic linker does not load the preload library into a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// It has no dynamic linker.
    Static,
    /// It gains privileges when it is executed (AT_SECURE, see ld.so(8)).
    Privileged,
    /// It is made for another processor than this library.
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

/// What keeps the preload library out of the program at `path`, as far as its file tells.
///
/// `ids` are the effective user and group; `has_capabilities` says of a file whether it has some.
pub fn obstacle(
    path: &Path,
    ids: (u32, u32),
    has_capabilities: impl Fn(&Path) -> bool,
) -> Option<Obstacle> {
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
        if gains_privileges(&file, ids, || has_capabilities(&path)) {
            return Some(Obstacle::Privileged);
        }
        if is_loader(&path) {
            return None;
        }
        return elf_obstacle(&file, &head);
    }
    None
}

/// Whether it is the dynamic loader, which obeys LD_PRELOAD itself when it is started by its name, as
/// ldd(1) does.
fn is_loader(path: &Path) -> bool {
    let name = path.file_name().map_or(&[][..], OsStr::as_bytes);
    name.starts_with(b"ld-linux") || name.starts_with(b"ld.so")
}

/// The interpreter that the first line of a script names.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let mut words = line.split(|b| *b == b' ' || *b == b'\t');
    let name = words.find(|word| !word.is_empty())?;
    Some(OsString::from_vec(name.to_vec()).into())
}

fn gains_privileges(file: &File, (uid, gid): (u32, u32), capable: impl Fn() -> bool) -> bool {
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    let mode = metadata.mode();
    let setuid = mode & S_ISUID != 0 && metadata.uid() != uid;
    let setgid = mode & S_ISGID != 0 && mode & S_IXGRP != 0 && metadata.gid() != gid;
    setuid || setgid || (uid != 0 && capable())
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

    fn obstacle_of(path: &Path) -> Option<Obstacle> {
        let metadata = fs::metadata(path).unwrap();
        obstacle(path, (metadata.uid(), metadata.gid()), |_| false)
    }

    #[test]
    fn a_program_that_runs_as_somebody_else_gains_privileges() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "setuid", 0o4755, &elf(3));
        assert_eq!(obstacle_of(&path), None, "it is its owner's already");
        let metadata = fs::metadata(&path).unwrap();
        let other = (metadata.uid() + 1, metadata.gid());
        let found = obstacle(&path, other, |_| false);
        assert_eq!(found, Some(Obstacle::Privileged));
        let path = file(dir.path(), "capable", 0o755, &elf(3));
        let found = obstacle(&path, (1, 1), |_| true);
        assert_eq!(found, Some(Obstacle::Privileged));
    }

    fn file(folder: &Path, name: &str, mode: u32, text: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_dynamic_loader_has_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        for (name, found) in [
            ("ld-linux-x86-64.so.2", None),
            ("ld", Some(Obstacle::Static)),
        ] {
            let path = file(dir.path(), name, 0o755, &elf(1));
            assert_eq!(obstacle_of(&path), found, "{name}");
        }
    }

    #[test]
    fn a_dynamic_program_has_no_obstacle() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(obstacle_of(&own), None);
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
        assert_eq!(obstacle_of(&load), Some(Obstacle::Static));
        let interp = file(dir.path(), "dynamic", 0o755, &elf(3));
        assert_eq!(obstacle_of(&interp), None);
    }

    #[test]
    fn a_program_of_another_processor_is_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let mut image = elf(3);
        image[18] ^= 0xff;
        let path = file(dir.path(), "foreign", 0o755, &image);
        assert_eq!(obstacle_of(&path), Some(Obstacle::Foreign));
    }

    #[test]
    fn a_script_counts_as_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let inner = file(dir.path(), "static", 0o755, &elf(1));
        let line = format!("#! {} -x\n", inner.display());
        let script = file(dir.path(), "script", 0o755, line.as_bytes());
        assert_eq!(obstacle_of(&script), Some(Obstacle::Static));
    }

    #[test]
    fn a_script_that_is_its_own_interpreter_ends_the_search() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loop");
        let line = format!("#!{}\n", path.display());
        file(dir.path(), "loop", 0o755, line.as_bytes());
        assert_eq!(obstacle_of(&path), None);
    }

    #[test]
    fn junk_has_no_obstacle_and_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let mut lies = elf(1);
        lies[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        lies[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        for (name, text) in [("empty", &b""[..]), ("short", b"\x7fELF"), ("lies", &lies)] {
            let path = file(dir.path(), name, 0o755, text);
            assert_eq!(obstacle_of(&path), None, "{name}");
        }
    }
}
