//! The command line as a user meets it: the real binary, a real cluster in one process, real pipes.
//!
//! What the cluster promises is tested elsewhere; here it is words, shapes, streams and exit statuses.

#![allow(clippy::unwrap_used)]

mod bench;
mod dev;
mod nodes;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use dev::{Dev, plimsoll};
use serde_json::Value;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must fail with `status`, and gives what it said.
fn refused(command: &mut Command, status: i32) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn init_makes_a_cluster_whose_keys_only_the_owner_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("sea");
    let made = plimsoll()
        .arg("init")
        .arg(&home)
        .args(["--nodes", "3", "-o", "json"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let told: Value = serde_json::from_str(&stdout(&made)).unwrap();
    assert_eq!(told["cluster"], "sea");
    for name in ["ca", "client", "node-1", "node-2", "node-3"] {
        let key = home.join(format!("{name}.key"));
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        assert!(home.join(format!("{name}.pem")).exists());
    }
    let again = refused(plimsoll().arg("init").arg(&home).args(["--nodes", "3"]), 1);
    assert!(again.contains("not empty"), "{again}");
}

#[test]
fn wrong_usage_is_status_2_and_failure_is_status_1() {
    for wrong in [
        &["frobnicate"][..],
        &["init", "x"],
        &["init", "x", "--nodes", "0"],
        &["topic", "create", "t", "--partitions", "0"],
        &["consume", "t", "--from", "yesterday"],
        &["consume", "t", "--replica", "0"],
        &["produce", "t", "--key-delimiter", ""],
    ] {
        refused(plimsoll().args(wrong), 2);
    }
    let empty = tempfile::tempdir().unwrap();
    let lost = refused(
        plimsoll().args(["topic", "list"]).current_dir(empty.path()),
        1,
    );
    assert!(
        lost.contains("--client") && lost.contains("plimsoll dev"),
        "{lost}"
    );
    let absent = refused(plimsoll().args(["serve", "/nonexistent/node-1.toml"]), 1);
    assert!(absent.contains("/nonexistent/node-1.toml"), "{absent}");
    let no_log = refused(plimsoll().args(["log", "verify"]).arg(empty.path()), 1);
    assert!(no_log.contains("no log"), "{no_log}");
}

#[test]
fn serve_refuses_settings_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("sea");
    let made = plimsoll()
        .arg("init")
        .arg(&home)
        .args(["--nodes", "1"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let config = home.join("node-1.toml");
    let said = refused(
        plimsoll()
            .arg("serve")
            .arg(&config)
            .args(["--set", "raft.hart_beat=5"]),
        1,
    );
    assert!(said.contains("hart_beat"), "{said}");
    let said = refused(
        plimsoll()
            .arg("serve")
            .arg(&config)
            .env("PLIMSOLL_RAFT_HEARTBEAT_MS", "0"),
        1,
    );
    assert!(said.contains("raft.heartbeat_ms = 0"), "{said}");
    let key = home.join("node-1.key");
    std::fs::remove_file(&key).unwrap();
    let said = refused(plimsoll().arg("serve").arg(&config), 1);
    assert!(said.contains("node-1.key"), "{said}");
}

/// A cluster with a topic of two partitions, and in the second one an odd lot of records.
fn with_odd_records() -> (Dev, String) {
    let dev = Dev::start(1);
    dev.ok(&["topic", "create", "logs", "--partitions", "2"], b"");
    let input = b"first\n\n\xff\xfe raw\nk:last without a line end";
    let keyed = ["--partition", "1", "--key-delimiter", ":", "-o", "json"];
    let acks = dev.ok(&[&["produce", "logs"][..], &keyed].concat(), input);
    (dev, acks)
}

fn json_lines(text: &str) -> Vec<Value> {
    let parsed = text.lines().map(serde_json::from_str);
    parsed.collect::<Result<_, _>>().unwrap()
}

#[test]
fn each_record_is_acked_in_order_and_comes_out_as_it_went_in() {
    let (dev, acks) = with_odd_records();
    let expected: Vec<Value> = (0..4)
        .map(|offset| serde_json::json!({ "partition": 1, "offset": offset }))
        .collect();
    assert_eq!(json_lines(&acks), expected);
    let raw = dev.run(&["consume", "logs"], b"");
    let whole = b"first\n\n\xff\xfe raw\nlast without a line end\n";
    assert_eq!(raw.stdout, whole);
    assert_eq!(dev.ok(&["consume", "logs", "--max", "1"], b""), "first\n");
    let ago = ["consume", "logs", "--from", "-1h", "--max", "1"];
    assert_eq!(dev.ok(&ago, b""), "first\n");
}

#[test]
fn json_shows_bytes_that_are_no_text_as_base64() {
    let (dev, _) = with_odd_records();
    let from_1 = ["--partition", "1", "--from", "1", "-o", "json"];
    let shown = dev.ok(&[&["consume", "logs"][..], &from_1].concat(), b"");
    let shown = json_lines(&shown);
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[0]["value"], "");
    assert_eq!(shown[0]["key"], Value::Null);
    assert_eq!(shown[1]["value_base64"], "//4gcmF3");
    assert_eq!(shown[1].get("value"), None);
    assert_eq!(shown[2]["key"], "k");
    assert_eq!(shown[2]["offset"], 3);
    assert_eq!(shown[2]["topic"], "logs");
    assert_eq!(shown[2]["partition"], 1);
    assert!(shown[2]["timestamp_ms"].is_u64());
    assert_eq!(shown[2]["headers"], serde_json::json!([]));
}

#[test]
fn places_that_are_not_there_are_refused_with_what_is() {
    let (dev, _) = with_odd_records();
    let refused = |arguments: &[&str], words: &str| {
        let output = dev.run(arguments, b"x\n");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    };
    let beyond = ["consume", "logs", "--partition", "1", "--from", "5"];
    refused(&beyond, "0 up to, not including, 4");
    refused(&["consume", "logs", "--replica", "7"], "no replica");
    refused(&["consume", "nope"], "no such topic");
    refused(&["produce", "logs", "--partition", "2"], "2 partitions");
    refused(&["topic", "create", "../etc"], "topic name");
    refused(&["topic", "create", "logs"], "exists");
    let listed = dev.ok(&["topic", "list", "-o", "json"], b"");
    assert_eq!(json_lines(&listed)[0]["topics"][0]["partitions"], 2);
}

#[test]
fn acks_come_while_the_input_is_still_open() {
    let dev = Dev::start(1);
    dev.ok(&["topic", "create", "logs"], b"");
    let mut produce = dev.command(&["produce", "logs", "-o", "json"]);
    let mut produce = produce
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = produce.stdin.take().unwrap();
    let mut acks = BufReader::new(produce.stdout.take().unwrap());
    for offset in 0..3 {
        input.write_all(b"a line\n").unwrap();
        let mut ack = String::new();
        acks.read_line(&mut ack).unwrap();
        assert_eq!(ack, format!("{{\"partition\":0,\"offset\":{offset}}}\n"));
    }
    drop(input);
    assert!(produce.wait().unwrap().success());
}

#[test]
fn reader_that_goes_away_ends_the_command_quietly() {
    let dev = Dev::start(1);
    dev.ok(&["topic", "create", "logs"], b"");
    dev.ok(
        &["produce", "logs"],
        "a line of some length\n".repeat(20_000).as_bytes(),
    );
    let mut consume = dev.command(&["consume", "logs", "--follow"]);
    let mut consume = consume
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(consume.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let ended = consume.wait_with_output().unwrap();
    assert!(ended.status.success(), "{:?}", ended.status);
    assert_eq!(stderr(&ended), "");
}

#[test]
fn cluster_stops_when_asked_and_has_everything_when_started_again() {
    let mut dev = Dev::start(3);
    dev.ok(&["topic", "create", "logs", "--partitions", "3"], b"");
    dev.ok(&["produce", "logs"], b"one\ntwo\nthree\n");
    let status: Value =
        serde_json::from_str(&dev.ok(&["cluster", "status", "-o", "json"], b"")).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(status["groups"].as_array().unwrap().len(), 4);
    assert_eq!(status["groups"][0]["topic"], Value::Null);
    assert_eq!(status["groups"][1]["replicas"].as_array().unwrap().len(), 3);

    let second = dev
        .command(&["dev", "--data"])
        .arg(dev.home())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use"), "{}", stderr(&second));

    dev.stop();
    for node in 1..=3 {
        let folder = dev.home().join(format!("node-{node}"));
        let verified = plimsoll()
            .args(["log", "verify", "-o", "json"])
            .arg(&folder)
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", stderr(&verified));
        assert!(
            stdout(&verified)
                .lines()
                .all(|line| line.contains("\"sound\":true"))
        );
    }
    let dumped = plimsoll()
        .args(["log", "dump", "-o", "json"])
        .arg(dev.home().join("node-1"))
        .output()
        .unwrap();
    let records = stdout(&dumped)
        .lines()
        .filter(|line| line.contains("\"kind\":\"records\""))
        .count();
    assert!(records > 0);

    dev.restart();
    let mut back: Vec<String> = dev
        .ok(&["consume", "logs"], b"")
        .lines()
        .map(str::to_owned)
        .collect();
    back.sort();
    assert_eq!(back, ["one", "three", "two"]);
}
