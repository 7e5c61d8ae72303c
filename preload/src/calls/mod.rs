//! The C symbols: each shim looks up the descriptor, converts its arguments and delegates.

#![allow(unsafe_code)]

pub mod descriptors;
pub mod files;
pub mod io;
pub mod options;
pub mod processes;
pub mod readiness;
pub mod signals;
pub mod sockets;
