//! What one measurement came to, and how it is printed. Must not know how it was taken.

use std::fmt;

use serde::Serialize;

/// MB are millions of bytes. Nobody waits for anything where a stream is only read: then there are no latencies.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) mb_per_s: f64,
    pub(crate) batches_per_s: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) cpu_s_per_gb_client: f64,
    /// The first node, which leads the only stream, or the first of several.
    pub(crate) cpu_s_per_gb_leader: f64,
    pub(crate) cpu_s_per_gb_followers: f64,
}

impl Figures {
    pub(crate) const TITLES: &'static str =
        "   MB/s  batches/s   p50 ms   p99 ms   CPU-s/GB: client node 1 others";

    pub(crate) fn mb_per_s(&self) -> f64 {
        self.mb_per_s
    }

    /// The figures of the round with the median throughput.
    pub(crate) fn median(mut rounds: Vec<Figures>) -> Figures {
        rounds.sort_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s));
        rounds.swap_remove(rounds.len() / 2)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |figure: Option<f64>| figure.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
        write!(
            f,
            "{:7.1} {:10.0} {:>8} {:>8} {:18.2} {:6.2} {:6.2}",
            self.mb_per_s,
            self.batches_per_s,
            ms(self.p50_ms),
            ms(self.p99_ms),
            self.cpu_s_per_gb_client,
            self.cpu_s_per_gb_leader,
            self.cpu_s_per_gb_followers
        )
    }
}
