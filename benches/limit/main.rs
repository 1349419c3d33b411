//! The limit: what this machine gives to anything that does Plimsoll's work, with no Raft in between.
//!
//! Four processes: a client and three nodes. A batch goes over QUIC to the node that leads its stream, from there to both others over QUIC; each of the
//! three checks its CRC and writes it into a prewritten file with one `fdatasync` per group of batches; the client hears of it once two of the three have
//! it on disk. The settings of QUIC, the files and the disk thread are those of the product; what is missing is the log, the consensus and every check of
//! a client. With one batch in flight that is the floor of the latency: a round trip, and behind it the slower of a local `fdatasync` and another round
//! trip with an `fdatasync` at its end. A bare stream, read and thrown away, is the limit of reading. Plimsoll's own runs are divided by what this prints.
//!
//! `cargo bench --bench limit` runs all cases; `cargo bench --bench limit -- --help` tells the rest. Compare lines of one run only.

#![allow(clippy::unwrap_used, missing_docs)]

mod cases;
mod disk;
mod figures;
mod load;
mod node;
mod usage;

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use clap::Parser;
use serde_json::json;
use transport::{Authority, Credentials, Issued, TransportOptions};

use cases::{CASES, Case};
use figures::Figures;
use load::Load;

/// What this machine gives to replication by QUIC and fdatasync, without Raft
#[derive(Parser)]
struct Args {
    /// Cases to run, by words in their names; all if none is given
    cases: Vec<String>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
    /// Batches in flight on each stream
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    in_flight: u64,
    /// Where the files go; a temporary folder beside the build if not given
    #[arg(long)]
    data: Option<PathBuf>,
    /// A JSON object a case instead of a table
    #[arg(long)]
    json: bool,
    /// Given by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// Set in the processes this program starts: which node to be
    #[arg(long, hide = true)]
    node: Option<u64>,
    #[arg(long, hide = true)]
    mtu: Option<u16>,
    #[arg(long, hide = true)]
    streams: Option<usize>,
    #[arg(long, hide = true)]
    unsynced: bool,
    #[arg(long, hide = true)]
    fresh: bool,
}

fn main() {
    let args = Args::parse();
    if let Some(number) = args.node {
        let data = args.data.expect("given by the parent");
        let mtu = args.mtu.expect("given by the parent");
        let streams = args.streams.expect("given by the parent");
        let (sync, fresh) = (!args.unsynced, args.fresh);
        return node::run(number, &data, &options(mtu), streams, sync, fresh);
    }
    let chosen = |case: &&Case| {
        args.cases.is_empty() || args.cases.iter().any(|words| case.name.contains(words))
    };
    let cases: Vec<&Case> = CASES.iter().filter(chosen).collect();
    if cases.is_empty() {
        let names = CASES.map(|case| case.name).join("; ");
        eprintln!("no case has these words in its name; there are: {names}");
        std::process::exit(2);
    }
    // Round by round, so that what disturbs the machine for a while disturbs all cases alike.
    let mut taken: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds {
        for (case, taken) in cases.iter().zip(&mut taken) {
            taken.push(measure(case, &args));
        }
    }
    if !args.json {
        println!("{:40} {}", "case", Figures::TITLES);
    }
    for (case, taken) in cases.iter().zip(taken) {
        let rounds: Vec<f64> = taken.iter().map(Figures::mb_per_s).collect();
        let median = Figures::median(taken);
        if args.json {
            println!(
                "{}",
                json!({ "case": case.name, "figures": median, "mb_per_s_of_rounds": rounds })
            );
        } else {
            println!("{:40} {median}", case.name);
        }
    }
}

fn options(mtu: u16) -> TransportOptions {
    TransportOptions::default().with_mtu_max(mtu)
}

fn measure(case: &Case, args: &Args) -> Figures {
    let parent = args.data.clone().unwrap_or_else(|| {
        let program = std::env::current_exe().expect("this program has a path");
        program.parent().expect("in a folder").to_owned()
    });
    let folder = tempfile::tempdir_in(parent).expect("a folder for the files can be made");
    let authority = Authority::create("limit").expect("a fixed, valid name");
    let mut nodes = [1, 2, 3].map(|number| {
        let issued = authority.issue_node(number).expect("a valid number");
        let own = folder.path().join(number.to_string());
        keep(&own, &authority, &issued);
        Process::start(number, &own, case)
    });
    let addresses = nodes.each_ref().map(|node| node.address);
    nodes.iter_mut().for_each(|node| node.tell(&addresses));
    let load = Load {
        nodes: addresses,
        work: case.work,
        streams: case.streams,
        batch_bytes: case.batch_bytes,
        in_flight: case.in_flight.unwrap_or(args.in_flight),
        seconds: args.seconds,
        pids: nodes.each_ref().map(Process::pid),
    };
    let issued = authority.issue_client("limit").expect("a valid name");
    load.run(&credentials(&authority, issued), &options(case.mtu))
}

fn credentials(authority: &Authority, issued: Issued) -> Credentials {
    let Issued { cert_pem, key_pem } = issued;
    Credentials::from_pem(authority.cert_pem(), &cert_pem, &key_pem).expect("just issued")
}

/// Puts a node's credentials into its folder.
fn keep(folder: &Path, authority: &Authority, issued: &Issued) {
    std::fs::create_dir(folder).expect("the folder is new");
    let files = [
        ("ca.pem", authority.cert_pem()),
        ("cert.pem", issued.cert_pem.as_str()),
        ("key.pem", issued.key_pem.as_str()),
    ];
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("the folder can be written");
    }
}

/// A node's process; ended when dropped.
struct Process {
    child: Child,
    /// A node ends when this does, so none outlives this program however it ends.
    input: Option<ChildStdin>,
    address: SocketAddr,
}

impl Process {
    /// Starts a node and waits for the line that tells its address.
    fn start(number: u64, folder: &Path, case: &Case) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args([
            "--node",
            &number.to_string(),
            "--mtu",
            &case.mtu.to_string(),
        ]);
        command.args(["--streams", &case.streams.to_string()]);
        command.arg("--data").arg(folder);
        if !case.sync {
            command.arg("--unsynced");
        }
        if case.fresh {
            command.arg("--fresh");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started again");
        let out = child.stdout.take().expect("piped above");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("text");
        let address = line.trim().parse().expect("a node tells its address first");
        let input = child.stdin.take();
        Process {
            child,
            input,
            address,
        }
    }

    /// Tells it where all nodes are.
    fn tell(&mut self, addresses: &[SocketAddr]) {
        let input = self.input.as_mut().expect("kept until it is dropped");
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        writeln!(input, "{}", addresses.join(" ")).expect("the node reads");
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
