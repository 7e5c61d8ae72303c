//! What `bench-server` and `bench-client` share. Both are plain epoll programs over libc that know
//! nothing of the stack: they run on the kernel, or unmodified under `mtcp-run`.

pub mod measured;

/// The system calls that the standard library lacks; the examples' own module.
#[path = "../../examples/common/mod.rs"]
pub mod sys;

/// Bytes that a bulk transfer reads or writes in one call.
pub const CHUNK: usize = 256 * 1024;

/// Calls that one bulk connection makes before the others have their turn.
pub const TURNS: usize = 8;
