//! Every decoder against mutated good bytes, on the installed toolchain: flipped bits, cuts, splices, impossible lengths.
//!
//! The decoders and the corpus are those of the fuzzer (`fuzz/`); here they run as many inputs as fit into seconds, from a seed that
//! a failure prints. Whatever a decoder believes of a length shows as memory: the whole process may only grow so far.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
#![allow(missing_docs)]

#[path = "../../fuzz/corpus.rs"]
mod corpus;
#[path = "../../fuzz/targets.rs"]
mod targets;

use fastrand::Rng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use targets::{TARGETS, Target};

/// Inputs per decoder; those that open a log or a disk get a tenth.
const INPUTS: u64 = 60_000;
/// The process may grow by so much: a hundred times what any corpus needs.
const GROWTH_BYTES_MAX: u64 = 1 << 30;

fn inputs_of(name: &str) -> u64 {
    let slow = ["segment", "footer", "ballot", "snapshot"].contains(&name);
    let all = std::env::var("PLIMSOLL_FUZZ_INPUTS");
    let all = all.map_or(INPUTS, |all| {
        all.parse().expect("PLIMSOLL_FUZZ_INPUTS is a number")
    });
    if slow { (all / 10).max(1) } else { all }
}

/// Lengths that a careless decoder would believe.
const BOMBS: [u64; 6] = [
    u64::MAX,
    u32::MAX as u64,
    i64::MAX as u64,
    i32::MAX as u64,
    1 << 30,
    0,
];

/// Changes `bytes` a little, or a lot.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..rng.u32(1..=4) {
        let len = bytes.len();
        if len == 0 {
            bytes.push(rng.u8(..));
            continue;
        }
        let at = rng.usize(0..len);
        match rng.u8(0..8) {
            0 | 1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => bytes[at] = rng.u8(..),
            3 => bytes.truncate(at),
            4 | 5 => {
                let bomb = rng.choice(BOMBS).unwrap().wrapping_sub(rng.u64(0..4));
                let width = [2, 4, 8][rng.usize(0..3)].min(len - at);
                bytes[at..at + width].copy_from_slice(&bomb.to_le_bytes()[..width]);
            }
            6 => {
                let other = rng.choice(others).unwrap();
                let from = rng.usize(0..=other.len());
                let to = rng.usize(from..=other.len());
                bytes.splice(at..at, other[from..to].iter().copied().take(4096));
            }
            _ => {
                let to = rng.usize(at..=len);
                bytes.drain(at..to);
            }
        }
    }
}

/// Runs `count` mutations of the corpus. Returns how many were still good.
fn run(name: &str, target: Target, count: u64) -> u64 {
    let corpus = corpus::of(name);
    let mut good = 0;
    for seed in 0..count {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = rng.choice(&corpus).unwrap().clone();
        mutate(&mut rng, &mut bytes, &corpus);
        let answer = std::panic::catch_unwind(|| target(&bytes)).unwrap_or_else(|panic| {
            eprintln!(
                "target {name} fails with seed {seed}, {} bytes: {bytes:02x?}",
                bytes.len()
            );
            std::panic::resume_unwind(panic);
        });
        good += u64::from(answer);
    }
    good
}

#[test]
fn corpus_is_good() {
    for (name, target) in TARGETS {
        for (at, bytes) in corpus::of(name).iter().enumerate() {
            assert!(target(bytes), "input {at} of {name} is good");
        }
    }
}

/// Cuts at every length of a short input, at many of a long one.
#[test]
fn no_beginning_of_good_bytes_harms_a_decoder() {
    for (name, target) in TARGETS {
        for bytes in corpus::of(name) {
            let step = (bytes.len() / 256).max(1);
            for len in (0..bytes.len()).step_by(step) {
                target(&bytes[..len]);
            }
        }
    }
}

#[test]
fn no_mutation_of_good_bytes_harms_a_decoder_or_takes_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib: u64 = size
        .unwrap()
        .trim()
        .strip_suffix(" kB")
        .unwrap()
        .parse()
        .unwrap();
    let now = kib * 1024;
    let before = getrlimit(Resource::As);
    let limited = Rlimit {
        current: Some(now + GROWTH_BYTES_MAX),
        ..before
    };
    setrlimit(Resource::As, limited).unwrap();
    for (name, target) in TARGETS {
        let count = inputs_of(name);
        let good = run(name, target, count);
        println!("{name}: {count} inputs, {good} still good");
        assert!(good < count, "some mutation of {name} must be noticed");
    }
    setrlimit(Resource::As, before).unwrap();
}

/// For the fuzzer: `PLIMSOLL_FUZZ_CORPUS=DIR` gets the corpus, a folder per target.
#[test]
fn corpus_is_written_where_it_is_asked_for() {
    let asked = std::env::var_os("PLIMSOLL_FUZZ_CORPUS").map(std::path::PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let dir = asked.unwrap_or_else(|| temporary.path().to_owned());
    for (name, _) in TARGETS {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (at, bytes) in corpus::of(name).iter().enumerate() {
            std::fs::write(folder.join(format!("good-{at}")), bytes).unwrap();
        }
    }
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), TARGETS.len());
}
