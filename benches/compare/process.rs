//! The processes this program starts: servers, which run until they are dropped, and commands, which have a time to end.
//!
//! Owns every child: each is killed by its own handle, and by the kernel should this program die first. Knows nothing of what they do.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const POLL: Duration = Duration::from_millis(10);
/// Time in which a server must listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// Time that a server gets to stop when asked to.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// Of a log, in a message.
const LINES_TOLD: usize = 4;
/// Of a line, in a message: logs of servers have long ones.
const CHARACTERS_TOLD: usize = 240;

/// A server, killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it; what it says goes to `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> Result<Self, String> {
        let mut command = dies_with_us(command);
        let said = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let also = said.try_clone().map_err(|error| error.to_string())?;
        // Some servers run for as long as their standard input is open.
        command.stdin(Stdio::piped()).stdout(said).stderr(also);
        let child = command
            .spawn()
            .map_err(|error| format!("{}: {error}", told(&command)))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it listens on a port of the loopback device.
    pub(crate) fn wait_for_port(&mut self, port: u16) -> Result<(), String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!(
                    "a server ended with {status}:\n{}",
                    end_of(&self.log)
                ));
            }
            if began.elapsed() > LISTENS_WITHIN {
                let within = LISTENS_WITHIN.as_secs();
                return Err(format!(
                    "port {port} does not listen within {within} s:\n{}",
                    end_of(&self.log)
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first, for servers that have processes of their own.
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && began.elapsed() < STOPS_WITHIN {
            std::thread::sleep(POLL);
        }
        self.kill();
    }
}

/// The processes of several servers, for a load program that kills one of them.
pub(crate) fn pids(servers: &[Server]) -> String {
    let pids: Vec<String> = servers
        .iter()
        .map(|server| server.pid().to_string())
        .collect();
    pids.join(",")
}

/// Runs a command to its end, within a time, and returns what it printed.
pub(crate) fn run(command: &Command, within: Duration, log: &Path) -> Result<String, String> {
    let mut command = dies_with_us(command);
    let said = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(said);
    let mut child = command
        .spawn()
        .map_err(|error| format!("{}: {error}", told(&command)))?;
    let mut printed = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        printed.read_to_string(&mut text).map(|_| text)
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() < within => std::thread::sleep(POLL),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "{} did not end within {} s",
                    told(&command),
                    within.as_secs()
                ));
            }
        }
    };
    let text = reader
        .join()
        .expect("the reader does not panic")
        .map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(text);
    }
    Err(format!(
        "{} ended with {status}:\n{}{}",
        told(&command),
        last_lines(&text),
        end_of(log)
    ))
}

/// The same command, killed by the kernel when this program is gone, however it went.
fn dies_with_us(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]);
    bound.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        bound.current_dir(dir);
    }
    bound
}

/// The command as a person would type it, without what binds it to us.
fn told(command: &Command) -> String {
    let words = command
        .get_args()
        .skip(3)
        .map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

fn end_of(log: &Path) -> String {
    last_lines(&fs::read_to_string(log).unwrap_or_default())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES_TOLD);
    let told = |line: &&str| {
        let line: String = line.chars().take(CHARACTERS_TOLD).collect();
        format!("    {line}\n")
    };
    lines[from..].iter().map(told).collect()
}
