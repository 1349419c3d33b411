//! The test data of the crate `raft`, read from its source folder when the test runs.
//!
//! Owns where that folder is and how such a file reads. A folder or file that is missing is a failure, never a skip.

use std::path::PathBuf;
use std::process::Command;

/// One case: a command with its arguments, the lines below it, and what the other implementation answers.
#[derive(Debug)]
pub(crate) struct Case {
    /// File and line, for whoever reads a failure.
    pub(crate) place: String,
    pub(crate) command: String,
    pub(crate) arguments: Vec<(String, Vec<String>)>,
    pub(crate) input: String,
    pub(crate) expected: String,
}

impl Case {
    pub(crate) fn values(&self, key: &str) -> Option<&[String]> {
        let found = self.arguments.iter().find(|(name, _)| name == key);
        found.map(|(_, values)| values.as_slice())
    }
}

/// The source folder of the crate `raft`, as cargo resolved it.
fn crate_dir() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // Of this machine alone: crates for others need not be there.
    let about = Command::new(&cargo).arg("-vV").output();
    let about = String::from_utf8(about.expect("cargo can be run").stdout).unwrap();
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host.expect("cargo names its host")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let mut theirs = packages.iter().filter(|package| package["name"] == "raft");
    let package = theirs.next().expect("the crate raft is a dev-dependency");
    assert!(theirs.next().is_none(), "one version of it");
    let version = package["version"].as_str().unwrap();
    assert!(
        version.starts_with("0.7."),
        "written for 0.7, not {version}"
    );
    let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
    manifest.parent().unwrap().to_owned()
}

/// The files of `folder` (such as `quorum`) by name, ascending. There must be `files` of them.
pub(crate) fn read(folder: &str, files: usize) -> Vec<(String, Vec<Case>)> {
    let dir = crate_dir().join("src").join(folder).join("testdata");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{dir:?}: {error}"));
    let mut read: Vec<(String, Vec<Case>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let cases = cases(&name, &text);
            assert!(!cases.is_empty(), "{path:?} has cases");
            (name, cases)
        })
        .collect();
    read.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(read.len(), files, "files in {dir:?}");
    read
}

/// Cases are separated by blank lines: a command, its input, a line of four dashes, the answer. `#` begins a comment.
fn cases(name: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = (1..).zip(text.lines()).peekable();
    while let Some((number, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{name}:{number}");
        let (command, arguments) = head(line, &place);
        let mut input = String::new();
        loop {
            let (_, line) = lines.next().expect("a case has an answer");
            if line.trim() == "----" {
                break;
            }
            input.push_str(line);
            input.push('\n');
        }
        let mut expected = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            expected.push_str(line);
            expected.push('\n');
        }
        cases.push(Case {
            place,
            command,
            arguments,
            input,
            expected,
        });
    }
    cases
}

/// `command key=value key=(value, value)`.
fn head(line: &str, place: &str) -> (String, Vec<(String, Vec<String>)>) {
    let (command, mut rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut arguments = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return (command.to_owned(), arguments);
        }
        let (key, after) = rest
            .split_once('=')
            .unwrap_or_else(|| panic!("{place}: no value in '{rest}'"));
        let values = if let Some(list) = after.strip_prefix('(') {
            let (list, after) = list.split_once(')').expect("lists are closed");
            rest = after;
            list
        } else {
            let (value, after) = after.split_once(' ').unwrap_or((after, ""));
            rest = after;
            value
        };
        let values = values.split(',').map(|value| value.trim().to_owned());
        arguments.push((key.to_owned(), values.collect()));
    }
}

#[test]
fn case_is_read_with_its_comment_lists_input_and_answer() {
    let text = "# a comment\ncommitted cfg=(1, 2) cfgj=zero idx=(_,5)\nv1 r2\n----\n  idx\n7\n\nnext\n----\nx\n";
    let cases = cases("file", text);
    assert_eq!(cases.len(), 2);
    let case = &cases[0];
    assert_eq!(
        (case.place.as_str(), case.command.as_str()),
        ("file:2", "committed")
    );
    assert_eq!(case.values("cfg").unwrap(), ["1", "2"]);
    assert_eq!(case.values("cfgj").unwrap(), ["zero"]);
    assert_eq!(case.values("idx").unwrap(), ["_", "5"]);
    assert_eq!(case.input, "v1 r2\n");
    assert_eq!(case.expected, "  idx\n7\n");
    assert_eq!(cases[1].expected, "x\n");
}
