//! Who may know whom. Owns the table of the rooms, and the reader of paths that holds each file against it.

use crate::source::{Source, words};

/// What one room of the root package may name.
pub(crate) struct Wall {
    /// The room: a folder or file of `src`.
    pub(crate) room: &'static str,
    /// Other rooms.
    rooms: &'static [&'static str],
    /// Items of the crate `segment_store`; `*` for all.
    segment_store: &'static [&'static str],
    /// Items of the crate `transport`; `*` for all.
    transport: &'static [&'static str],
    /// Paths that must not appear at all.
    banned: &'static [&'static str],
}

/// The frame as it lies on disk and wire: all that `wire` and `client` may know of the store.
const FRAME: &[&str] = &[
    "codec",
    "format",
    "frame",
    "kind",
    "Frame",
    "FrameError",
    "FrameHeader",
    "UnstampedFrame",
    "UnstampedRun",
    "FRAME_ALIGN",
    "HEADER_LEN",
];

/// What a pure room must do without: no clock, no threads, no IO.
const PURE: &[&str] = &[
    "tokio",
    "quinn",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time",
    "rustix",
];

/// The house, from the inside out.
pub(crate) const WALLS: &[Wall] = &[
    Wall {
        room: "raft",
        rooms: &[],
        segment_store: &[],
        transport: &[],
        banned: &[
            "bytes",
            "metrics",
            "quinn",
            "rkyv",
            "rustix",
            "std::fs",
            "std::io",
            "std::net",
            "std::process",
            "std::sync",
            "std::thread",
            "std::time",
            "tokio",
            "tracing",
        ],
    },
    Wall {
        room: "config",
        rooms: &[],
        segment_store: &[],
        transport: &[],
        banned: &["tokio"],
    },
    Wall {
        room: "wire",
        rooms: &["raft"],
        segment_store: FRAME,
        transport: &[],
        banned: PURE,
    },
    Wall {
        room: "replica",
        rooms: &["raft", "wire"],
        segment_store: &["*"],
        transport: &[],
        banned: &["quinn", "rustix", "std::fs", "std::net"],
    },
    Wall {
        room: "controller",
        rooms: &["raft", "replica", "wire"],
        segment_store: &[],
        transport: &[],
        banned: &["quinn", "rustix", "std::fs", "std::net", "std::time"],
    },
    Wall {
        room: "server",
        rooms: &["config", "controller", "raft", "replica", "wire"],
        segment_store: &["*"],
        transport: &["*"],
        banned: &["quinn"],
    },
    Wall {
        room: "client",
        rooms: &["config", "wire"],
        segment_store: FRAME,
        transport: &["*"],
        banned: &["quinn"],
    },
    Wall {
        room: "cli",
        rooms: &["client", "config", "server", "wire"],
        segment_store: &["*"],
        transport: &["pki"],
        banned: &["quinn"],
    },
];

/// Files of the replica that are pure besides `raft`: the simulator drives them with its own clock.
pub(crate) const PURE_FILES: &[&str] = &[
    "src/replica/pending.rs",
    "src/replica/producers.rs",
    "src/replica/replica.rs",
];

/// What `source` names though its room may not, one message each.
pub(crate) fn breaches(source: &Source, wall: &Wall) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut tell = |at: usize, what: &str| {
        breaches.push(format!("{}: {} names {what}", source.place(at), wall.room));
    };
    for root in ["crate", "plimsoll"] {
        for (at, path) in paths(&source.shipped, root) {
            let Some(room) = path.first() else { continue };
            let known = room == wall.room || wall.rooms.contains(&room.as_str());
            if !known && WALLS.iter().any(|other| other.room == room) {
                tell(at, &format!("the room {room}"));
            }
        }
    }
    for (root, allowed) in [
        ("segment_store", wall.segment_store),
        ("transport", wall.transport),
    ] {
        for (at, path) in paths(&source.shipped, root) {
            let item = path.first().map_or("*", String::as_str);
            if !allowed.contains(&"*") && !allowed.contains(&item) {
                tell(at, &format!("{root}::{item}"));
            }
        }
    }
    for at in ways_out(source) {
        tell(at, "the crate's root by `super`: write `crate::`");
    }
    breaches.extend(impurities(source, wall.banned));
    breaches
}

/// Where `source` names one of the `banned` paths.
pub(crate) fn impurities(source: &Source, banned: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for ban in banned {
        let (root, rest) = ban.split_once("::").unwrap_or((ban, ""));
        for (at, path) in paths(&source.shipped, root) {
            if rest.is_empty() || path.first().is_some_and(|first| first == rest) {
                found.push(format!("{} names {ban}", source.place(at)));
            }
        }
    }
    found
}

/// Places of `super::super::…` chains that leave the room.
fn ways_out(source: &Source) -> Vec<usize> {
    let inner = source
        .path
        .trim_start_matches("src/")
        .trim_end_matches(".rs");
    let depth = inner.trim_end_matches("/mod").split('/').count();
    let chain = "super::".repeat(depth);
    source
        .shipped
        .match_indices(&chain)
        .map(|(at, _)| at)
        .collect()
}

/// Every path in `code` that starts with `root::`, groups of a `use` expanded: place and the segments after the root.
pub(crate) fn paths(code: &str, root: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for at in words(code, root) {
        let before = code[..at].trim_end();
        let after = &code[at + root.len()..];
        // `a::root::b` is a path of `a`, and `::root` is the root all the same.
        let inner = before.ends_with("::")
            && before
                .trim_end_matches("::")
                .ends_with(|last: char| last.is_alphanumeric() || last == '_' || last == '>');
        if inner || !after.starts_with("::") {
            continue;
        }
        let mut tree = Tree { rest: &after[2..] };
        for path in tree.read() {
            found.push((at, path));
        }
    }
    found
}

/// A reader of what follows `root::`.
struct Tree<'a> {
    rest: &'a str,
}

impl Tree<'_> {
    fn read(&mut self) -> Vec<Vec<String>> {
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            return self.read_group();
        }
        let end = self
            .rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let (segment, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let segment = segment.to_owned();
        self.rest = rest;
        if segment.is_empty() {
            return vec![Vec::new()];
        }
        let Some(rest) = self.rest.strip_prefix("::") else {
            return vec![vec![segment]];
        };
        self.rest = rest;
        let tails = self.read().into_iter();
        tails
            .map(|tail| [vec![segment.clone()], tail].concat())
            .collect()
    }

    fn read_group(&mut self) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() || self.rest.starts_with('}') {
                self.rest = self.rest.get(1..).unwrap_or("");
                return all;
            }
            all.extend(self.read());
            // Past a glob, a new name, or the comma.
            let end = self.rest.find([',', '}']).unwrap_or(self.rest.len());
            self.rest = self.rest[end..].trim_start_matches(',');
        }
    }
}

#[test]
fn groups_of_a_use_are_expanded_and_inner_segments_are_no_roots() {
    let code =
        "use crate::{a::{B, C as D}, e::*}; fn f(x: crate::g::H<i::crate::J>) { crate::k() }";
    let found: Vec<String> = paths(code, "crate")
        .into_iter()
        .map(|(_, path)| path.join("::"))
        .collect();
    assert_eq!(found, ["a::B", "a::C", "e", "g::H", "k"]);
}
