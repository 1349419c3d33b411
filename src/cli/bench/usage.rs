//! What this process has used of the machine: CPU seconds and memory, as Linux tells it.
//!
//! Must not know what is measured meanwhile.

use std::fs;

/// Clock ticks per second in `/proc`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of this process so far, user and system; 0 where the system does not say.
pub(super) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    cpu_ticks(&stat).unwrap_or(0) as f64 / TICKS_PER_SECOND
}

/// Largest resident memory of this process so far, in bytes; 0 where the system does not say.
pub(super) fn resident_bytes_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    kib_of(&status, "VmHWM:").unwrap_or(0) * 1024
}

/// Fields 14 and 15. The program's name, in brackets, may hold blanks and brackets itself.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn kib_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_with_brackets() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(
            kib_of("Name:\tx\nVmHWM:\t   2048 kB\n", "VmHWM:"),
            Some(2048)
        );
        assert_eq!(kib_of("Name:\tx\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_uses_some_memory() {
        assert!(resident_bytes_max() > 0);
    }
}
