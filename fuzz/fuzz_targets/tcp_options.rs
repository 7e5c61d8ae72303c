//! TCP options: the parser alone, then a handshake that carries them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mtcp_fuzz::scripts::tcp_options(data));
