//! Nodes that are added and removed from the command line: what is printed, where, and how a command ends.

use serde_json::Value;

use crate::dev::Dev;
use crate::{stderr, stdout};

#[test]
fn a_node_is_added_and_removed_with_its_steps_told_and_ends_by_itself() {
    let dev = Dev::start(3);
    dev.ok(&["topic", "create", "logs", "--partitions", "8"], b"");
    dev.ok(&["produce", "logs"], b"one\ntwo\nthree\n");
    let (node, address, mut served) = dev.another_node();
    assert_eq!(node, 4);
    let add = ["cluster", "add-node", "4", "--address", &address];
    let told = dev.ok(&[&add[..], &["-o", "json"]].concat(), b"");
    let steps: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps[0]["step"], "added");
    assert_eq!(steps.last().unwrap()["step"], "done");
    let status = dev.ok(&["cluster", "status", "-o", "json"], b"");
    let status: Value = serde_json::from_str(&status).unwrap();
    let held = status["groups"].as_array().unwrap().iter().skip(1);
    let held = held.filter(|group| {
        let shall = group["shall"].as_array().unwrap();
        assert_eq!(group["settled"], true);
        shall.contains(&Value::from(4))
    });
    assert_eq!(held.count(), 6, "its share of 24 replicas");
    // The same again, and as lines for people.
    let again = dev.ok(&add, b"");
    assert!(
        again.ends_with("node 4 has joined and has its share\n"),
        "{again}"
    );
    let removed = dev.ok(&["cluster", "remove-node", "4"], b"");
    assert!(removed.contains("node 4 is removed"), "{removed}");
    let ended = served.0.wait().unwrap();
    assert!(ended.success(), "{ended:?}");
    let mut back: Vec<String> = dev
        .ok(&["consume", "logs"], b"")
        .lines()
        .map(str::to_owned)
        .collect();
    back.sort();
    assert_eq!(back, ["one", "three", "two"]);
}

#[test]
fn changes_that_cannot_be_end_with_status_1_and_say_why() {
    let dev = Dev::start(1);
    dev.ok(&["topic", "create", "logs"], b"");
    for (arguments, why) in [
        (&["add-node", "1", "--address", "host:1"][..], "already"),
        (&["add-node", "2", "--address", "nowhere"], "host:port"),
        (&["remove-node", "1"], "last node"),
        (&["remove-node", "9"], "no node 9"),
        (
            &["replace-node", "1", "1", "--address", "host:1"],
            "own place",
        ),
        (&["transfer-leader", "logs/0", "9"], "holds no replica"),
        (&["transfer-leader", "logs", "1"], "TOPIC/PARTITION"),
        (&["transfer-leader", "77", "1"], "no group 77"),
    ] {
        let refused = dev.run(&[&["cluster"], arguments].concat(), b"");
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
        assert_eq!(stdout(&refused), "");
    }
    let wrong = dev.run(&["cluster", "add-node", "two"], b"");
    assert_eq!(wrong.status.code(), Some(2));
}
