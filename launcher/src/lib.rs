//! The parts of `mtcp-run` that other hosts of the engine need as well.

pub mod stack;
