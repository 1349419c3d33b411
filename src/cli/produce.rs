//! `plimsoll produce`: each line of the input becomes a record, acknowledged once a majority has it on disk.
//!
//! Owns the flow from the input to the acks: records are sent as lines come, acks are printed in input order as they come, and
//! at no time is more held in memory than the producer's window and a few blocks of input. Must not batch, retry or choose
//! partitions: the client library does. First step of the produce walk.

mod lines;

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use plimsoll::client::{Ack, Client, Delivery, ProduceError, Producer, Record};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::Shared;
use super::output::{Failure, Format, Out};
use lines::Lines;

/// Records sent whose acks are not printed yet, at most.
const UNPRINTED_MAX: usize = 65_536;
/// Errors told one by one; the rest is only counted.
const ERRORS_TOLD_MAX: u64 = 10;

/// Send records to a topic, one a line
///
/// Reads its input as it comes. An empty line is an empty record; bytes need not be UTF-8. With `-o json` each record is
/// answered by a line, in input order: {"partition","offset"} once it is on the disks of a majority, or {"error"}.
#[derive(Args)]
pub(crate) struct Produce {
    /// The topic
    topic: String,
    /// File to read; stdin if none is given
    file: Option<PathBuf>,
    /// Send everything to this partition, whatever the keys
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// Take what stands before the first C in a line as the record's key
    #[arg(long, value_name = "C", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_delimiter: Option<String>,
}

/// A record on its way.
struct Sent {
    /// Number of its line, from 1.
    line: u64,
    bytes: usize,
    delivery: Result<Delivery, ProduceError>,
}

#[derive(Serialize)]
struct Acked {
    partition: u32,
    offset: u64,
}

impl Produce {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        // Before the cluster is bothered: an unreadable file is the user's to mend.
        let (input, size) = self.input()?;
        super::with_client(shared, async |client| {
            self.produce(client, input, size, shared.output).await
        })
    }

    fn input(&self) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
        let Some(path) = &self.file else {
            return Ok((Box::new(io::stdin()), None));
        };
        let failed = |error| Failure::doing(format!("cannot read {}", path.display()))(error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
    }

    async fn produce(
        &self,
        client: &Client,
        input: Box<dyn Read + Send>,
        size: Option<u64>,
        format: Format,
    ) -> Result<(), Failure> {
        let producer = client.producer(&self.topic).build().await?;
        if let Some(partition) = self
            .partition
            .filter(|partition| *partition >= producer.partitions())
        {
            let partitions = producer.partitions();
            return Err(ProduceError::UnknownPartition {
                partition,
                partitions,
            }
            .into());
        }
        let mut lines = Lines::spawn(input)?;
        let (sent, acks) = mpsc::channel(UNPRINTED_MAX);
        let mut report = Report::new(format, size);
        let (read, reported) = {
            let mut sending = pin!(self.send_all(&producer, &mut lines, sent));
            let mut reporting = pin!(report.all(acks));
            tokio::select! {
                read = &mut sending => (read, reporting.await),
                // Before the input has ended: nobody reads the acks, so nobody wants more of them.
                reported = &mut reporting => (Ok(()), reported),
            }
        };
        report.end();
        // Each failure was reported with its record.
        let _ = producer.close().await;
        reported?;
        read.map_err(Failure::doing(format!(
            "reading the input failed after {} records",
            report.records
        )))?;
        if report.errors > 0 {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }

    /// Sends line after line until the input or the interest in acks ends.
    async fn send_all(
        &self,
        producer: &Producer,
        lines: &mut Lines,
        sent: mpsc::Sender<Sent>,
    ) -> io::Result<()> {
        let mut number = 0;
        while let Some(block) = lines.next().await? {
            for line in block.lines() {
                number += 1;
                let delivery = producer.send(self.record(line)).await;
                let record = Sent {
                    line: number,
                    bytes: line.len(),
                    delivery,
                };
                if sent.send(record).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn record<'a>(&self, line: &'a [u8]) -> Record<'a> {
        let (key, value) = self.split(line);
        let mut record = Record::value(value);
        if let Some(key) = key {
            record = record.key(key);
        }
        match self.partition {
            Some(partition) => record.partition(partition),
            None => record,
        }
    }

    /// Key and value of a line. A line without the delimiter has no key.
    fn split<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        let Some(delimiter) = self.key_delimiter.as_deref().map(str::as_bytes) else {
            return (None, line);
        };
        let mut windows = line.windows(delimiter.len());
        match windows.position(|window| window == delimiter) {
            Some(at) => (Some(&line[..at]), &line[at + delimiter.len()..]),
            None => (None, line),
        }
    }
}

/// Prints what became of each record, and how it all went.
struct Report {
    format: Format,
    out: Out,
    progress: ProgressBar,
    began: Instant,
    records: u64,
    /// Of the lines acknowledged, without their line ends.
    bytes: u64,
    errors: u64,
}

impl Report {
    fn new(format: Format, size: Option<u64>) -> Self {
        Self {
            format,
            out: Out::new(),
            progress: progress_bar(size),
            began: Instant::now(),
            records: 0,
            bytes: 0,
            errors: 0,
        }
    }

    /// Reports on everything sent, in that order. Ends early only if nobody reads the output any more.
    async fn all(&mut self, mut acks: mpsc::Receiver<Sent>) -> Result<(), Failure> {
        loop {
            let sent = match acks.try_recv() {
                Ok(sent) => sent,
                // Nothing to do but wait: show what there is first.
                Err(_) => {
                    self.out.flush()?;
                    match acks.recv().await {
                        Some(sent) => sent,
                        None => return self.out.flush(),
                    }
                }
            };
            let Sent {
                line,
                bytes,
                delivery,
            } = sent;
            let result = match delivery {
                Ok(mut delivery) => match ready(&mut delivery).await {
                    Some(result) => result,
                    None => {
                        self.out.flush()?;
                        delivery.await
                    }
                },
                Err(error) => Err(error),
            };
            self.one(line, bytes, &result)?;
        }
    }

    fn one(
        &mut self,
        line: u64,
        bytes: usize,
        result: &Result<Ack, ProduceError>,
    ) -> Result<(), Failure> {
        match result {
            Ok(_) => {
                self.records += 1;
                self.bytes += bytes as u64;
                self.progress.inc(bytes as u64 + 1);
            }
            Err(error) => {
                self.errors += 1;
                if self.errors <= ERRORS_TOLD_MAX {
                    self.progress
                        .suspend(|| eprintln!("plimsoll: line {line}: {error}"));
                }
            }
        }
        match (self.format, result) {
            (Format::Human, _) => Ok(()),
            (Format::Json, Ok(ack)) => self.out.json(&Acked {
                partition: ack.partition,
                offset: ack.offset,
            }),
            (Format::Json, Err(error)) => self.out.json(&json!({ "error": error.to_string() })),
        }
    }

    /// Says on stderr how it went, for a person.
    fn end(&self) {
        self.progress.finish_and_clear();
        if self.errors > 0 {
            eprintln!(
                "plimsoll: {} records were not acknowledged",
                HumanCount(self.errors)
            );
        }
        if self.format == Format::Human {
            let (records, bytes) = (HumanCount(self.records), HumanBytes(self.bytes));
            let seconds = self.began.elapsed().as_secs_f64();
            eprintln!("{records} records acknowledged, {bytes} in {seconds:.2} s");
        }
    }
}

/// The result of a delivery that is there already.
async fn ready(delivery: &mut Delivery) -> Option<Result<Ack, ProduceError>> {
    poll_fn(|context| match Pin::new(&mut *delivery).poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Shown on stderr if that is a terminal, and nobody types the records into the same terminal.
fn progress_bar(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() || (size.is_none() && io::stdin().is_terminal()) {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} acknowledged, {bytes_per_sec}",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(delimiter: Option<&str>) -> Produce {
        Produce {
            topic: "t".to_owned(),
            file: None,
            partition: None,
            key_delimiter: delimiter.map(str::to_owned),
        }
    }

    fn split<'a>(delimiter: Option<&str>, line: &'a str) -> (Option<&'a str>, &'a str) {
        let (key, value) = command(delimiter).split(line.as_bytes());
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        (key.map(text), text(value))
    }

    #[test]
    fn line_is_split_at_the_first_delimiter_only() {
        assert_eq!(split(Some(":"), "a:b:c"), (Some("a"), "b:c"));
        assert_eq!(split(Some("=>"), "a=b=>c"), (Some("a=b"), "c"));
    }

    #[test]
    fn line_without_delimiter_has_no_key() {
        assert_eq!(split(Some(":"), "abc"), (None, "abc"));
        assert_eq!(split(Some(":"), ""), (None, ""));
        assert_eq!(split(None, "a:b"), (None, "a:b"));
    }

    #[test]
    fn key_and_value_may_be_empty() {
        assert_eq!(split(Some(":"), ":v"), (Some(""), "v"));
        assert_eq!(split(Some(":"), "k:"), (Some("k"), ""));
    }
}
