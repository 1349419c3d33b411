//! What happens within the window of a measurement: counts and latencies.
//!
//! Owns which record counts. Must not know what a record is, nor how the figures are shown.

use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Longer than any delivery is waited for.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// Counts what happens within its window.
pub(super) struct Meter {
    window: Range<Instant>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) latency_ns: Histogram<u64>,
}

/// The window that begins in `warm_up` and is as long as `duration`.
pub(super) fn window(warm_up: Duration, duration: Duration) -> Range<Instant> {
    let begins = Instant::now() + warm_up;
    begins..begins + duration
}

impl Meter {
    pub(super) fn new(window: Range<Instant>) -> Self {
        Self {
            window,
            records: 0,
            bytes: 0,
            latency_ns: Histogram::new_with_max(LATENCY_NS_MAX, 3)
                .expect("the bounds are constant and sound"),
        }
    }

    /// Counts records that began at `begun` and were done at `now`. Throughput counts what was done within the window, latency what began in
    /// it, however late it was done.
    pub(super) fn count(&mut self, begun: Instant, now: Instant, records: u32, bytes: u64) {
        self.count_done(now, records, bytes);
        if self.window.contains(&begun) {
            let latency = now.saturating_duration_since(begun);
            let ns = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX);
            self.latency_ns
                .saturating_record_n(ns.max(1), records.into());
        }
    }

    /// Counts records that were done at `now` and had nothing to wait for.
    pub(super) fn count_done(&mut self, now: Instant, records: u32, bytes: u64) {
        if self.window.contains(&now) {
            self.records += u64::from(records);
            self.bytes += bytes;
        }
    }

    pub(super) fn ends(&self) -> Instant {
        self.window.end
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.window.end - self.window.start).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_counts_what_was_done_in_the_window_and_latency_what_began_in_it() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::new(at(1000)..at(11_000));
        for (begun, done) in [
            (500, 900),
            (900, 1100),
            (1500, 1510),
            (10_900, 11_400),
            (11_200, 11_300),
        ] {
            meter.count(at(begun), at(done), 3, 3000);
        }
        assert_eq!(
            (meter.records, meter.bytes),
            (6, 6000),
            "done within the window"
        );
        assert_eq!(meter.latency_ns.len(), 6, "begun within the window");
        let ms = |ns: u64| ns as f64 / 1e6;
        assert!((ms(meter.latency_ns.max()) - 500.0).abs() < 1.0);
        assert!((ms(meter.latency_ns.value_at_quantile(0.5)) - 10.0).abs() < 0.1);
    }
}
