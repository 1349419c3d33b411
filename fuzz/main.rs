//! The fuzzer's entry: one program for all targets, of which `PLIMSOLL_FUZZ_TARGET` names one. `fuzz/run` builds and starts it.

#![no_main]
#![allow(dead_code)]

mod corpus;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn target() -> targets::Target {
    static TARGET: OnceLock<targets::Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("PLIMSOLL_FUZZ_TARGET").unwrap_or_default();
        let found = targets::TARGETS.iter().find(|(known, _)| *known == name);
        let Some((_, target)) = found else {
            let known: Vec<&str> = targets::TARGETS.iter().map(|(known, _)| *known).collect();
            eprintln!(
                "PLIMSOLL_FUZZ_TARGET is '{name}'; it must be one of {}",
                known.join(", ")
            );
            std::process::exit(2);
        };
        *target
    })
}

fuzz_target!(|data: &[u8]| {
    target()(data);
});
