//! Notices of changes to interfaces (rtnetlink(7)). An AF_XDP socket does not poll ready when its
//! interface is removed.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sys::{check, netlink_socket};

/// A socket that polls readable once something about some interface has changed.
pub struct Changes(OwnedFd);

impl Changes {
    /// Watches from now on.
    pub fn watch() -> io::Result<Changes> {
        let socket = netlink_socket()?;
        // SAFETY: an all-zero sockaddr_nl is valid.
        let mut address: libc::sockaddr_nl = unsafe { zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = libc::RTMGRP_LINK as u32;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer and the length are those of `address`.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
        Ok(Changes(socket))
    }

    /// Takes all notices that wait; whether there were any, or so many that some were lost.
    pub fn take(&self) -> bool {
        let mut some = false;
        let mut notice = [0u8; 64];
        loop {
            let pointer = notice.as_mut_ptr().cast();
            // SAFETY: pointer and length are those of `notice`; the rest of the message is cut off.
            let received =
                unsafe { libc::recv(self.as_raw_fd(), pointer, notice.len(), libc::MSG_DONTWAIT) };
            let error = (received < 0).then(io::Error::last_os_error);
            match error.and_then(|error| error.raw_os_error()) {
                Some(libc::EINTR) => {}
                None | Some(libc::ENOBUFS) => some = true,
                Some(_) => return some,
            }
        }
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
