//! libmtcp_preload.so: the C symbols that applications call.
//!
//! A shim in [`calls`] looks up the descriptor, converts and delegates; the behaviour of a socket
//! stands in [`socket`] and [`readiness`] and can be tested without `LD_PRELOAD`. Outside mtcp-run
//! every call goes through to libc.

pub mod calls;
pub mod cancel;
pub mod descriptor;
pub mod errno;
pub mod files;
pub mod hold;
pub mod interpose;
pub mod log;
pub mod own;
pub mod placeholder;
pub mod process;
pub mod readiness;
pub mod real;
pub mod section;
pub mod sharing;
pub mod signals;
pub mod socket;
#[cfg(test)]
pub(crate) mod testing;
pub mod thread;
pub mod trace;
pub mod wait;
