//! What this process has used of the machine: CPU time and memory, as Linux tells it.
//!
//! On no hot walk: whoever measures asks before, after, and now and then. Must not know what is measured meanwhile.

use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

use crate::wire::NodeUsage;

/// What tells this process from others, and where its clock begins.
static PROCESS: OnceLock<(u64, Instant)> = OnceLock::new();

/// What this process has used so far; memory is 0 where the system does not say.
///
/// The client's side of a measurement uses it too, so that both are counted alike.
#[must_use]
pub fn usage_of_this_process() -> NodeUsage {
    let (process, zero) = PROCESS.get_or_init(|| (fastrand::u64(..), Instant::now()));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    NodeUsage {
        process: *process,
        clock_ns: u64::try_from(zero.elapsed().as_nanos()).unwrap_or(u64::MAX),
        cpu_ns: cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs(),
        anonymous_bytes: bytes_of(&status, "RssAnon:"),
        file_bytes: bytes_of(&status, "RssFile:"),
    }
}

fn bytes_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_kib_and_given_in_bytes() {
        let status = "Name:\tx\nRssAnon:\t    2048 kB\nRssFile:\t 1 kB\n";
        assert_eq!(bytes_of(status, "RssAnon:"), 2048 * 1024);
        assert_eq!(bytes_of(status, "RssFile:"), 1024);
        assert_eq!(bytes_of(status, "RssShmem:"), 0);
    }

    #[test]
    fn usage_grows_with_work_and_names_one_process() {
        let before = usage_of_this_process();
        let mut work = 0_u64;
        while usage_of_this_process().cpu_ns == before.cpu_ns {
            work = std::hint::black_box(work + 1);
        }
        let after = usage_of_this_process();
        assert_eq!(after.process, before.process);
        assert!(after.clock_ns > before.clock_ns);
        assert!(
            after.anonymous_bytes > 0 && after.file_bytes > 0,
            "{after:?}"
        );
    }
}
