//! The mutation list: bugs that other systems had, put back one at a time, each to be caught within a number of seeds.
//!
//! Exists in builds with `--cfg plimsoll_mutations` alone. Owns the table; what a bug changes stands where the switch of its
//! name is asked. A bug that no seed catches is a hole in the checks. `PLIMSOLL_MUTATION=WORDS` hunts those with these words in
//! their name alone.

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

const BUGS: [Bug; 60] = [
    bug("a second vote in one term", "3", 20),
    bug("logs compared by index alone", "5", 200),
    bug("a refusal counts as a vote", "6", 20),
    bug("replies before the ballot is saved", "4", 200),
    bug("a ballot that is not synced", "1, 4", 20),
    bug("entries of earlier terms committed by counting", "16", 200),
    bug("half is a majority", "23", 20),
    bug("the leader counts itself before its disk", "26", 200),
    bug("followers ack before their disk", "27", 20),
    bug("a short append cuts what follows it", "18", 20),
    bug("a conflicting tail stays", "19", 200),
    bug("commit beyond what was compared", "17", 200),
    bug("heartbeats carry any commit index", "17", 200),
    bug("reads before the term's first commit", "36", 200),
    bug("reads without a round", "37", 200),
    bug("readers see what is not committed", "39", 20),
    bug("tickets outlive their leader", "35", 200),
    bug("sequences outlive a truncation", "34", 200),
    bug("sequences forgotten at a restart", "68", 20),
    bug("a log that is not synced", "57", 20),
    bug("success after a failed sync", "55", 200),
    bug("names that are not synced", "56", 20),
    bug("names whose sync failed stay", "55, 56", 200),
    bug("the page cache taken for the disk", "55, 60", 200),
    bug("a vote outlives its term", "2", 200),
    bug("votes of nodes outside count", "7", 50),
    bug("a learner campaigns", "8", 20),
    bug("a pre-vote restarts the timer", "9", 50),
    bug("stale pre-votes stay unanswered", "10", 200),
    bug("late pre-votes campaign again", "11", 50),
    bug("stale requests to campaign are obeyed", "11", 50),
    bug("votes after a failed write", "12", 200),
    bug("a restarted leader goes on in its term", "13", 200),
    bug("a node that returns campaigns at once", "15", 50),
    bug("what is trimmed is a conflict", "20", 200),
    bug("acks of earlier terms count", "21", 200),
    bug("acks of an earlier leadership count", "22", 200),
    bug("completions matched by index alone", "24", 200),
    bug("completions from before a truncation count", "24", 200),
    bug("completions in any order count", "25", 100),
    bug("refusals of empty appends are ignored", "28", 50),
    bug("numbers of requests start over", "29", 100),
    bug("a full window takes more", "30", 50),
    bug("bytes of lost proposals stay counted", "31", 100),
    bug("what did not fit counts as sent", "32", 50),
    bug("a leader serves reads before it has applied", "38", 200),
    bug("the log is trimmed past the snapshots", "48", 200),
    bug("a snapshot names one entry more than it holds", "53", 200),
    bug("commands forgotten at a restart", "69", 200),
    bug("a full disk is never tried again", "65", 200),
    bug("term and vote saved in two writes", "1", 100),
    bug(
        "the old snapshot goes before the new one is there",
        "52",
        200,
    ),
    bug("a new segment begins at an offset that is taken", "59", 50),
    bug("the durable mark goes before the sync", "60", 200),
    bug("a hole between segments is passed over", "61", 50),
    bug("an index is believed unchecked", "62", 20),
    bug("terms of what was cut stay in the footer", "63", 200),
    bug("rot is taken for an unfinished write", "64", 50),
    bug("what lies behind the tail is read", "66", 20),
    bug("no bug at all", "", 0),
];

/// Runs seeds with a bug in the code: after how many it was caught, and by what.
fn hunt(bug: &Bug) -> Option<(u64, String)> {
    plimsoll::mutation::put_back(bug.name);
    segment_store::mutation::put_back(bug.name);
    for seed in 0..bug.seeds_max.max(5) {
        let run = || Run::new(seed).quiet().go();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            return Some((seed + 1, text.unwrap_or_default()));
        }
    }
    None
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
                    if caught.is_some() != (bug.seeds_max > 0) {
                        missed.lock().unwrap().push(bug.name);
                    }
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not as the table says: {missed:?}");
}
