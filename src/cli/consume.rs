//! `plimsoll consume`: the committed records of a topic on stdout.
//!
//! Owns how a record is printed, and how a place to start is written. Must not fetch, retry or check: the client library
//! does. Last step of the fetch walk.

mod place;
mod shown;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use clap::Args;
use plimsoll::client::{Batch, Client, ConsumeError, Consumer, Replica};

use plimsoll::wire::PartitionInfo;

use super::Shared;
use super::output::{Failure, Format, Out};
use place::Place;
use shown::Shown;

/// Print the records of a topic
///
/// Values come one a line, as they are; with `-o json` each record is a line {"topic","partition","offset","timestamp_ms",
/// "key","value","headers"}, in which bytes that are not UTF-8 appear as "key_base64" or "value_base64". A partition comes in the
/// order of its offsets; between partitions there is no order. Ends at what is committed now, unless it follows.
#[derive(Args)]
pub(crate) struct Consume {
    /// The topic
    topic: String,
    /// Read this partition only
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// Where to begin: start, end, an offset, or a time: 2026-11-21T08:00:00Z, 1795248000000ms (since 1970), -5m (ago; s, m, h, d)
    #[arg(
        long,
        value_name = "start|end|OFFSET|TIME",
        default_value = "start",
        allow_hyphen_values = true
    )]
    from: Place,
    /// Stop after N records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Wait for more at the end, until stopped
    #[arg(long)]
    follow: bool,
    /// Whom to read from: the leader of each partition, any replica, or the replica on one node
    #[arg(long, value_name = "leader|any|NODE", default_value = "leader", value_parser = replica)]
    replica: Replica,
}

impl Consume {
    pub(crate) fn run(self, shared: &Shared) -> Result<(), Failure> {
        super::with_client(shared, async |client| {
            self.consume(client, shared.output).await
        })
    }

    async fn consume(&self, client: &Client, format: Format) -> Result<(), Failure> {
        self.check_replica(client).await?;
        let mut builder = client
            .consumer(&self.topic)
            .from(self.from.now())
            .follow(self.follow)
            .replica(self.replica);
        if let Some(partition) = self.partition {
            builder = builder.partition(partition);
        }
        let mut consumer = builder.stream().await?;
        let mut out = Out::new();
        let mut left = self.max.unwrap_or(u64::MAX);
        let mut failed = false;
        while left > 0 {
            match next(&mut consumer, &mut out).await? {
                None => break,
                Some(Ok(batch)) => left -= self.print(&batch, left, format, &mut out)?,
                Some(Err(error)) => {
                    eprintln!("plimsoll: {error}");
                    failed = true;
                }
            }
        }
        out.flush()?;
        if failed {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }

    /// A node that holds no replica would be waited for in vain.
    async fn check_replica(&self, client: &Client) -> Result<(), Failure> {
        let Replica::Node(node) = self.replica else {
            return Ok(());
        };
        let topic = client.admin().describe_topic(&self.topic).await?;
        let wanted = |partition: &&PartitionInfo| {
            self.partition
                .is_none_or(|wanted| wanted == partition.partition)
        };
        let lacking = |partition: &PartitionInfo| !partition.replicas.contains(&node);
        match topic
            .partitions
            .iter()
            .filter(wanted)
            .find(|partition| lacking(partition))
        {
            None => Ok(()),
            Some(partition) => Err(Failure::Message(format!(
                "node {node} holds no replica of partition {}: its replicas are on the nodes {:?}",
                partition.partition, partition.replicas
            ))),
        }
    }

    /// Prints at most `max` records; says how many.
    fn print(
        &self,
        batch: &Batch,
        max: u64,
        format: Format,
        out: &mut Out,
    ) -> Result<u64, Failure> {
        let mut printed = 0;
        for record in batch
            .records()
            .take(usize::try_from(max).unwrap_or(usize::MAX))
        {
            match format {
                Format::Human => out.line(record.value.unwrap_or_default())?,
                Format::Json => out.json(&Shown {
                    topic: &self.topic,
                    partition: batch.partition(),
                    record,
                })?,
            }
            printed += 1;
        }
        Ok(printed)
    }
}

/// The next records; before it waits for them, it shows what was printed so far.
async fn next(
    consumer: &mut Consumer,
    out: &mut Out,
) -> Result<Option<Result<Batch, ConsumeError>>, Failure> {
    let mut batch = pin!(consumer.next_batch());
    let ready = poll_fn(|context| match batch.as_mut().poll(context) {
        Poll::Ready(batch) => Poll::Ready(Some(batch)),
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(batch) = ready.await {
        return Ok(batch);
    }
    out.flush()?;
    Ok(batch.await)
}

/// Reads the value of `--replica`.
pub(super) fn replica(text: &str) -> Result<Replica, String> {
    match text {
        "leader" => Ok(Replica::Leader),
        "any" => Ok(Replica::Any),
        node => match node.parse() {
            Ok(node) if node > 0 => Ok(Replica::Node(node)),
            _ => Err("it is leader, any, or the number of a node".to_owned()),
        },
    }
}
