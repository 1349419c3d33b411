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

const BUGS: [Bug; 25] = [
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
