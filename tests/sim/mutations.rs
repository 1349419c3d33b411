//! The mutation list: bugs that other systems had, put back one at a time, each to be caught within a number of seeds.
//!
//! Exists in builds with `--cfg plimsoll_mutations` alone. Owns the table of those that the simulator finds; what a bug changes stands
//! where the switch of its name is asked. Others are caught by one test each: see the modules of this name. `PLIMSOLL_MUTATION=WORDS`
//! hunts those with these words in their name alone, `PLIMSOLL_MUTATION_SEEDS=N` in N seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use simulator::Run;

/// A bug, and where it was real (numbers of the project's list of seventy).
struct Bug {
    name: &'static str,
    real: &'static str,
    /// Seeds that may pass before it is caught.
    seeds_max: u64,
}

const fn bug(name: &'static str, real: &'static str, seeds_max: u64) -> Bug {
    Bug {
        name,
        real,
        seeds_max,
    }
}

const BUGS: &[Bug] = &[
    bug("term and vote saved in two writes", "1", 600),
    bug("a vote outlives its term", "2", 20),
    bug("a second vote in one term", "3", 50),
    bug("replies before the ballot is saved", "4", 20),
    bug("a ballot that is not synced", "4", 20),
    bug("logs compared by index alone", "5", 400),
    bug("a refusal counts as a vote", "6", 50),
    bug("votes of nodes outside count", "7", 400),
    bug("a learner campaigns", "8", 50),
    bug("votes after a failed write", "12", 600),
    bug("a restarted leader goes on in its term", "13", 100),
    bug("entries of earlier terms committed by counting", "16", 50),
    bug("commit beyond what was compared", "17", 100),
    bug("heartbeats carry any commit index", "17", 200),
    bug("a short append cuts what follows it", "18", 50),
    bug("a conflicting tail stays", "19", 50),
    bug("half is a majority", "23", 20),
    bug("the leader counts itself before its disk", "26", 20),
    bug("followers ack before their disk", "27", 20),
    bug("refusals of empty appends are ignored", "28", 20),
    bug("a full window takes more", "30", 100),
    bug("an append names no entry before it", "33", 20),
    bug("sequences outlive a truncation", "34", 50),
    bug("tickets outlive their leader", "35", 50),
    bug("reads before the term's first commit", "36", 100),
    bug("reads without a round", "37", 50),
    bug("a leader serves reads before it has applied", "38", 100),
    bug("readers see what is not committed", "39", 20),
    bug("voters change without a joint membership", "40", 4_000),
    bug("a membership counts once it is committed", "41", 400),
    bug("a truncated membership stays in force", "43", 400),
    bug(
        "a joint membership of an earlier term is never left",
        "44",
        400,
    ),
    bug("a leader outside the voters is counted", "45", 400),
    bug("a candidate counts by what is committed", "47", 400),
    bug("the log is trimmed past the snapshots", "48", 100),
    bug("a snapshot names one entry more than it holds", "53", 50),
    bug("the page cache taken for the disk", "55", 200),
    bug("names that are not synced", "56", 50),
    bug("names whose sync failed stay", "56", 4_000),
    bug("a log that is not synced", "57", 50),
    bug("a new segment begins at an offset that is taken", "59", 20),
    bug("the durable mark goes before the sync", "60", 200),
    bug("a full disk is never tried again", "65", 200),
    bug("what lies behind the tail is read", "66", 20),
    bug("sequences forgotten at a restart", "68", 50),
    bug("commands forgotten at a restart", "69", 400),
    bug("a group rests without a member that is behind", "", 400),
    bug("a leader at rest sleeps through a proposal", "", 400),
];

/// Runs `seed` with `bug` in the code: by what it fails, if it does.
fn fails(bug: &'static str, seed: u64) -> Option<String> {
    plimsoll::mutation::put_back(bug);
    segment_store::mutation::put_back(bug);
    let run = || Run::new(seed).quiet().go();
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(text.unwrap_or_default())
}

/// Runs seeds with a bug in the code: after how many it was caught, and by what. A seed that fails without it proves nothing.
fn hunt(bug: &Bug) -> Option<(u64, String)> {
    let more = std::env::var("PLIMSOLL_MUTATION_SEEDS").ok();
    let more = more.map(|seeds| seeds.parse().expect("PLIMSOLL_MUTATION_SEEDS is a number"));
    (0..more.unwrap_or(bug.seeds_max)).find_map(|seed| {
        let what = fails(bug.name, seed)?;
        let healthy = fails("", seed).is_none();
        healthy.then_some((seed + 1, what))
    })
}

#[test]
fn every_bug_put_back_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    let wanted = std::env::var("PLIMSOLL_MUTATION").unwrap_or_default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(bug) = BUGS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !bug.name.contains(&wanted) {
                        continue;
                    }
                    let caught = hunt(bug);
                    match &caught {
                        Some((seeds, what)) => {
                            let what = what.lines().next().unwrap_or_default();
                            eprintln!("| {} | {} | {seeds} | {what:.140} |", bug.name, bug.real);
                        }
                        None => eprintln!("| {} | {} | never | |", bug.name, bug.real),
                    }
                    if caught.is_none() {
                        missed.lock().unwrap().push(bug.name);
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
