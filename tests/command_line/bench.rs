//! `plimsoll bench`: the figures each measurement gives, the flags it takes, and those it refuses.

use serde_json::{Value, json};

use super::dev::Dev;
use super::{json_lines, plimsoll, refused};

/// One second on a cluster of one process, without a warm-up.
fn measure(dev: &Dev, flags: &[&str]) -> Value {
    let shared = ["--seconds", "1", "--warm-up", "0", "-o", "json"];
    let report = dev.ok(&[&["bench"], flags, &shared].concat(), b"");
    serde_json::from_str(&report).unwrap()
}

#[test]
fn every_measurement_reports_figures_and_removes_its_topic() {
    let dev = Dev::start(1);
    for (verb, latency) in [
        ("produce", true),
        ("latency", true),
        ("mixed", true),
        ("consume", false),
    ] {
        let mut flags = vec![verb, "--record-bytes", "100"];
        if verb == "consume" {
            flags.extend(["--fill-bytes", "1000000"]);
        }
        let report = measure(&dev, &flags);
        let records = report["records"].as_u64().unwrap();
        assert!(records > 0, "{report}");
        assert_eq!(report["bytes"].as_u64(), Some(100 * records));
        assert_eq!(report["settings"]["load"], verb);
        assert_eq!(report["latency_ms"]["p50"].is_number(), latency, "{report}");
        let follows = report["tail_latency_ms"]["p99"].is_number();
        assert_eq!(follows, verb == "mixed", "{report}");
        for figure in ["seconds", "records_per_s", "mb_per_s"] {
            assert!(report[figure].as_f64().unwrap() > 0.0, "{report}");
        }
        for who in ["client", "nodes"] {
            assert!(
                report["cpu_s_per_gb"][who].as_f64().unwrap() > 0.0,
                "{report}"
            );
            assert!(report["rss_bytes"][who].as_u64().unwrap() > 0, "{report}");
        }
    }
    let left = dev.ok(&["topic", "list", "-o", "json"], b"");
    assert_eq!(json_lines(&left)[0]["topics"], json!([]));
}

#[test]
fn nodes_that_share_a_process_are_counted_once() {
    let dev = Dev::start(3);
    let report = measure(&dev, &["produce"]);
    let cpu = &report["cpu_s_per_gb"];
    assert_eq!(cpu["processes"][0]["nodes"], json!([1, 2, 3]), "{report}");
    assert_eq!(cpu["processes"].as_array().unwrap().len(), 1);
    assert_eq!(cpu["nodes"], cpu["processes"][0]["cpu_s_per_gb"]);
    assert_eq!(cpu["leader"], Value::Null, "{report}");
}

#[test]
fn load_is_as_the_flags_say() {
    let dev = Dev::start(1);
    let flags = "produce --producers 2 --partitions 3 --keys 5 --record-sizes exponential --compression lz4 \
        --batch-bytes 1 --linger-ms 0 --in-flight 3";
    let report = measure(&dev, &flags.split_whitespace().collect::<Vec<_>>());
    let settings = &report["settings"];
    for (name, value) in [
        ("producers", json!(2)),
        ("partitions", json!(3)),
        ("keys", json!(5)),
        ("record_sizes", json!("exponential")),
        ("compression", json!("lz4")),
        ("batch_bytes", json!(1)),
        ("linger_ms", json!(0)),
        ("in_flight", json!(3)),
        ("warm_up", json!(0)),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    let (records, bytes) = (report["records"].as_u64(), report["bytes"].as_u64());
    assert_ne!(bytes, records.map(|records| 1024 * records), "sizes vary");
}

#[test]
fn open_loop_sends_what_the_rate_says() {
    let dev = Dev::start(1);
    let report = measure(&dev, &["mixed", "--rate", "200", "--record-bytes", "8"]);
    // Those due in the window were sent, and no others; the first and the last may be acked outside of it.
    let records = report["records"].as_u64().unwrap();
    assert!((1..=201).contains(&records), "{report}");
    assert_eq!(report["settings"]["in_flight"], Value::Null);
}

#[test]
fn sweep_reports_each_rate_and_draws_them() {
    let dev = Dev::start(1);
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("latency.svg");
    let plot = plot.to_str().unwrap();
    let flags =
        format!("bench latency --rates 100,200 --plot {plot} --seconds 1 --warm-up 0 -o json");
    let reports = dev.ok(&flags.split_whitespace().collect::<Vec<_>>(), b"");
    let rates: Vec<Value> = json_lines(&reports)
        .into_iter()
        .map(|report| report["settings"]["rate"].clone())
        .collect();
    assert_eq!(rates, [json!(100), json!(200)]);
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("p99.9"), "{svg}");
}

#[test]
fn flags_that_cannot_be_are_refused() {
    for wrong in [
        "produce --seconds 0",
        "produce --record-bytes 0",
        "produce --record-bytes 1048577",
        "produce --record-sizes strange",
        "produce --in-flight 0",
        "produce --batch-bytes 8388609",
        "latency --rates 100,0",
        "latency --rates 100 --rate 5",
        "latency --rates 100 --in-flight 5",
        "latency --plot x.svg",
        "consume --rate 5",
        "consume --replica 0",
        "mixed --consumers 0",
    ] {
        let mut flags = vec!["bench"];
        flags.extend(wrong.split_whitespace());
        refused(plimsoll().args(&flags), 2);
    }
    let dev = Dev::start(1);
    for (wrong, told) in [
        ("mixed --record-bytes 7", "--record-bytes must be 8"),
        ("mixed --record-sizes uniform", "fixed"),
        (
            "latency --rates 5 --plot /nonexistent/x.svg",
            "/nonexistent",
        ),
    ] {
        let mut flags = vec!["bench"];
        flags.extend(wrong.split_whitespace());
        let said = refused(&mut dev.command(&flags), 1);
        assert!(said.contains(told), "{wrong}: {said}");
    }
    let left = dev.ok(&["topic", "list", "-o", "json"], b"");
    assert_eq!(json_lines(&left)[0]["topics"], json!([]));
}
