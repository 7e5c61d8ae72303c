//! Segments near to what a connection expects, in sequences.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::scripts::on_segment(data));
