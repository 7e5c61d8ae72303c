//! libmtcp_packetdrill.so: packetdrill's scripts against this stack.
//!
//! packetdrill (<https://github.com/google/packetdrill>) tests a stack that lies in a shared object
//! of which it knows one function, [`packetdrill_interface_init`]; `--so_filename` names the object.
//! Here the engine runs in packetdrill's own process over a [`wire`] that packetdrill reads and
//! writes, and the socket calls go to the preload library, as a program's do.
//!
//! docs/packetdrill.md says how to run it.

#![deny(unsafe_code)]

pub mod adapter;
pub mod calls;
pub mod flags;
pub mod interface;
pub mod library;
pub mod redirect;
pub mod wire;

pub use calls::packetdrill_interface_init;
