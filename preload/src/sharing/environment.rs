//! The environment of a program that is executed: where it was cut, what this library needs is put
//! back.

#![allow(unsafe_code)]

use crate::process::Process;
use crate::thread;
use context::control::SOCKET_VARIABLE;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

const PRELOAD: &str = "LD_PRELOAD";

/// A vector of C strings, and those of them that are our own.
struct Vector {
    entries: Vec<*const c_char>,
    _own: [CString; 2],
}

thread_local! {
    /// What a vfork child has made on this thread's memory, where it cannot be freed by the child, which
    /// has become a program.
    static LEFT: RefCell<Option<Vector>> = const { RefCell::new(None) };
}

/// Calls `body` with `given`, or with a copy that has what the library needs.
///
/// # Safety
/// `given` is null or a vector of C strings that ends with null.
pub unsafe fn complete<R>(
    process: &Process,
    given: *const *const c_char,
    body: impl FnOnce(*const *const c_char) -> R,
) -> R {
    // SAFETY: the caller's promise.
    let Some(vector) = (unsafe { copy(process, given) }) else {
        return body(given);
    };
    let at = vector.entries.as_ptr();
    if !thread::is_guest() {
        return body(at);
    }
    LEFT.with(|left| left.replace(Some(vector)));
    body(at)
}

/// Frees what a vfork child has left, after it.
pub fn clean() {
    LEFT.with(|left| left.take());
}

/// A copy with what is missing; `None` if nothing is.
///
/// # Safety
/// As [`complete`].
unsafe fn copy(process: &Process, given: *const *const c_char) -> Option<Vector> {
    // SAFETY: the caller's promise.
    let entries = unsafe { entries(given) };
    let preload = value(&entries, PRELOAD);
    let is_loaded = preload.is_some_and(|list| names_library(list, process.library()));
    let is_told = value(&entries, SOCKET_VARIABLE) == Some(process.name());
    if process.library().is_empty() || is_loaded && is_told {
        return None;
    }
    let mut list = process.library().to_vec();
    if let Some(others) = preload.filter(|list| !is_loaded && !list.is_empty()) {
        list.push(b':');
        list.extend(others);
    }
    let list = match preload {
        Some(list) if is_loaded => list,
        _ => &list,
    };
    let own = [
        assignment(PRELOAD, list)?,
        assignment(SOCKET_VARIABLE, process.name())?,
    ];
    let of_others = |entry: &&CStr| {
        let bytes = entry.to_bytes();
        !is_of(bytes, PRELOAD) && !is_of(bytes, SOCKET_VARIABLE)
    };
    let others = entries.iter().copied().filter(of_others);
    let all = own.iter().map(CString::as_c_str).chain(others);
    let mut entries: Vec<_> = all.map(CStr::as_ptr).collect();
    entries.push(std::ptr::null());
    Some(Vector { entries, _own: own })
}

/// # Safety
/// As [`complete`]; the strings live as long as what is returned is used.
unsafe fn entries<'a>(mut given: *const *const c_char) -> Vec<&'a CStr> {
    let mut entries = Vec::new();
    // SAFETY: the caller's promise: each is a C string until null comes.
    unsafe {
        while !given.is_null() && !(*given).is_null() {
            entries.push(CStr::from_ptr(*given));
            given = given.add(1);
        }
    }
    entries
}

fn is_of(entry: &[u8], variable: &str) -> bool {
    let rest = entry.strip_prefix(variable.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"="))
}

fn value<'a>(entries: &[&'a CStr], variable: &str) -> Option<&'a [u8]> {
    let mut bytes = entries.iter().map(|entry| entry.to_bytes());
    let entry = bytes.find(|entry| is_of(entry, variable))?;
    entry.get(variable.len() + 1..)
}

/// Whether a value of LD_PRELOAD (ld.so(8)) names this library.
fn names_library(list: &[u8], library: &[u8]) -> bool {
    let mut names = list.split(|byte| matches!(byte, b':' | b' '));
    names.any(|name| name == library)
}

fn assignment(variable: &str, value: &[u8]) -> Option<CString> {
    CString::new([variable.as_bytes(), b"=", value].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::process;

    /// The environment that a program gets which is given `entries`.
    fn completed(entries: &[&str]) -> Vec<String> {
        crate::testing::engine();
        let process = process().unwrap();
        let own: Vec<CString> = entries.iter().map(|e| CString::new(*e).unwrap()).collect();
        let mut vector: Vec<_> = own.iter().map(|entry| entry.as_ptr()).collect();
        vector.push(std::ptr::null());
        // SAFETY: both vectors end with null.
        unsafe {
            complete(process, vector.as_ptr(), |at| {
                let entries = super::entries(at).into_iter();
                entries
                    .map(|entry| entry.to_str().unwrap().to_owned())
                    .collect()
            })
        }
    }

    fn needed() -> [String; 2] {
        let process = process().unwrap();
        [
            (PRELOAD, process.library()),
            (SOCKET_VARIABLE, process.name()),
        ]
        .map(|(variable, value)| format!("{variable}={}", str::from_utf8(value).unwrap()))
    }

    #[test]
    fn an_environment_that_was_cut_is_completed() {
        let got = completed(&["HOME=/root"]);
        let [preload, socket] = needed();
        assert_eq!(got, [&preload, &socket, "HOME=/root"]);
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        crate::testing::engine();
        let [preload, socket] = needed();
        let given = [
            &socket,
            "A=LD_PRELOAD=",
            &format!("{preload} /lib/other.so"),
        ];
        assert_eq!(completed(&given), given);
    }

    #[test]
    fn another_library_stays_behind_this_one() {
        crate::testing::engine();
        let got = completed(&["LD_PRELOAD=/lib/other.so", "MTCP_STACK_CONTROL=@old"]);
        let [preload, socket] = needed();
        assert_eq!(got, [format!("{preload}:/lib/other.so"), socket]);
    }

    #[test]
    fn no_environment_at_all_is_completed() {
        crate::testing::engine();
        let process = process().unwrap();
        // SAFETY: null is allowed.
        let n = unsafe { complete(process, std::ptr::null(), |at| entries(at).len()) };
        assert_eq!(n, 2);
    }
}
