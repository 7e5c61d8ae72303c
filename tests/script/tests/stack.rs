//! Every script under tests/scripts, over our stack with a fake clock.

use script::run::Addresses;
use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/scripts.rs"));

/// Runs one script. One that is known to fail, with its reason, must do so.
fn check(path: &str) {
    let path = Path::new(path);
    let script = script::load(path).unwrap_or_else(|what| panic!("{}: {what}", path.display()));
    let result = script::stack::run(&script, Addresses::of(script.is_ipv6()), false);
    match (result, script::known_failure(path)) {
        (Ok(()), None) => {}
        (Ok(()), Some(reason)) => panic!("passes now: take it off expected-to-fail ({reason})"),
        (Err(_), Some(_)) => {}
        (Err(failure), None) => panic!("{}: {failure}", path.display()),
    }
}
