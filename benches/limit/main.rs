//! The limit: what this machine gives to anything that does Plimsoll's work, with no Raft in between.
//!
//! Four processes: a client, a "leader" and two "followers". A batch goes over QUIC to the leader, from there to both followers over QUIC; each of the
//! three checks its CRC and writes it into a prewritten file with one `fdatasync` per group of batches; the client hears of it once two of the three have
//! it on disk. The settings of QUIC, the files and the disk thread are those of the product; what is missing is the log, the consensus and every check of
//! a client. Plimsoll's own runs are divided by what this prints.
//!
//! `cargo bench --bench limit` runs all cases; `cargo bench --bench limit -- --help` tells the rest. Compare lines of one run only.

#![allow(clippy::unwrap_used, missing_docs)]

mod disk;
mod load;
mod node;
mod usage;

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Parser;
use serde_json::json;
use transport::{Authority, Credentials, Issued, TransportOptions};

use load::{Figures, Load};

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
    /// Set in the processes this program starts: which part to play
    #[arg(long, hide = true, value_enum)]
    part: Option<node::Part>,
    #[arg(long, hide = true)]
    mtu: Option<u16>,
    #[arg(long, hide = true)]
    followers: Vec<SocketAddr>,
}

/// One line of the table.
struct Case {
    name: &'static str,
    mtu: u16,
    streams: usize,
    batch_bytes: usize,
    /// Overrides the number in flight: the latency floor has one.
    in_flight: Option<u64>,
}

const fn case(name: &'static str, mtu: u16, streams: usize, batch_bytes: usize) -> Case {
    Case {
        name,
        mtu,
        streams,
        batch_bytes,
        in_flight: None,
    }
}

const MIB: usize = 1 << 20;

const CASES: [Case; 6] = [
    case("1 MiB batches", 65_000, 1, MIB),
    case("1 MiB batches, MTU 6500", 6_500, 1, MIB),
    case("1 MiB batches, MTU 1452", 1_452, 1, MIB),
    case("1 MiB batches, 4 streams", 65_000, 4, MIB),
    case("16 KiB batches", 65_000, 1, 16 << 10),
    Case {
        name: "latency, 100 bytes, one in flight",
        mtu: 65_000,
        streams: 1,
        batch_bytes: 100,
        in_flight: Some(1),
    },
];

fn main() {
    let args = Args::parse();
    if let Some(part) = args.part {
        let data = args.data.expect("given by the parent");
        let mtu = args.mtu.expect("given by the parent");
        return node::run(part, &data, &options(mtu), &args.followers);
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
    if !args.json {
        println!("{:36} {}", "case", Figures::TITLES);
    }
    // Round by round, so that what disturbs the machine for a while disturbs all cases alike.
    let mut taken: Vec<Vec<Figures>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds {
        for (case, taken) in cases.iter().zip(&mut taken) {
            taken.push(measure(case, &args));
        }
    }
    for (case, taken) in cases.iter().zip(taken) {
        let median = Figures::median(taken);
        if args.json {
            println!("{}", json!({ "case": case.name, "figures": median }));
        } else {
            println!("{:36} {median}", case.name);
        }
    }
}

fn options(mtu: u16) -> TransportOptions {
    TransportOptions {
        mtu_max_loopback: mtu,
        ..TransportOptions::default()
    }
}

fn measure(case: &Case, args: &Args) -> Figures {
    let parent = args.data.clone().unwrap_or_else(|| {
        let program = std::env::current_exe().expect("this program has a path");
        program.parent().expect("in a folder").to_owned()
    });
    let folder = tempfile::tempdir_in(parent).expect("a folder for the files can be made");
    let authority = Authority::create("limit").expect("a fixed, valid name");
    for number in 1..=3 {
        let issued = authority.issue_node(number).expect("a valid number");
        keep(&folder.path().join(number.to_string()), &authority, &issued);
    }
    let start = |part: node::Part, number: u64, followers: &[SocketAddr]| {
        Process::start(
            part,
            &folder.path().join(number.to_string()),
            case,
            followers,
        )
    };
    let followers = [
        start(node::Part::Follower, 2, &[]),
        start(node::Part::Follower, 3, &[]),
    ];
    let addresses = followers.each_ref().map(|follower| follower.address);
    let leader = start(node::Part::Leader, 1, &addresses);
    let load = Load {
        leader: leader.address,
        streams: case.streams,
        batch_bytes: case.batch_bytes,
        in_flight: case.in_flight.unwrap_or(args.in_flight),
        seconds: args.seconds,
        pids: [leader.pid(), followers[0].pid(), followers[1].pid()],
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
    address: SocketAddr,
}

impl Process {
    /// Starts a node and waits for the line that tells its address.
    fn start(part: node::Part, folder: &Path, case: &Case, followers: &[SocketAddr]) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--part", part.name(), "--mtu", &case.mtu.to_string()]);
        command.arg("--data").arg(folder);
        for follower in followers {
            command.args(["--followers", &follower.to_string()]);
        }
        // A node ends when its input does, so none outlives this program however it ends.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started again");
        let out = child.stdout.take().expect("piped above");
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).expect("text");
        let address = line.trim().parse().expect("a node tells its address first");
        Process { child, address }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut input) = self.child.stdin.take() {
            // It may have ended already.
            let _ = input.flush();
        }
        let _ = self.child.wait();
    }
}
