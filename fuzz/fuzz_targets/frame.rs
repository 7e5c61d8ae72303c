//! Bytes from the wire: frames into a worker.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::scripts::frame(data));
