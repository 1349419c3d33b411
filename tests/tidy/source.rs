//! The sources as the checks see them: comments and literals blanked, test code told from what ships.
//!
//! A rough reader of Rust, exact enough for counting braces and words; line and column of what remains are kept.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders of the workspace that hold Rust.
const FOLDERS: [&str; 8] = [
    "src",
    "tests",
    "benches",
    "examples",
    "segment-store/src",
    "segment-store/tests",
    "transport/src",
    "transport/tests",
];

/// One file of Rust.
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// Comments and the insides of literals are blanks.
    pub(crate) code: String,
    /// `code` without inline modules and items under `#[cfg(test)]`.
    pub(crate) shipped: String,
}

impl Source {
    fn read(path: String, text: String) -> Source {
        let code = blank_comments_and_literals(&text);
        let shipped = blank_test_items(&code);
        Source {
            path,
            text,
            code,
            shipped,
        }
    }

    /// Whether the whole file is test code: an integration test, or a module that `#[cfg(test)]` stands before.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| {
            matches!(part, "tests" | "tests.rs" | "testing.rs") || part.ends_with("_tests.rs")
        })
    }

    /// The room of the root package the file belongs to, if any.
    pub(crate) fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let room = rest.split('/').next()?;
        Some(room.strip_suffix(".rs").unwrap_or(room))
    }

    /// `path:line` of a byte of the text, for a message.
    pub(crate) fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, line_of(&self.text, at))
    }
}

/// Every Rust file of the workspace, sorted by path.
pub(crate) fn all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let text = fs::read_to_string(&path).unwrap();
        Source::read(name, text)
    };
    let sources: Vec<Source> = paths.into_iter().map(read).collect();
    assert!(
        sources.len() > 50,
        "the checks must not pass for want of files"
    );
    sources
}

/// Text of a file of the workspace.
pub(crate) fn text_of(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Number of the line, from 1, that holds byte `at`.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

/// Places where `word` stands in `code` as a word of its own.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let bytes = code.as_bytes();
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            !part_of_word(before) && !part_of_word(bytes.get(at + word.len()))
        })
}

/// The place after the brace that closes the one at `open`.
pub(crate) fn after_block(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = at + length_of_comment_or_literal(rest, at > 0 && is_word(bytes[at - 1]));
        if end == at {
            at += 1;
        } else {
            blank(&mut code[at..end]);
            at = end;
        }
    }
    String::from_utf8(code).expect("whole characters are blanked")
}

/// How many bytes of `rest` are one comment or literal that starts there; 0 if none does.
fn length_of_comment_or_literal(rest: &[u8], inside_word: bool) -> usize {
    match rest {
        [b'/', b'/', ..] => rest
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(rest.len()),
        [b'/', b'*', ..] => length_of_block_comment(rest),
        [b'"', ..] => length_of_string(rest),
        [b'r', b'"' | b'#', ..] if !inside_word => length_of_raw_string(rest),
        [b'b', b'r', b'"' | b'#', ..] if !inside_word => match length_of_raw_string(&rest[1..]) {
            0 => 0,
            length => 1 + length,
        },
        // A character, not a lifetime: 'x' or an escape.
        [b'\'', b'\\', ..] => {
            3 + rest[3..]
                .iter()
                .position(|byte| *byte == b'\'')
                .map_or(0, |end| end + 1)
        }
        [b'\'', ..] => {
            let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
            let text = text.unwrap_or_else(|error| {
                std::str::from_utf8(&rest[1..1 + error.valid_up_to()]).expect("valid up to there")
            });
            match text.chars().next() {
                Some(character) if text[character.len_utf8()..].starts_with('\'') => {
                    character.len_utf8() + 2
                }
                _ => 0,
            }
        }
        _ => 0,
    }
}

fn length_of_block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn length_of_string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn length_of_raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = &rest[hashes + 2..];
    let length = body.windows(end.len()).position(|window| window == end);
    hashes + 2 + length.map_or(body.len(), |length| length + end.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Blanks what stands under `#[cfg(test)]`: an item with a block, or one that a semicolon ends.
fn blank_test_items(code: &str) -> String {
    let mut shipped = code.as_bytes().to_vec();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let rest = &code[at..];
        let ends_at = rest.find([';', '{']).unwrap_or(rest.len());
        let end = match rest.as_bytes().get(ends_at) {
            Some(b'{') => after_block(code, at + ends_at),
            _ => (at + ends_at + 1).min(code.len()),
        };
        blank(&mut shipped[at..end]);
    }
    String::from_utf8(shipped).expect("whole characters are blanked")
}

#[test]
fn comments_and_literals_are_blanked_and_places_kept() {
    let text = "a('{', \"x\\\"}\", r#\"{\"#, b'\\'', 'b, 'é') // {\n/* { /* */ } */ c<'a>(b\"{\")";
    let code = blank_comments_and_literals(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(line_of(&code, code.find('c').unwrap()), 2);
    assert_eq!(
        code.split_whitespace().collect::<String>(),
        "a(,,,b,'b,)c<'a>(b)"
    );
}

#[test]
fn items_for_tests_are_no_part_of_what_ships() {
    let source = Source::read(
        "src/raft/x.rs".to_owned(),
        "use a;\n#[cfg(test)]\nmod tests { fn b() {} }\n#[cfg(test)]\nuse c;\nfn d() {}".to_owned(),
    );
    assert_eq!(
        source
            .shipped
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        "use a; fn d() {}"
    );
    assert_eq!(source.room(), Some("raft"));
}
