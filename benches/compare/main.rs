//! Plimsoll and its peers, side by side: the same work on three nodes each, on the loopback device of one machine.
//!
//! One command gets the peers from the package registries, starts them in turn, puts every work on each, round by round so that what disturbs the
//! machine for a while disturbs all alike, and tells medians and ratios. Nothing is installed on the machine: what is fetched and built lies beside
//! the build. `cargo bench --bench compare` does all of it; `-- --help` tells the rest.

#![allow(missing_docs)]

mod figures;
mod install;
mod peers;
mod process;
mod table;
mod work;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;

use figures::Results;
use install::Cache;
use peers::{Site, System};
use work::Work;

/// Ports between the first of one system and the next: what one leaves behind is out of the next one's way.
const PORTS_EACH: u16 = 100;

/// Plimsoll and its peers, side by side
#[derive(Parser)]
struct Args {
    /// Systems to measure, with commas between them; all if not given
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    peers: Vec<String>,
    /// Works to measure, with commas between them; all if not given
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    work: Vec<String>,
    /// Rounds; figures are added to those of earlier calls, and medians are told
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=99))]
    rounds: u32,
    /// Seconds of each measurement, after one second to warm up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Forget the figures of earlier calls
    #[arg(long)]
    fresh: bool,
    /// Rewrite the tables in docs/PERFORMANCE.md
    #[arg(long)]
    write: bool,
    /// List the systems and the works, and do nothing
    #[arg(long)]
    list: bool,
    /// First port to listen on; each system has 100
    #[arg(long, value_name = "P", default_value_t = 23_000, value_parser = clap::value_parser!(u16).range(1024..=60_000))]
    port_base: u16,
    /// Where peers are built and data is written; beside the build if not given
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Given by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match compare(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("compare: {why}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let systems = peers::all();
    if args.list {
        list(&systems);
        return Ok(());
    }
    let system_names: Vec<&str> = systems.iter().map(|system| system.name()).collect();
    let chosen = choose(&args.peers, &system_names, "system")?;
    let work_names = work::ALL.map(|work| work.name);
    let works = choose(&args.work, &work_names, "work")?;
    let dir = args.cache.clone().unwrap_or_else(beside_the_build);
    let cache = Cache::open(&dir)?;
    let mut results = Results::open(cache.path("results.json"), args.fresh)?;
    let installed = install(&systems, &chosen, &cache, &mut results);
    for round in 1..=args.rounds {
        for (number, system) in systems.iter().enumerate() {
            if !installed.contains(system.name()) {
                continue;
            }
            eprintln!("round {round} of {}: {}", args.rounds, system.title());
            let site = Site {
                dir: cache.path("data"),
                port_base: args.port_base + PORTS_EACH * number as u16,
            };
            measure(
                system.as_ref(),
                &works,
                &cache,
                site,
                args.seconds,
                &mut results,
            )?;
        }
    }
    results.save()?;
    // Where the peers lie on this machine is nobody else's business.
    let here = cache.path("").display().to_string();
    let tables = table::tables(&systems, &results).replace(&here, "");
    println!("{tables}");
    if args.write {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PERFORMANCE.md");
        table::write(&file, &format!("{}\n{tables}", sitting(&results)))?;
    }
    Ok(())
}

/// The names asked for, or all of them.
fn choose(
    asked: &[String],
    known: &[&'static str],
    what: &str,
) -> Result<BTreeSet<&'static str>, String> {
    if asked.is_empty() {
        return Ok(known.iter().copied().collect());
    }
    let find = |name: &String| {
        let found = known.iter().copied().find(|known| known == name);
        found.ok_or_else(|| {
            format!(
                "there is no {what} {name:?}; there are: {}",
                known.join(", ")
            )
        })
    };
    asked.iter().map(find).collect()
}

fn list(systems: &[Box<dyn System>]) {
    for system in systems {
        println!("{:16} {}", system.name(), system.title());
    }
    println!();
    for work in &work::ALL {
        println!("{:16} {}", work.name, work.title);
    }
}

/// In the folder of this build, which is ignored by version control and removed by `cargo clean`.
fn beside_the_build() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_plimsoll"));
    let target = program.ancestors().nth(2).unwrap_or(Path::new("target"));
    target.join("compare")
}

/// Those that can be run. The others are noted with the reason, and the rest goes on without them.
fn install(
    systems: &[Box<dyn System>],
    chosen: &BTreeSet<&'static str>,
    cache: &Cache,
    results: &mut Results,
) -> BTreeSet<&'static str> {
    let mut installed = BTreeSet::new();
    for system in systems {
        if !chosen.contains(system.name()) {
            continue;
        }
        match system.install(cache) {
            Ok(()) => {
                results.missing.remove(system.name());
                installed.insert(system.name());
            }
            Err(why) => {
                eprintln!("{} is not installed: {why}", system.title());
                let why = format!("not installed: {why}");
                results.missing.insert(system.name().to_owned(), why);
            }
        }
    }
    installed
}

/// Runs the works on a cluster of three nodes, which is gone afterwards with all its data.
fn measure(
    system: &dyn System,
    works: &BTreeSet<&'static str>,
    cache: &Cache,
    site: Site,
    seconds: u64,
    results: &mut Results,
) -> Result<(), String> {
    let data = site.dir.clone();
    let name = system.name();
    let possible = |work: &&Work| works.contains(work.name) && system.lacks(work.kind).is_none();
    let mut cluster = match make_empty(&data).and_then(|()| system.start(cache, site)) {
        Ok(cluster) => cluster,
        Err(why) => {
            eprintln!("  did not start: {why}");
            let why = format!("did not start: {why}");
            results.missing.insert(name.to_owned(), why);
            return results.save();
        }
    };
    for work in work::ALL.iter().filter(possible) {
        match cluster.measure(work, seconds) {
            Ok(figures) => {
                eprintln!("  {:10} {}", work.name, told(&figures));
                results.add(name, work.name, seconds, figures);
            }
            Err(why) => {
                eprintln!("  {:10} failed: {why}", work.name);
                results.failed(name, work.name, &why);
            }
        }
        // Now, not at the end: a call may be cut short, and what it has measured counts.
        results.save()?;
    }
    drop(cluster);
    // Left to the next call, which empties it, should it not go now.
    let _ = fs::remove_dir_all(&data);
    Ok(())
}

fn make_empty(dir: &Path) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(told)?;
    }
    fs::create_dir_all(dir).map_err(told)
}

fn told(figures: &figures::Figures) -> String {
    let rate = format!(
        "{:>10.0} records/s {:>8.1} MB/s",
        figures.records_per_s, figures.mb_per_s
    );
    match &figures.latency_ms {
        Some(latency) => format!(
            "{rate}   p50 {:.3} ms  p99 {:.3} ms",
            latency.p50, latency.p99
        ),
        None => rate,
    }
}

/// What stands above the tables: the machine, the day, the commit.
fn sitting(results: &Results) -> String {
    let say = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        let log = std::env::temp_dir().join(format!("compare-{}.log", std::process::id()));
        let said = process::run(&command, Duration::from_secs(10), &log);
        let _ = fs::remove_file(log);
        said.unwrap_or_default().trim().to_owned()
    };
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (first, last) = results.span().unwrap_or_default();
    let day = say(
        "date",
        &["-u", "-d", &format!("@{first}"), "+%Y-%m-%d %H:%M"],
    );
    let until = say("date", &["-u", "-d", &format!("@{last}"), "+%H:%M UTC"]);
    let kernel = say("uname", &["-sr"]);
    // What a distributor adds to the version tells nothing.
    let kernel = kernel.split('-').next().unwrap_or_default();
    let commit = say("git", &["rev-parse", "--short", "HEAD"]);
    let seconds = results.seconds().unwrap_or_default();
    format!(
        "{cores} cores ({model}), {kernel}, {day} to {until}, Plimsoll at {commit}; {seconds} s for each measurement after {} s to warm up; medians (least-greatest) of the rounds told.\n",
        work::WARM_UP_SECONDS
    )
}
