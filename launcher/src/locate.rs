//! Finds the preload library.

use std::path::{Path, PathBuf};

use crate::error::Error;

const NAME: &str = "libmtcp_preload.so";

/// The preload library's absolute path: the file that was named, else beside the executable, else
/// where an installation or a build puts it.
///
/// # Errors
/// If it is not there, or its path cannot stand in LD_PRELOAD.
pub fn preload(named: Option<&Path>) -> Result<PathBuf, Error> {
    let found = match named {
        Some(path) if path.is_file() => path.to_owned(),
        Some(path) => {
            let message = format!("{}: there is no such preload library", path.display());
            return Err(Error::Preload(message));
        }
        None => {
            let executable = std::env::current_exe().map_err(Error::system("own executable"))?;
            search(executable.parent().unwrap_or(Path::new("/")))?
        }
    };
    let found = found
        .canonicalize()
        .map_err(Error::system("preload library"))?;
    // ld.so(8): the elements of LD_PRELOAD are separated by spaces or colons.
    if found.to_string_lossy().contains([':', ' ']) {
        let message = format!(
            "{}: LD_PRELOAD cannot name a path with a colon or a space: move the library",
            found.display()
        );
        return Err(Error::Preload(message));
    }
    Ok(found)
}

fn search(folder: &Path) -> Result<PathBuf, Error> {
    let places = [
        folder.join(NAME),
        folder.join("../lib/mtcp").join(NAME),
        folder.join("deps").join(NAME),
    ];
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    Err(Error::Preload(format!(
        "{NAME} not found (looked for {}): build it with `cargo build -p preload`, or name it with \
         --preload FILE or MTCP_PRELOAD",
        looked.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_library_beside_the_executable_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        let lib = dir.path().join("lib/mtcp");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&lib).unwrap();
        assert!(search(&bin).is_err());
        fs::write(lib.join(NAME), "").unwrap();
        assert_eq!(search(&bin).unwrap(), bin.join("../lib/mtcp").join(NAME));
        fs::write(bin.join(NAME), "").unwrap();
        assert_eq!(search(&bin).unwrap(), bin.join(NAME));
    }

    #[test]
    fn a_missing_library_says_how_to_build_it() {
        let dir = tempfile::tempdir().unwrap();
        let message = search(dir.path()).unwrap_err().to_string();
        assert!(message.contains("cargo build -p preload"), "{message}");
        assert!(message.contains("--preload"), "{message}");
    }

    #[test]
    fn a_path_that_ld_preload_cannot_hold_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b.so");
        fs::write(&path, "").unwrap();
        let message = preload(Some(&path)).unwrap_err().to_string();
        assert!(message.contains("colon or a space"), "{message}");
    }
}
