//! What was measured: figures of a run, gathered over rounds and over calls of this program in a file.
//!
//! Owns the shape of the results file, and the medians. Knows nothing of how a table looks.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What a load program prints, as far as it is used here; `plimsoll bench -o json` has the same names.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) records_per_s: f64,
    pub(crate) mb_per_s: f64,
    pub(crate) latency_ms: Option<LatencyMs>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LatencyMs {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Figures {
    /// The last line of what a load program printed.
    pub(crate) fn parse(printed: &str) -> Result<Self, String> {
        let line = printed.lines().rfind(|line| line.starts_with('{'));
        let line =
            line.ok_or_else(|| format!("no figures in what the load printed: {printed:?}"))?;
        serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))
    }

    /// Of one gap without service.
    pub(crate) fn gap(ms: f64) -> Self {
        Self {
            records_per_s: 0.0,
            mb_per_s: 0.0,
            latency_ms: Some(LatencyMs { p50: ms, p99: ms }),
        }
    }
}

/// One run of one work on one system.
#[derive(Serialize, Deserialize)]
struct Sample {
    system: String,
    work: String,
    seconds: u64,
    /// Seconds since 1970, at its end.
    at: u64,
    figures: Figures,
}

/// The results file.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Results {
    samples: Vec<Sample>,
    /// Systems that could not be installed or started, and works they failed: why.
    pub(crate) missing: BTreeMap<String, String>,
    #[serde(skip)]
    file: PathBuf,
}

/// Median, least and greatest.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

/// The figures of one line of a table.
pub(crate) struct Line {
    pub(crate) rounds: usize,
    pub(crate) records_per_s: Spread,
    pub(crate) mb_per_s: Spread,
    pub(crate) p50: Option<Spread>,
    pub(crate) p99: Option<Spread>,
}

impl Results {
    /// Those of the calls before, if there are any and they shall count.
    pub(crate) fn open(file: PathBuf, fresh: bool) -> Result<Self, String> {
        let mut results = if fresh || !file.exists() {
            Self::default()
        } else {
            let told = |error: &dyn std::fmt::Display| {
                format!("{}: {error}; --fresh begins it anew", file.display())
            };
            let text = fs::read_to_string(&file).map_err(|error| told(&error))?;
            serde_json::from_str(&text).map_err(|error| told(&error))?
        };
        results.file = file;
        Ok(results)
    }

    /// Written whole or not at all: a call may be killed at any time.
    pub(crate) fn save(&self) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.file.display());
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        let part = self.file.with_extension("part");
        fs::write(&part, text).map_err(told)?;
        fs::rename(&part, &self.file).map_err(told)
    }

    pub(crate) fn add(&mut self, system: &str, work: &str, seconds: u64, figures: Figures) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        self.missing.remove(system);
        self.missing.remove(&failure_key(system, work));
        self.samples.push(Sample {
            system: system.to_owned(),
            work: work.to_owned(),
            seconds,
            at: at.map_or(0, |since| since.as_secs()),
            figures,
        });
    }

    /// Notes that a system could not do a work. One that did it before keeps its figures.
    pub(crate) fn failed(&mut self, system: &str, work: &str, why: &str) {
        self.missing
            .insert(failure_key(system, work), why.to_owned());
    }

    /// Seconds of the shortest measurement, if there is one.
    pub(crate) fn seconds(&self) -> Option<u64> {
        self.samples.iter().map(|sample| sample.seconds).min()
    }

    /// First and last time of a measurement, in seconds since 1970.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        let times = || self.samples.iter().map(|sample| sample.at);
        Some((times().min()?, times().max()?))
    }

    pub(crate) fn line(&self, system: &str, work: &str) -> Option<Line> {
        let of = |sample: &&Sample| sample.system == system && sample.work == work;
        let taken: Vec<&Figures> = self
            .samples
            .iter()
            .filter(of)
            .map(|sample| &sample.figures)
            .collect();
        let latencies: Vec<&LatencyMs> = taken
            .iter()
            .filter_map(|figures| figures.latency_ms.as_ref())
            .collect();
        Some(Line {
            rounds: taken.len(),
            records_per_s: spread(taken.iter().map(|figures| figures.records_per_s))?,
            mb_per_s: spread(taken.iter().map(|figures| figures.mb_per_s))?,
            p50: spread(latencies.iter().map(|latency| latency.p50)),
            p99: spread(latencies.iter().map(|latency| latency.p99)),
        })
    }
}

fn failure_key(system: &str, work: &str) -> String {
    format!("{system} ({work})")
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (least, greatest) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some(Spread {
        median,
        least,
        greatest,
    })
}
