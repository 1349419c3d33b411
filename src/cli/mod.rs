//! The command line: one file per noun.
//!
//! Owns the words and flags a user types, and the exit status: 0, 1 for a failure, 2 for wrong usage. Must not hold any
//! logic of the log itself: every command is a thin hand on `server`, `client` or the offline tools of `segment-store`. What
//! is printed goes through [`output`].

mod bench;
mod cluster;
mod consume;
mod dev;
mod init;
mod log;
mod output;
mod produce;
mod serve;
mod topic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use plimsoll::client::Client;
use plimsoll::config::ClientConfig;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;

use output::{Failure, Format};

/// A replicated, persistent message log: an ack means fsynced on a majority.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Args)]
struct Shared {
    /// Settings of the client [default: plimsoll-data/client.toml, which `plimsoll dev` makes]
    #[arg(long, global = true, value_name = "FILE", env = "PLIMSOLL_CLIENT")]
    client: Option<PathBuf>,
    /// Form of what is printed
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Human)]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster in this process; everything it needs is made on the first run
    Dev(dev::Dev),
    /// Make certificates and settings for a cluster of separate processes, or for one more node
    Init(init::Init),
    /// Run one node
    Serve(serve::Serve),
    /// Create, list, describe or delete topics
    Topic(topic::Topic),
    /// Send records to a topic, one a line
    Produce(produce::Produce),
    /// Print the records of a topic
    Consume(consume::Consume),
    /// Show the nodes and the groups of the cluster, or change them
    Cluster(cluster::Cluster),
    /// Measure throughput and latency of the cluster
    Bench(bench::Bench),
    /// Look at a log on disk, offline
    Log(log::Log),
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    keep_freed_memory();
    let cli = Cli::parse();
    let shared = &cli.shared;
    let done = match cli.command {
        Command::Dev(command) => command.run(shared.output),
        Command::Init(command) => command.run(shared.output),
        Command::Serve(command) => command.run(),
        Command::Topic(command) => command.run(shared),
        Command::Produce(command) => command.run(shared),
        Command::Consume(command) => command.run(shared),
        Command::Cluster(command) => command.run(shared),
        Command::Bench(command) => command.run(shared),
        Command::Log(command) => command.run(shared.output),
    };
    match done {
        Ok(()) | Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Reported) => ExitCode::FAILURE,
        Err(Failure::Message(message)) => {
            eprintln!("plimsoll: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Has the allocator keep what is freed, up to some 32 MiB a thread, instead of giving it back to the kernel at once and faulting it in again
/// for the next datagram. glibc sets its bounds by the largest block that was freed so far; other allocators take no notice.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(16 << 20)));
}

impl Shared {
    /// The settings of the client, from where the user says or from where `dev` puts them.
    fn client_config(&self) -> Result<ClientConfig, Failure> {
        let usual = Path::new(dev::DATA_DIR).join(init::CLIENT_FILE);
        let path = match &self.client {
            Some(path) => path,
            None if usual.exists() => &usual,
            None => {
                return Err(Failure::Message(format!(
                    "which cluster? Give its client.toml with --client FILE or PLIMSOLL_CLIENT, or run `plimsoll dev`, \
                     which makes {}",
                    usual.display()
                )));
            }
        };
        Ok(ClientConfig::load(path)?)
    }
}

/// Connects to the cluster, does `work` there on a runtime of this thread, and closes the connections.
fn with_client<T>(
    shared: &Shared,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    log_to_stderr(LevelFilter::ERROR, LevelFilter::ERROR);
    let config = shared.client_config()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::connect(&config).await?;
        let done = work(&client).await;
        client.close().await;
        done
    })
}

/// Logs to stderr: what `RUST_LOG` asks for, such as `debug` or `plimsoll=debug,transport=trace`, else our own crates at `level`, and
/// what is said of connections at `links`.
fn log_to_stderr(level: LevelFilter, links: LevelFilter) {
    let ours = || {
        Targets::new()
            .with_target("plimsoll", level)
            .with_target("segment_store", level)
            .with_target("transport", links)
    };
    let asked = std::env::var("RUST_LOG").ok();
    let targets = asked.and_then(|text| text.parse().ok());
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let subscriber = tracing_subscriber::registry()
        .with(targets.unwrap_or_else(ours))
        .with(stderr);
    tracing::subscriber::set_global_default(subscriber).expect("set once, at the start");
}
