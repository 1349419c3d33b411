//! How fast a node may feed peers that are far behind: owns a bucket of tokens that all its groups share.
//!
//! Pure: time is a number handed in. It must not know what the bytes are, or where they go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::raft::Millis;

/// What may leave at once after a pause, as a part of what may leave in a second.
const BURSTS_PER_S: u64 = 20;

/// The pace of a node. Clones share the bucket.
#[derive(Clone, Debug)]
pub struct Pacer {
    bucket: Arc<Mutex<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    bytes_per_s: u64,
    /// May be sent now. Below zero after something that was larger than what was there.
    balance: i64,
    /// When the balance was so.
    at: Millis,
}

impl Pacer {
    /// `bytes_per_s` for all groups together; 0 counts as 1.
    pub fn new(bytes_per_s: u64) -> Pacer {
        let bytes_per_s = bytes_per_s.clamp(1, 1 << 50);
        let bucket = Bucket {
            bytes_per_s,
            balance: 0,
            at: 0,
        };
        Pacer {
            bucket: Arc::new(Mutex::new(bucket)),
        }
    }

    /// Until when to wait before something may be sent; `None` if it may be sent now.
    pub(crate) fn wait(&self, now: Millis) -> Option<Millis> {
        let mut bucket = self.bucket();
        bucket.fill(now);
        if bucket.balance > 0 {
            return None;
        }
        let lacking = bucket.balance.unsigned_abs() + 1;
        Some(now + (lacking * 1_000).div_ceil(bucket.bytes_per_s).max(1))
    }

    /// So many bytes are sent: at once, even if they are more than were there.
    pub(crate) fn spend(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut bucket = self.bucket();
        bucket.balance = bucket.balance.saturating_sub(bytes);
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        // Whole after every line that changes it.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn fill(&mut self, now: Millis) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed == 0 {
            return;
        }
        self.at = now;
        let gained = u128::from(elapsed) * u128::from(self.bytes_per_s) / 1_000;
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let burst = i64::try_from((self.bytes_per_s / BURSTS_PER_S).max(1)).unwrap_or(i64::MAX);
        self.balance = self.balance.saturating_add(gained).min(burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_leaves_in_a_long_time_than_the_rate_allows() {
        let pacer = Pacer::new(1_000_000);
        let (mut now, mut sent) = (5, 0_u64);
        while now < 10_000 {
            match pacer.wait(now) {
                Some(at) => {
                    assert!(at > now, "waiting ends later");
                    now = at;
                }
                None => {
                    pacer.spend(70_000);
                    sent += 70_000;
                }
            }
        }
        assert!((9_800_000..=10_200_000).contains(&sent), "{sent}");
    }

    #[test]
    fn groups_share_the_pace_and_a_pause_saves_up_no_more_than_a_burst() {
        let pacer = Pacer::new(1_000_000);
        let other = pacer.clone();
        assert_eq!(pacer.wait(1_000_000), None);
        other.spend(150_000);
        assert_eq!(pacer.wait(1_000_000), Some(1_000_101));
    }

    #[test]
    fn a_pace_of_next_to_nothing_still_gets_on() {
        let pacer = Pacer::new(0);
        let at = pacer.wait(1_000).unwrap_or(1_000);
        assert_eq!(pacer.wait(at), None);
    }
}
