//! Consensus libraries under the works of `benches/compare`: three nodes in this process, logs in memory, channels for a network.
//!
//! Owns the load and the clock. What it measures is what the library allows at most: nothing is written, serialized or sent. Prints one JSON object.

mod openraft_group;
mod tikv_group;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

/// Longer than anything takes here.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// Load on a consensus library, in this process
#[derive(Parser)]
struct Args {
    library: Library,
    /// Only `produce` is known
    #[arg(long)]
    work: String,
    #[arg(long)]
    record_bytes: usize,
    /// Callers that wait for their entry to be applied
    #[arg(long)]
    in_flight: usize,
    /// Entries per second, begun when they are due; 0 for as many as the callers get done
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    warm_up: u64,
    /// Taken for the sake of the other load programs
    #[arg(long)]
    records_max: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Library {
    Openraft,
    Tikv,
}

/// A group of three with a leader.
pub trait Group: Send + Sync + 'static {
    /// Returns once the entry is applied on the leader.
    fn write(&self, payload: Arc<[u8]>) -> impl Future<Output = ()> + Send;
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args = Args::parse();
    assert_eq!(
        args.work, "produce",
        "a library has no readers, and its leader is no process"
    );
    match args.library {
        Library::Openraft => measure(openraft_group::start().await, &args).await,
        Library::Tikv => measure(tikv_group::start().await, &args).await,
    }
}

/// Begun and done.
type Times = (Instant, Instant);

async fn measure(group: impl Group, args: &Args) {
    let group = Arc::new(group);
    let payload: Arc<[u8]> = vec![b'x'; args.record_bytes].into();
    let begins = Instant::now() + Duration::from_secs(args.warm_up);
    let ends = begins + Duration::from_secs(args.seconds);
    let (done, mut times) = mpsc::unbounded_channel();
    if args.rate > 0 {
        tokio::spawn(at_rate(group, payload, f64::from(args.rate), ends, done));
    } else {
        for _ in 0..args.in_flight {
            tokio::spawn(one_after_another(
                Arc::clone(&group),
                Arc::clone(&payload),
                ends,
                done.clone(),
            ));
        }
        drop(done);
    }
    let mut latency =
        Histogram::<u64>::new_with_max(LATENCY_NS_MAX, 3).expect("the bounds are sound");
    let window = begins..ends;
    let mut records = 0_u64;
    while let Some((begun, now)) = times.recv().await {
        records += u64::from(window.contains(&now));
        if window.contains(&begun) {
            latency.saturating_record((now - begun).as_nanos() as u64);
        }
    }
    let per_second = records as f64 / args.seconds as f64;
    let megabytes = per_second * args.record_bytes as f64 / 1e6;
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "{{\"records\":{records},\"records_per_s\":{per_second:.1},\"mb_per_s\":{megabytes:.3},\"latency_ms\":{{\"p50\":{:.4},\"p99\":{:.4}}}}}",
        ms(0.5),
        ms(0.99)
    );
}

async fn one_after_another(
    group: Arc<impl Group>,
    payload: Arc<[u8]>,
    ends: Instant,
    done: mpsc::UnboundedSender<Times>,
) {
    loop {
        let begun = Instant::now();
        if begun >= ends {
            return;
        }
        group.write(Arc::clone(&payload)).await;
        if done.send((begun, Instant::now())).is_err() {
            return;
        }
    }
}

/// Each entry when it is due, whether or not those before are done. A thread keeps the time, as timers of the runtime are too coarse.
async fn at_rate(
    group: Arc<impl Group>,
    payload: Arc<[u8]>,
    rate: f64,
    ends: Instant,
    done: mpsc::UnboundedSender<Times>,
) {
    let (due_now, mut due) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let start = Instant::now();
        for n in 0_u32.. {
            let due = start + Duration::from_secs_f64(f64::from(n) / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if due >= ends || due_now.send(due).is_err() {
                return;
            }
        }
    });
    while let Some(due) = due.recv().await {
        let (group, payload, done) = (Arc::clone(&group), Arc::clone(&payload), done.clone());
        tokio::spawn(async move {
            group.write(payload).await;
            let _ = done.send((due, Instant::now()));
        });
    }
}
