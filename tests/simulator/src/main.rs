//! The simulator as a program: seeds in, a summary out, or the first promise that is broken.
//!
//! Owns the command line. Exit status 0: every promise was kept; 1: one was not, or the batch was too quiet; 2: usage.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{ArgGroup, Parser, ValueEnum};
use simulator::record::{Recorded, Recorder};
use simulator::{Batch, Mode, Run, Summary, print_last};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);

/// Runs whole clusters of Plimsoll from seeds, under simulated faults, and checks every step.
#[derive(Debug, Parser)]
#[command(name = "simulator", version)]
#[command(group = ArgGroup::new("what").required(true).args(["seed", "seeds", "count", "replay"]))]
struct Args {
    /// Run this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the seeds from A up to, without, B.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    seeds: Option<Range<u64>>,
    /// Run this many seeds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The first of the seeds of --count.
    #[arg(long, value_name = "S", default_value_t = 0, requires = "count")]
    start: u64,
    /// The storm alone, without the calm in which everything must come right.
    #[arg(long, conflicts_with = "replay")]
    safety_only: bool,
    /// Runs at a time; as many as the machine has cores if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Write the whole trace of --seed into this file.
    #[arg(long, value_name = "FILE", requires = "seed", conflicts_with_all = ["seeds", "count", "replay"])]
    trace: Option<PathBuf>,
    /// Run what this trace file holds again, and say where it goes another way.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How the summary is printed.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Show the log of the program under test.
    #[arg(long, env = "PLIMSOLL_SIM_LOG")]
    log: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("seeds are given as A..B")?;
    let number = |text: &str| {
        let parsed = text.parse::<u64>();
        parsed.map_err(|_| {
            format!(
                "`{text}` is no seed: a seed is a number from 0 to {}",
                u64::MAX
            )
        })
    };
    let (start, end) = (number(start)?, number(end)?);
    match start < end {
        true => Ok(start..end),
        false => Err(format!("no seed lies from {start} up to {end}")),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.log {
        let log = tracing_subscriber::fmt().without_time().with_ansi(false);
        log.with_writer(std::io::stderr).init();
    }
    exit_at_the_first_breach(args.output);
    let mode = match args.safety_only {
        true => Mode::SafetyOnly,
        false => Mode::Full,
    };
    let result = match (&args.replay, &args.trace, args.seed) {
        (Some(path), _, _) => Recorded::read(path).map(|recorded| {
            let (seed, mode) = (recorded.seed, recorded.mode);
            one(seed, mode, &Recorder::compare(recorded), args.output)
        }),
        (None, Some(path), Some(seed)) => {
            Recorder::create(path).map(|recorder| one(seed, mode, &recorder, args.output))
        }
        _ => seeds(&args).map(|seeds| many(&args, seeds, mode)),
    };
    result.unwrap_or_else(|what| {
        eprintln!("error: {what}");
        ExitCode::from(2)
    })
}

fn seeds(args: &Args) -> Result<Range<u64>, String> {
    if let Some(seed) = args.seed {
        return Ok(seed..seed.checked_add(1).ok_or("the last seed is one too many")?);
    }
    if let Some(seeds) = &args.seeds {
        return Ok(seeds.clone());
    }
    let count = args.count.unwrap_or(1);
    let end = args.start.checked_add(count);
    Ok(args.start..end.ok_or("there are not that many seeds")?)
}

/// Makes the first broken promise the end of the program, in any profile: a release build aborts at a panic.
fn exit_at_the_first_breach(output: Output) {
    let usual = std::panic::take_hook();
    let one_at_a_time = Mutex::new(());
    std::panic::set_hook(Box::new(move |info| {
        let _turn = one_at_a_time.lock();
        usual(info);
        let message = info.payload_as_str().unwrap_or("a panic without words");
        let seed = print_last(message);
        if output == Output::Json {
            let told = serde_json::json!({"passed": false, "seed": seed, "broken": message});
            println!("{told}");
        }
        std::process::exit(1);
    }));
}

/// Runs one seed beside a recorder.
fn one(seed: u64, mode: Mode, recorder: &Recorder, output: Output) -> ExitCode {
    let began = Instant::now();
    let done = Run::new(seed).mode(mode).recorded(recorder.clone()).go();
    if let Some(complaint) = recorder.complaint() {
        eprintln!("seed {seed}: {complaint}");
        return ExitCode::from(1);
    }
    if output == Output::Text {
        println!(
            "seed {seed}: {} events, hash {:016x}",
            done.summary.events, done.hash
        );
    }
    tell(
        &(seed..seed + 1),
        mode,
        began.elapsed(),
        &done.summary,
        output,
    );
    ExitCode::SUCCESS
}

fn many(args: &Args, seeds: Range<u64>, mode: Mode) -> ExitCode {
    let mut batch = Batch::new(seeds.clone());
    batch.mode = mode;
    if let Some(jobs) = args.jobs {
        batch.jobs = usize::from(jobs);
    }
    let count = seeds.end - seeds.start;
    let began = Instant::now();
    let told = Mutex::new(began);
    let summary = batch.run(|done| {
        let Ok(mut told) = told.try_lock() else {
            return;
        };
        if told.elapsed() >= TELL {
            *told = Instant::now();
            let rate = done as f64 / began.elapsed().as_secs_f64();
            eprintln!("{done} of {count} seeds, {rate:.1} seeds/s");
        }
    });
    tell(&seeds, mode, began.elapsed(), &summary, args.output);
    match summary.quiet_about(count) {
        None => ExitCode::SUCCESS,
        Some(what) => {
            eprintln!("error: {what}");
            ExitCode::from(1)
        }
    }
}

fn tell(seeds: &Range<u64>, mode: Mode, took: Duration, summary: &Summary, output: Output) {
    let count = seeds.end - seeds.start;
    let seconds = took.as_secs_f64();
    let rate = count as f64 / seconds;
    if output == Output::Json {
        let told = serde_json::json!({
            "passed": true, "seeds": count, "first": seeds.start, "mode": mode.name(),
            "seconds": seconds, "seeds_per_s": rate, "summary": summary,
        });
        println!("{told}");
        return;
    }
    println!(
        "{count} seeds from {} on kept every promise, in {seconds:.1} s: {rate:.1} seeds/s",
        seeds.start
    );
    for (what, found) in summary.counts() {
        println!("{what:>24} {found}");
    }
}
