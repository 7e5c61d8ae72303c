//! The kernel as oracle: the same calls on a socket of the stack and on one of the kernel, in states
//! that need no network, must have the same results.

#![allow(unsafe_code)]

use super::buffers::Buffers;
use super::names::{Address, Raw};
use super::{SocketRef, accept, connect, create, listen, names, recv, send};
use crate::descriptor::close::close;
use crate::testing::{engine, fresh};
use crate::{errno, real};
use std::ffi::c_int;
use std::os::fd::RawFd;

/// 0 or more, or an errno below 0.
fn outcome<T>(result: errno::Result<T>) -> c_int {
    result.map_or_else(|e| -e.0, |_| 0)
}

fn kernel(result: isize) -> c_int {
    if result < 0 { -errno::get() } else { 0 }
}

struct Pair {
    socket: SocketRef,
    fd: RawFd,
    kernel: RawFd,
}

impl Pair {
    fn new() -> Pair {
        engine();
        let socket = fresh();
        Pair {
            socket,
            fd: create::attach(socket, true).unwrap(),
            kernel: real::socket(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap(),
        }
    }

    fn listening() -> Pair {
        let pair = Pair::new();
        let at = "10.77.0.2:0".parse().unwrap();
        listen::bind(pair.fd, pair.socket, at).unwrap();
        listen::listen(pair.fd, pair.socket, 4).unwrap();
        // SAFETY: a kernel socket that is ours.
        assert_eq!(unsafe { libc::listen(pair.kernel, 4) }, 0);
        pair
    }

    /// Makes all calls on both and compares.
    fn compare(&self, state: &str) {
        let Pair { socket, fd, kernel } = *self;
        let mut byte = 0u8;
        let at = (&raw mut byte).cast::<libc::c_void>();
        for flags in [
            0,
            libc::MSG_DONTWAIT,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
            libc::MSG_OOB,
            libc::MSG_ERRQUEUE,
        ] {
            // SAFETY: one byte is there.
            let mut one = unsafe { Buffers::one(at, 1) }.unwrap();
            let ours = outcome(recv::receive(socket, &mut one, flags));
            // SAFETY: as above.
            let theirs = self::kernel(unsafe { libc::recv(kernel, at, 1, flags) });
            assert_eq!(ours, theirs, "recv with {flags:#x}, {state}");
        }
        for len in [0, 1] {
            let flags = libc::MSG_NOSIGNAL;
            // SAFETY: one byte is there.
            let mut one = unsafe { Buffers::one(at, len) }.unwrap();
            let ours = outcome(send::send(socket, &mut one, flags));
            // SAFETY: as above.
            let theirs = self::kernel(unsafe { libc::send(kernel, at, len, flags) });
            assert_eq!(ours, theirs, "send of {len}, {state}");
        }
        let theirs = {
            let mut raw = Raw::new("0.0.0.0:0".parse().unwrap(), false);
            let mut len = raw.len;
            // SAFETY: the storage takes any address.
            self::kernel(
                unsafe { libc::getpeername(kernel, raw.as_mut_ptr(), &raw mut len) } as isize,
            )
        };
        assert_eq!(
            outcome(names::remote(socket)),
            theirs,
            "getpeername, {state}"
        );
        if !socket.is_listening() {
            let ours = outcome(accept::accept(fd, socket, 0));
            let null = std::ptr::null_mut();
            // SAFETY: no address is asked for.
            let theirs = unsafe { libc::accept4(kernel, null, null.cast(), 0) };
            assert_eq!(ours, self::kernel(theirs as isize), "accept, {state}");
            for how in [0, 1, 2, 3, -1] {
                let ours = outcome(connect::shutdown(fd, socket, how));
                // SAFETY: numbers only.
                let theirs = self::kernel(unsafe { libc::shutdown(kernel, how) } as isize);
                assert_eq!(ours, theirs, "shutdown({how}), {state}");
            }
        } else {
            let to = "10.77.0.1:9".parse().unwrap();
            let ours = outcome(connect::connect(fd, socket, Address::Internet(to)));
            let theirs = outcome(connect::kernel_connect(kernel, &Raw::new(to, false)));
            assert_eq!(ours, theirs, "connect, {state}");
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = close(self.fd);
        real::close(self.kernel);
    }
}

#[test]
fn a_fresh_socket_answers_as_the_kernels() {
    Pair::new().compare("fresh");
}

#[test]
fn a_listener_answers_as_the_kernels() {
    Pair::listening().compare("listening");
}

#[test]
fn binding_twice_and_listening_twice_are_as_on_the_kernel() {
    let pair = Pair::listening();
    let at = "10.77.0.2:0".parse().unwrap();
    let any = Raw::new("0.0.0.0:0".parse().unwrap(), false);
    // SAFETY: the address is whole.
    let theirs = unsafe { libc::bind(pair.kernel, any.as_ptr(), any.len) };
    let ours = outcome(listen::bind(pair.fd, pair.socket, at));
    assert_eq!(ours, kernel(theirs as isize));
    // SAFETY: numbers only.
    let theirs = unsafe { libc::listen(pair.kernel, -1) };
    let ours = outcome(listen::listen(pair.fd, pair.socket, -1));
    assert_eq!(ours, kernel(theirs as isize));
}
