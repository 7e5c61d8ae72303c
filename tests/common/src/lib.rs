//! The harness of the whole-system tests, and of the benchmarks: anonymous network namespaces,
//! programs in them on the kernel's stack or on ours, and checks of what they do.
//!
//! A test takes a [`Testbed`], starts a [`servers::Server`] on its server's host and runs clients
//! on its client's host. The same test runs on every kind of testbed, [`Testbed::kernel`]
//! included: what fails there is the test's fault.

pub mod artifacts;
mod bed;
pub mod data;
mod namespace;
pub mod postgresql;
mod program;
pub mod scenarios;
pub mod servers;
mod sys;

pub use bed::{Host, LIMIT, Testbed, WORKERS_VARIABLE};
pub use namespace::Namespace;
pub use program::{Finished, Program, describe, until};
pub use sys::{raise_file_limit, signal};
