//! The preload library, loaded into this process as a library of functions.
//!
//! It is not linked: as a shared object of its own its `read` and `close` are found by [`dlsym`] and
//! by nobody else, and what is tested is what programs run with.
//!
//! [`dlsym`]: libc::dlsym

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::interface::Interface;

const NAME: &str = "libmtcp_preload.so";
/// Where the preload library may be, seen from this one.
const PLACES: [&str; 3] = ["", "../lib/mtcp", "deps"];

/// Why the preload library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not where it should be.
    #[error("{NAME} not found (looked for {0}): name it with --so_flags=preload=FILE")]
    NotFound(String),
    /// The dynamic linker's complaint.
    #[error("{0}")]
    Linker(String),
    /// It does not reach the engine of this process.
    #[error("{NAME} does not reach the engine of this process")]
    NotAttached,
}

type Attach = unsafe extern "C" fn(*const libc::c_char) -> c_int;

/// The preload library.
pub struct Library(*mut c_void);

// SAFETY: a handle of dlopen(3) may be used by any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Loads the library; it attaches to the stack behind the control socket `control`.
    ///
    /// # Errors
    /// If the file is not there or cannot be loaded.
    pub fn load(named: Option<&Path>, control: &str) -> Result<Library, Error> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => search(&own_folder())?,
        };
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|error| Error::Linker(error.to_string()))?;
        // SAFETY: the path is a C string; the library's constructor finds no stack to attach to.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(linker_error());
        }
        let library = Library(handle);
        let attach = library.find(c"mtcp_preload_attach")?;
        let control = CString::new(control).map_err(|error| Error::Linker(error.to_string()))?;
        // SAFETY: the library's function of this type; nobody else has used the library yet.
        let attached = unsafe {
            let attach = std::mem::transmute::<*mut c_void, Attach>(attach);
            attach(control.as_ptr())
        };
        match attached {
            0 => Ok(library),
            _ => Err(Error::NotAttached),
        }
    }

    /// A function of the library, or of libc if the library does not have it.
    ///
    /// # Errors
    /// If neither has it.
    pub fn find(&self, name: &CStr) -> Result<*mut c_void, Error> {
        // SAFETY: the handle is open, the name is a C string.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        if symbol.is_null() {
            return Err(linker_error());
        }
        Ok(symbol)
    }
}

fn linker_error() -> Error {
    // SAFETY: null or a C string that stays until this thread's next call.
    let text = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return Error::Linker("the dynamic linker gives no reason".to_owned());
        }
        CStr::from_ptr(text)
    };
    Error::Linker(text.to_string_lossy().into_owned())
}

/// The folder in which this shared object lies.
fn own_folder() -> PathBuf {
    let here: unsafe extern "C" fn(*const libc::c_char, *mut Interface) =
        crate::packetdrill_interface_init;
    // SAFETY: zero is a valid Dl_info, which dladdr fills in; the name is a C string of the linker.
    let name = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let found: c_int = libc::dladdr(here as *const c_void, &raw mut info);
        if found == 0 || info.dli_fname.is_null() {
            return PathBuf::new();
        }
        CStr::from_ptr(info.dli_fname)
    };
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    path.parent().unwrap_or(Path::new("")).to_owned()
}

fn search(folder: &Path) -> Result<PathBuf, Error> {
    let places = PLACES.map(|place| folder.join(place).join(NAME));
    let looked = || {
        let texts: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        Error::NotFound(texts.join(", "))
    };
    // A bare name would have the linker search elsewhere.
    let found = places.iter().find_map(|place| place.canonicalize().ok());
    found.ok_or_else(looked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named_with_the_places_looked_at() {
        let message = search(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(
            message.contains("/nowhere/deps/libmtcp_preload.so"),
            "{message}"
        );
        let named = Library::load(Some(Path::new("/nowhere/x.so")), "nobody");
        assert!(
            named
                .err()
                .is_some_and(|e| e.to_string().contains("/nowhere/x.so"))
        );
    }
}
