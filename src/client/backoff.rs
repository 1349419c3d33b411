//! Pauses between attempts.
//!
//! Owns how long to wait before something is tried again. Must not know what. On every walk of the client, when a node does not answer.

use std::time::Duration;

/// First and longest pause between two attempts.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// While nobody leads, that is asked again no later than this: many who do so ask once.
pub(super) const LEADERLESS_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Pauses that grow, with jitter, until something succeeds.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            next: BACKOFF_FIRST,
        }
    }

    pub(super) fn reset(&mut self) {
        self.next = BACKOFF_FIRST;
    }

    /// The next pause: half of it fixed, half random.
    pub(super) fn pause(&mut self) -> Duration {
        self.pause_up_to(BACKOFF_MAX)
    }

    /// The next pause, where one longer than `longest` is of no use.
    pub(super) fn pause_up_to(&mut self, longest: Duration) -> Duration {
        let pause = self.next.min(longest);
        self.next = (self.next * 2).min(BACKOFF_MAX);
        pause.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}
