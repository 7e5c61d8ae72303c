//! The guest's first file system: an archive of what it runs (the kernel's "newc" cpio).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::guest::Guest;
use crate::shell::{Error, at, output};

/// The only file of a folder whose name begins so.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    let named = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with(prefix))
    };
    let mut found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(named);
    found
        .next()
        .ok_or_else(|| Error::Other(format!("{}: there is no {prefix}…", folder.display())))
}

/// The guest's kernel.
pub fn kernel(root: &Path) -> Result<PathBuf, Error> {
    only(&root.join("boot"), "vmlinuz-")
}

/// Gathers all files of a guest into the archive: the kernel's modules from `root`, its programs from
/// `programs`, and from `built` what is built here.
pub fn build(root: &Path, programs: &Path, guest: Guest, built: &Path) -> Result<Vec<u8>, Error> {
    let mut files = BTreeMap::new();
    files.insert("init".to_owned(), guest.script().into_bytes());
    files.insert("bin/busybox".to_owned(), read(root, "/usr/bin/busybox")?);
    for name in guest.built() {
        let (from, to) = (built.join(name), format!("/opt/mtcp/{name}"));
        let place = programs.join(&to[1..]);
        fs::create_dir_all(programs.join("opt/mtcp")).map_err(at(&place))?;
        fs::copy(&from, &place).map_err(at(&from))?;
        add(&mut files, programs, &to)?;
    }
    for program in guest.programs() {
        add(&mut files, programs, program)?;
    }
    let modules = only(&root.join("usr/lib/modules"), "")?;
    let mut order = String::new();
    for name in guest.modules() {
        let found = find(&modules, &format!("{name}.ko"))?;
        // What is not there is part of the kernel.
        if let Some(path) = found {
            let bytes = fs::read(&path).map_err(at(&path))?;
            files.insert(format!("modules/{name}.ko"), bytes);
            order.push_str(&format!("{name}.ko\n"));
        }
    }
    files.insert("modules/order".to_owned(), order.into_bytes());
    Ok(archive(&files))
}

/// Adds a program and the libraries that it asks for.
fn add(files: &mut BTreeMap<String, Vec<u8>>, root: &Path, program: &str) -> Result<(), Error> {
    files.insert(program[1..].to_owned(), read(root, program)?);
    for library in libraries(root, program)? {
        files.insert(library[1..].to_owned(), read(root, &library)?);
    }
    Ok(())
}

/// What the loader finds for a program.
fn libraries(root: &Path, program: &str) -> Result<Vec<String>, Error> {
    let listed = output(Command::new("chroot").arg(root).args([
        "/lib64/ld-linux-x86-64.so.2",
        "--list",
        program,
    ]))?;
    let words = listed.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}

/// Reads a file of the folder, whose links are meant within it.
fn read(root: &Path, path: &str) -> Result<Vec<u8>, Error> {
    let mut path = PathBuf::from(path);
    for _ in 0..16 {
        let here = resolve(root, &path);
        match fs::read_link(&here) {
            Ok(target) if target.is_absolute() => path = target,
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return fs::read(&here).map_err(at(&here)),
        }
    }
    Err(Error::Other(format!("{}: too many links", path.display())))
}

/// Where a path of the folder lies.
fn resolve(root: &Path, path: &Path) -> PathBuf {
    let mut here = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => here.push(name),
            Component::ParentDir if here != root => drop(here.pop()),
            _ => {}
        }
    }
    here
}

fn find(folder: &Path, name: &str) -> Result<Option<PathBuf>, Error> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let path = entry.path();
        if entry.file_type().map_err(at(&path))?.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if entry.file_name() == name {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The archive: folders first, then files, all of which may be run.
fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let parents = |name: &String| {
        let ancestors = Path::new(name).ancestors().skip(1);
        let names = ancestors.map(|path| path.to_string_lossy().into_owned());
        names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let folders: BTreeSet<String> = files.keys().flat_map(parents).collect();
    let mut bytes = Vec::new();
    for folder in &folders {
        entry(&mut bytes, folder, 0o40755, &[]);
    }
    for (name, content) in files {
        entry(&mut bytes, name, 0o100755, content);
    }
    entry(&mut bytes, "TRAILER!!!", 0, &[]);
    bytes
}

fn entry(bytes: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let number = bytes.len() as u32 + 1;
    let (size, length) = (content.len() as u32, name.len() as u32 + 1);
    // Number, mode, owner, group, links, time, size, four numbers of devices, length of the name, sum.
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
    bytes.extend_from_slice(b"070701");
    for field in fields {
        bytes.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend_from_slice(content);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
