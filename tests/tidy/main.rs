//! The house rules that no compiler checks: who may know whom, how long a file may grow, where `unsafe` may stand.
//!
//! Cargo guards the walls between packages; those between the rooms of one package are guarded here, from the text of the
//! sources. A rule that has to be bent is bent in its table, where it is seen.

#![allow(clippy::unwrap_used)]

mod source;
mod walls;

use source::{Source, after_block, line_of, text_of, words};
use walls::{PURE_FILES, WALLS};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
/// The only file that may hold `unsafe`.
const UNSAFE_FILE: &str = "segment-store/src/map.rs";
/// A SAFETY note ends at most this many lines above its block.
const SAFETY_LINES: usize = 6;

/// Fails with every message, so that one run shows all there is to do.
fn expect_none(breaches: &[String]) {
    assert!(
        breaches.is_empty(),
        "{} breaches:\n{}",
        breaches.len(),
        breaches.join("\n")
    );
}

fn check(sources: impl FnMut(&Source) -> Vec<String>) {
    let breaches: Vec<String> = source::all().iter().flat_map(sources).collect();
    expect_none(&breaches);
}

#[test]
fn rooms_know_only_whom_they_may() {
    check(|source| {
        let wall = WALLS.iter().find(|wall| source.room() == Some(wall.room));
        match wall {
            Some(wall) if !source.is_test() => walls::breaches(source, wall),
            _ => Vec::new(),
        }
    });
}

#[test]
fn every_room_has_its_wall() {
    check(|source| {
        let walled = |room: &str| {
            // Whether a bug is put back for a test is asked from everywhere.
            matches!(room, "lib" | "main" | "mutation")
                || WALLS.iter().any(|wall| wall.room == room)
        };
        match source.room() {
            Some(room) if !walled(room) => vec![format!(
                "{}: the room {room} is not in the table",
                source.path
            )],
            _ => Vec::new(),
        }
    });
}

#[test]
fn the_shell_of_a_replica_is_pure() {
    let banned = [
        "tokio",
        "rustix",
        "std::fs",
        "std::net",
        "std::thread",
        "std::time",
    ];
    let mut seen = 0;
    let mut breaches = Vec::new();
    for source in source::all() {
        if PURE_FILES.contains(&source.path.as_str()) {
            seen += 1;
            breaches.extend(walls::impurities(&source, &banned));
        }
    }
    assert_eq!(
        seen,
        PURE_FILES.len(),
        "a pure file was renamed: say so in the table"
    );
    expect_none(&breaches);
}

#[test]
fn every_file_opens_by_saying_what_it_owns() {
    check(|source| match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![format!("{} does not open with `//!`", source.path)],
    });
}

#[test]
fn no_file_grows_beyond_its_limit() {
    check(|source| match source.text.lines().count() {
        lines if lines > FILE_LINES_MAX => vec![format!("{} has {lines} lines", source.path)],
        _ => Vec::new(),
    });
}

#[test]
fn no_function_grows_beyond_its_limit() {
    check(|source| {
        let mut long = Vec::new();
        for at in words(&source.code, "fn") {
            let rest = &source.code[at..];
            // A signature ends in a body or, in a trait or a type, without one.
            let Some(open) = rest.find(['{', ';']) else {
                continue;
            };
            if rest.as_bytes()[open] == b';' {
                continue;
            }
            let end = after_block(&source.code, at + open);
            let lines = line_of(&source.code, end) - line_of(&source.code, at) + 1;
            if lines > FUNCTION_LINES_MAX {
                long.push(format!("{}: a function of {lines} lines", source.place(at)));
            }
        }
        long
    });
}

#[test]
fn unsafe_stands_in_one_file_and_says_who_guarantees_it() {
    let mut seen = 0;
    check(|source| {
        // A counting allocator of a benchmark, which nothing that ships contains.
        if source.path == "benches/allocations/counting.rs" {
            return Vec::new();
        }
        let mut breaches = Vec::new();
        for at in words(&source.code, "unsafe") {
            if source.path != UNSAFE_FILE {
                breaches.push(format!(
                    "{}: unsafe outside {UNSAFE_FILE}",
                    source.place(at)
                ));
                continue;
            }
            seen += 1;
            let above = source.text[..at].lines().rev().skip(1).take(SAFETY_LINES);
            if !above
                .clone()
                .any(|line| line.trim_start().starts_with("// SAFETY:"))
            {
                breaches.push(format!(
                    "{}: unsafe without a SAFETY note",
                    source.place(at)
                ));
            }
        }
        let lifts = ["allow(unsafe_code", "expect(unsafe_code"];
        if source.path != UNSAFE_FILE && lifts.iter().any(|lift| source.code.contains(lift)) {
            breaches.push(format!("{} lifts the lint against unsafe", source.path));
        }
        breaches
    });
    assert!(seen > 0, "{UNSAFE_FILE} has moved: say so above");
}

#[test]
fn nothing_that_ships_unwraps() {
    check(|source| {
        if source.is_test() {
            return Vec::new();
        }
        let unwraps = source.shipped.match_indices(".unwrap()");
        unwraps
            .map(|(at, _)| {
                format!(
                    "{}: unwrap; say why it cannot happen with expect",
                    source.place(at)
                )
            })
            .collect()
    });
}

#[test]
fn no_test_sleeps() {
    check(|source| {
        let mut sleeps = Vec::new();
        for (at, _) in source.code.match_indices("sleep(") {
            let in_test = source.is_test() || source.shipped.as_bytes()[at] == b' ';
            let called = !source.code[..at].trim_end().ends_with("fn");
            if in_test && called {
                sleeps.push(format!("{}: a test that sleeps", source.place(at)));
            }
        }
        sleeps
    });
}

#[test]
fn libraries_do_not_print() {
    check(|source| {
        let prints = source.is_test()
            || matches!(source.room(), Some("cli" | "main"))
            || !source.path.contains("src/");
        let mut found = Vec::new();
        for macro_name in ["println!", "eprintln!", "print!", "eprint!", "dbg!"] {
            if !prints && source.shipped.contains(macro_name) {
                found.push(format!("{} calls {macro_name}; use tracing", source.path));
            }
        }
        found
    });
}

#[test]
fn every_metric_is_in_the_handbook() {
    let handbook = text_of("docs/METRICS.md");
    let mut names = 0;
    check(|source| {
        if source.room() != Some("server") || source.is_test() {
            return Vec::new();
        }
        let mut missing = Vec::new();
        for (at, _) in source.text.match_indices("\"plimsoll_") {
            let name = source.text[at + 1..].split('"').next().unwrap();
            names += 1;
            if !handbook.contains(&format!("`{name}`")) {
                missing.push(format!(
                    "{}: {name} is not in docs/METRICS.md",
                    source.place(at)
                ));
            }
        }
        missing
    });
    assert!(names > 20, "the table of metrics has moved: say so here");
}
