//! Whether the nodes hold the same frames: what `plimsoll log dump` prints of each group, side by side.
//!
//! A header's CRC covers index, term, offsets, counts and the payload's CRC, and `plimsoll log verify` has checked every CRC
//! against the bytes; equal lines therefore mean equal frames.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cluster::plimsoll;

/// Asserts that the stopped nodes whose data is in `folders` hold the same groups, and of each group the same frames as far as the
/// shorter log goes. Call it when every replica has been seen to have everything that is committed.
pub(crate) fn assert_identical(folders: &[PathBuf]) {
    let (first, others) = folders.split_first().expect("there are nodes");
    let groups = groups_of(first);
    assert!(groups.len() > 1, "only the controller's group: {groups:?}");
    for group in &groups {
        let expected = dump(first, group);
        assert!(!expected.is_empty(), "group {group} is empty");
        for other in others {
            assert_eq!(groups, groups_of(other), "groups of {}", other.display());
            let found = dump(other, group);
            for (here, there) in expected.iter().zip(&found) {
                assert_eq!(
                    here,
                    there,
                    "group {group}, {} against {}",
                    first.display(),
                    other.display()
                );
            }
            // Only no-ops of the last elections may be on one node and not on another.
            let longer = if found.len() > expected.len() {
                &found
            } else {
                &expected
            };
            for line in &longer[found.len().min(expected.len())..] {
                assert_eq!(line["record_count"], 0, "records on one node only: {line}");
            }
        }
    }
}

fn groups_of(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder.join("groups"))
        .expect("a node has a folder of groups")
        .map(|entry| {
            entry
                .expect("it can be listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

fn dump(folder: &Path, group: &str) -> Vec<serde_json::Value> {
    let done = plimsoll()
        .args(["log", "dump", "-o", "json"])
        .arg(folder.join("groups").join(group))
        .output()
        .expect("plimsoll log dump runs");
    assert!(
        done.status.success(),
        "plimsoll log dump: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout)
        .expect("JSON is text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is an object"))
        .collect()
}
