//! What a cluster of real processes does apart from one busy partition: at rest with very many, with many busy ones, with a follower that is stopped or
//! crawls; and how fast a long log is opened.
//!
//! `cargo bench --bench scale -- rest | active | follower | open`, each with options, prints an object of figures.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/faults/cluster.rs"]
#[allow(dead_code)]
mod cluster;
mod load;
mod open;
#[path = "../../tests/faults/relay.rs"]
#[allow(dead_code)]
mod relay;
mod rest;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use serde_json::Value;

/// Measure a cluster of processes at rest, with many partitions, with a lame follower; or the opening of a long log
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    case: Case,
    /// Given by cargo to every benchmark
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Case {
    /// CPU and memory of three nodes that hold many partitions and are asked nothing
    Rest {
        /// Partitions, each of three replicas
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        partitions: u32,
        /// Seconds to wait before, and to measure
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// Throughput of many busy partitions with small batches, beside that of one
    Active {
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
        partitions: u32,
        /// Size of the batches of the many
        #[arg(long, default_value_t = 16 << 10, value_parser = clap::value_parser!(u32).range(1..=8 << 20))]
        batch_bytes: u32,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Throughput while one follower is stopped, and while it runs for a hundredth of the time, beside that of a cluster that is well
    Follower {
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Time to open a log of sealed segments, as a node does at its start
    Open {
        /// Size of the log
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
        gib: u64,
        /// Where the log is made; a temporary folder beside the build if not given
        #[arg(long)]
        data: Option<PathBuf>,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=99))]
        rounds: u64,
    },
}

/// How long and how often.
#[derive(clap::Args, Clone, Copy)]
struct Rounds {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds, in each of which everything is measured in turn; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
}

fn main() {
    let case = Args::parse().case;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let figures: Value = match case {
        Case::Open { gib, data, rounds } => open::measure(gib, data, rounds),
        Case::Rest {
            partitions,
            seconds,
        } => runtime.block_on(rest::measure(partitions, seconds)),
        Case::Active {
            partitions,
            batch_bytes,
            rounds,
        } => runtime.block_on(load::many_partitions(partitions, batch_bytes, rounds)),
        Case::Follower { rounds } => runtime.block_on(load::lame_follower(rounds)),
    };
    println!("{figures:#}");
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
