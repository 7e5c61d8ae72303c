//! What an application writes into the segment: commands, cursors, records.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::scripts::commands(data));
