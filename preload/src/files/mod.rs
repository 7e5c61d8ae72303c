//! Data between sockets and files, pipes and stdio; system calls made by number.

pub mod print;
pub mod sendfile;
pub mod splice;
pub mod standard;
pub mod stream;
pub mod syscall;

#[cfg(test)]
mod tests;
