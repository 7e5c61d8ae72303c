//! `--rootless`: user and network namespaces of our own, in which we may make a TAP.

use std::fs;
use std::io;

use crate::error::Error;
use crate::sys;

/// Enters new user and network namespaces as their root, and brings their loopback up. To be called
/// before any thread is started.
///
/// # Errors
/// If the kernel forbids it; the text says what forbids it and how to allow it.
pub fn enter() -> Result<(), Error> {
    let (uid, gid) = sys::effective_ids();
    sys::unshare_user_and_network().map_err(|e| Error::Rootless(refusal(&e)))?;
    let write = |file: &str, text: String| {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(|e| Error::Rootless(format!("{path}: {e}")))
    };
    // user_namespaces(7): without privileges the group can only be mapped once setgroups is denied.
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))?;
    sys::bring_loopback_up()
        .map_err(|e| Error::Rootless(format!("cannot bring the loopback up: {e}")))
}

fn refusal(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "the kernel does not let this user make user namespaces: set sysctl \
             kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0 \
             where the system has them, or allow it in the container's seccomp profile"
        }
        Some(libc::ENOSPC | libc::EUSERS) => {
            "too many user or network namespaces: raise sysctl user.max_user_namespaces and \
             user.max_net_namespaces, which may be 0"
        }
        Some(libc::EINVAL | libc::ENOSYS) => {
            "the kernel is built without user or network namespaces (CONFIG_USER_NS, CONFIG_NET_NS)"
        }
        _ => "cannot make user and network namespaces",
    };
    format!("{why} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_change() {
        let text = |errno| refusal(&io::Error::from_raw_os_error(errno));
        assert!(text(libc::EPERM).contains("unprivileged_userns_clone"));
        assert!(text(libc::ENOSPC).contains("max_user_namespaces"));
        assert!(text(libc::EINVAL).contains("CONFIG_USER_NS"));
        assert!(text(libc::EIO).contains("namespaces"));
    }
}
