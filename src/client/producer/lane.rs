//! The way of one partition's batches to its leader: built, sent, sent again, settled.
//!
//! Owns the in-flight window, the sequence numbers and the stream to the leader, or to another replica that passes batches on
//! to a leader that cannot be reached from here. On the produce walk, between the batch being
//! full and its ack. One task for each partition of a producer; the window is sent again, in order, on each new stream, and
//! the cluster tells repeated batches from new ones by their sequence.

mod doubt;
mod verdict;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::debug;
use transport::{Connection, Limits, RecvHalf, SendError, SendHalf};

use self::doubt::Doubt;
use super::delivery::Outcome;
use super::pending::{Batch, Next, OnItsWay, Pending};
use crate::client::ClientError;
use crate::client::backoff::{Backoff, LEADERLESS_PAUSE_MAX};
use crate::client::link::{Cluster, Role, Unreached, Wanted};
use crate::wire::{
    ApiError, PRODUCE_MERGED_BYTES_MAX, PartitionInfo, ProducerStamp, REPLY_HEAD_BYTES_MAX,
    Request, encode_request,
};

/// How long a node that went away is not dialed again, while another may take over.
const AVOID_FOR: Duration = Duration::from_millis(500);
/// How long batches go by way of another replica before the leader is dialed again.
const FORWARD_FOR: Duration = Duration::from_secs(30);

/// Bytes of one partition on their way, above which no further batch is sent: some four milliseconds of what a cluster takes.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Bytes of all partitions of a producer on their way, above which each sends only one batch at a time: what is queued at nodes costs them memory,
/// and everybody time.
pub const PRODUCER_BYTES_MAX: usize = 8 << 20;
/// Bytes after which a write goes out, though more batches wait.
const WRITE_BYTES: usize = 128 << 10;

const LIMITS: Limits = Limits {
    head_bytes_max: REPLY_HEAD_BYTES_MAX,
    body_bytes_max: 0,
};

/// One partition's way to its leader.
pub(super) struct Lane {
    cluster: Arc<Cluster>,
    topic: String,
    group: u64,
    pending: Arc<Pending>,
    /// On their way, oldest first.
    window: VecDeque<InFlight>,
    /// How many of them, from the oldest on, have gone out on the present stream.
    sent: usize,
    /// Bytes of their frames.
    window_bytes: usize,
    /// Of the next batch to be built.
    stamp: ProducerStamp,
    /// A batch was given up: no batch may be built before the window is empty and a fresh id is there.
    needs_id: bool,
    correlation: u64,
    /// Batches before this one were sent before, on some stream: the cluster may have them.
    sent_before: u64,
    /// A node that went away, and until when it is avoided.
    avoid: Option<(u64, Instant)>,
    /// A node that could not be reached when it was last tried.
    unreachable: Option<u64>,
    backoff: Backoff,
    /// For the error message when time runs out.
    problem: String,
}

/// A batch on its way.
struct InFlight {
    correlation: u64,
    /// Batches that went out with it in one request, itself and those behind it; 0 if it is behind another.
    together: usize,
    records: u64,
    _on_its_way: OnItsWay,
    frame: Bytes,
    outcome: Arc<Outcome>,
    begun: Instant,
    bytes: usize,
}

/// A stream to the node that should lead, or to one that forwards to it.
struct Stream {
    node: u64,
    forward: bool,
    /// When to send no more by this way, and to look for a better one.
    until: Option<Instant>,
    send: SendHalf,
    recv: RecvHalf,
    doubt: Doubt,
}

/// Why a stream is of no more use.
enum Over {
    /// All is sent and acked, and nothing will come.
    Done,
    /// Go on at once with another stream.
    Again,
    /// Go on with another stream once somebody leads.
    Leaderless,
    /// Go on with another stream after a pause.
    Pause,
}

impl Lane {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        topic: String,
        partition: &PartitionInfo,
        id: (u64, u32),
        pending: Arc<Pending>,
    ) -> Self {
        Self {
            cluster,
            topic,
            group: partition.group,
            pending,
            window: VecDeque::new(),
            sent: 0,
            window_bytes: 0,
            stamp: ProducerStamp {
                id: id.0,
                epoch: id.1,
                first_sequence: 0,
            },
            needs_id: false,
            correlation: 1,
            sent_before: 1,
            avoid: None,
            unreachable: None,
            backoff: Backoff::new(),
            problem: String::from("no answer yet"),
        }
    }

    /// Sends what comes until the producer is closed and all is settled.
    pub(super) async fn run(mut self) {
        while self.wait_for_work().await {
            let over = match timeout_at(self.deadline(), self.connect()).await {
                Ok(Ok(mut stream)) => self.serve(&mut stream).await,
                Ok(Err(over)) => over,
                Err(_) => Over::Again,
            };
            self.expire();
            match over {
                Over::Done => return,
                Over::Again => {}
                Over::Leaderless => sleep(self.backoff.pause_up_to(LEADERLESS_PAUSE_MAX)).await,
                Over::Pause => sleep(self.backoff.pause()).await,
            }
        }
    }

    /// False once nothing waits and nothing will come.
    async fn wait_for_work(&self) -> bool {
        loop {
            if !self.window.is_empty() || self.pending.oldest().is_some() {
                return true;
            }
            if self.pending.is_done() {
                return false;
            }
            self.pending.bell().await;
        }
    }

    /// When the oldest batch is to be given up.
    fn deadline(&self) -> Instant {
        let oldest = self
            .window
            .front()
            .map(|batch| batch.begun)
            .or_else(|| self.pending.oldest());
        oldest.unwrap_or_else(Instant::now) + self.pending.settings.delivery_timeout
    }

    /// A stream to the leader, on which nothing is sent yet.
    async fn connect(&mut self) -> Result<Stream, Over> {
        if self.needs_id && self.window.is_empty() {
            let id = self
                .cluster
                .producer_id(self.pending.settings.delivery_timeout)
                .await;
            let (id, epoch) = id.map_err(|error| self.trouble(error.to_string()))?;
            self.stamp = ProducerStamp {
                id,
                epoch,
                first_sequence: 0,
            };
            self.needs_id = false;
        }
        let (node, forward) = self.way().await?;
        let (connection, send, recv) = self.open(node, forward).await?;
        if !forward {
            self.unreachable = None;
        }
        self.sent = 0;
        debug!(
            topic = self.topic,
            partition = self.pending.partition,
            node,
            forward,
            window = self.window.len(),
            "producing"
        );
        Ok(Stream {
            node,
            forward,
            until: forward.then(|| Instant::now() + FORWARD_FOR),
            send,
            recv,
            doubt: Doubt::new(connection),
        })
    }

    /// A stream to `node`, which leads or is to `forward`. One that does not answer is given up as soon as the others know better.
    async fn open(
        &mut self,
        node: u64,
        forward: bool,
    ) -> Result<(Connection, SendHalf, RecvHalf), Over> {
        let role = if forward { Role::Replica } else { Role::Leader };
        let (topic, group) = (self.topic.clone(), self.group);
        let wanted = Wanted { topic, group, role };
        match self.cluster.reach(node, &wanted).await {
            Ok(opened) => Ok(opened),
            Err(Unreached::Failed(failure)) => {
                self.unreachable = Some(node);
                Err(self.lost(node, &failure.to_string()))
            }
            Err(Unreached::Elsewhere) if forward => {
                Err(self.trouble(format!("node {node} does not answer")))
            }
            Err(Unreached::Elsewhere) => {
                self.lost(node, "it does not answer, and another leads");
                Err(Over::Again)
            }
        }
    }

    /// The node to send to: who leads, as far as can be learned now, or one that is to forward (then true), if the leader
    /// cannot be reached from here.
    async fn way(&mut self) -> Result<(u64, bool), Over> {
        let avoid = self
            .avoid
            .filter(|(_, until)| Instant::now() < *until)
            .map(|(node, _)| node);
        if let Some(leader) = self
            .cluster
            .leader(self.group)
            .filter(|leader| Some(*leader) != avoid)
        {
            return Ok((leader, false));
        }
        let mut replicas = Vec::new();
        match self.cluster.refresh(&self.topic, avoid).await {
            Ok(topic) => {
                let mine = topic
                    .partitions
                    .iter()
                    .find(|info| info.partition == self.pending.partition);
                let group = mine.map(|info| info.group).ok_or_else(|| self.gone())?;
                if group != self.group {
                    // Deleted and made anew: what was built is for the old one.
                    let over = self.gone();
                    self.group = group;
                    return Err(over);
                }
                replicas.extend(mine.iter().flat_map(|info| &info.replicas).copied());
            }
            Err(ClientError::Refused(ApiError::UnknownTopic)) => return Err(self.gone()),
            Err(error) => return Err(self.trouble(error.to_string())),
        }
        match self.cluster.leader(self.group) {
            Some(leader) if Some(leader) != avoid => Ok((leader, false)),
            // The others still hear it, and we do not.
            Some(leader) if self.unreachable == Some(leader) => {
                replicas.retain(|replica| *replica != leader);
                let relay = fastrand::choice(replicas);
                relay
                    .map(|relay| (relay, true))
                    .ok_or_else(|| self.trouble(format!("node {leader} cannot be reached")))
            }
            _ => {
                self.trouble(String::from("the partition has no leader"));
                Err(Over::Leaderless)
            }
        }
    }

    /// Sends and receives until the stream is of no more use.
    async fn serve(&mut self, stream: &mut Stream) -> Over {
        loop {
            let mut wake_at = self.deadline().min(stream.doubt.ask_at);
            if stream.until.is_some_and(|until| Instant::now() >= until) {
                if self.window.is_empty() {
                    return Over::Again;
                }
            } else {
                match self.admit() {
                    ControlFlow::Break(over) => return over,
                    ControlFlow::Continue(Some(due)) => wake_at = wake_at.min(due),
                    ControlFlow::Continue(None) => {}
                }
            }
            if self.sent < self.window.len() {
                if let ControlFlow::Break(over) = self.send(stream).await {
                    return over;
                }
                continue;
            }
            let idle = self.window.is_empty() && self.pending.oldest().is_none();
            tokio::select! {
                biased;
                received = stream.recv.recv(&LIMITS) => {
                    if let ControlFlow::Break(over) = self.receive(stream.node, received) {
                        return over;
                    }
                    stream.doubt.put_off();
                }
                () = self.pending.bell(), if self.has_room() => {}
                () = sleep_until(wake_at), if !idle => {
                    if let ControlFlow::Break(over) = self.look_around(stream).await {
                        return over;
                    }
                }
            }
        }
    }

    /// Whether one more batch may be on its way. More bytes than fill the pipe would only wait at the nodes instead of here.
    /// An empty window has room in any case, so that no lane waits for the acks of another.
    fn has_room(&self) -> bool {
        self.window.is_empty()
            || self.window.len() < self.pending.settings.in_flight
                && self.window_bytes < IN_FLIGHT_BYTES_MAX
                && self.pending.in_flight() < PRODUCER_BYTES_MAX
    }

    /// Builds batches that are due while the window has room. Gives the time to look again, if there is one.
    fn admit(&mut self) -> ControlFlow<Over, Option<Instant>> {
        if self.needs_id {
            return if self.window.is_empty() {
                ControlFlow::Break(Over::Again)
            } else {
                ControlFlow::Continue(None)
            };
        }
        while self.has_room() {
            match self.pending.next() {
                Next::Batch(batch) => self.build(batch),
                Next::At(due) => return ControlFlow::Continue(Some(due)),
                Next::Closed if self.window.is_empty() => return ControlFlow::Break(Over::Done),
                Next::Idle | Next::Closed => break,
            }
        }
        ControlFlow::Continue(None)
    }

    fn build(&mut self, batch: Batch) {
        let records = batch.builder.record_count() as u64;
        let frame = batch
            .builder
            .build(self.stamp, self.group, self.pending.settings.compression);
        self.stamp.first_sequence += records;
        let correlation = self.correlation;
        self.correlation += 1;
        let (outcome, begun, bytes) = (batch.outcome, batch.begun, batch.bytes);
        self.window_bytes += frame.len();
        self.window.push_back(InFlight {
            correlation,
            together: 1,
            records,
            _on_its_way: self.pending.on_its_way(frame.len()),
            frame,
            outcome,
            begun,
            bytes,
        });
    }

    /// Sends what of the window has not gone out on this stream, many small batches in one write, taking in acks meanwhile.
    async fn send(&mut self, stream: &mut Stream) -> ControlFlow<Over> {
        if self.sent == 0 {
            stream.doubt.put_off();
        }
        let (node, give_up) = (stream.node, self.deadline());
        let mut bytes = 0;
        while self.sent < self.window.len() && bytes < WRITE_BYTES {
            match self.gather(stream) {
                Ok(gathered) => bytes += gathered,
                Err(error) => return ControlFlow::Break(self.lost(node, &error)),
            }
        }
        let mut sending = pin!(stream.send.flush_in_turn());
        loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    return match sent {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(SendError::Lost(lost)) => ControlFlow::Break(self.cut_off(node, &lost)),
                        Err(error) => ControlFlow::Break(self.lost(node, &error.to_string())),
                    };
                }
                received = stream.recv.recv(&LIMITS) => {
                    self.receive(node, received)?;
                    stream.doubt.put_off();
                }
                () = sleep_until(stream.doubt.ask_at.min(give_up)) => {
                    self.suspect(node, stream.forward, &mut stream.doubt).await?;
                }
            }
        }
    }

    /// Adds a request to what goes out next: the first batch that has not gone out on this stream, and the small ones behind it. What
    /// was sent before goes alone, for of that the cluster may have any part. Gives the bytes of it.
    fn gather(&mut self, stream: &mut Stream) -> Result<usize, String> {
        let first = self.sent;
        let correlation = self.window[first].correlation;
        let (mut count, mut bytes) = (0, 0);
        for batch in self.window.range_mut(first..) {
            let may_join = batch.correlation >= self.sent_before && !stream.forward;
            let fits = bytes + batch.frame.len() <= PRODUCE_MERGED_BYTES_MAX;
            if !(count == 0 || may_join && fits) {
                break;
            }
            batch.together = 0;
            bytes += batch.frame.len();
            count += 1;
        }
        let (kind, head) = encode_request(&Request::Produce {
            correlation,
            group: self.group,
            forward: stream.forward,
        });
        self.sent += count;
        self.window[first].together = count;
        self.sent_before = self.sent_before.max(correlation + count as u64);
        let frames = self.window.range(first..first + count);
        let frames = frames.map(|batch| &batch.frame);
        let gathered = stream.send.gather(kind, &head, bytes, frames);
        gathered.map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Time has passed: gives up what is too old, and wonders about a leader that is silent.
    async fn look_around(&mut self, stream: &mut Stream) -> ControlFlow<Over> {
        if self.window.is_empty() {
            stream.doubt.put_off();
        }
        if Instant::now() < self.deadline().min(stream.doubt.ask_at) {
            return ControlFlow::Continue(());
        }
        self.suspect(stream.node, stream.forward, &mut stream.doubt)
            .await
    }

    /// The leader owes an ack and is silent: is there another leader? A node that forwards tells so itself.
    async fn suspect(&mut self, node: u64, forward: bool, doubt: &mut Doubt) -> ControlFlow<Over> {
        if Instant::now() >= self.deadline() {
            self.expire();
            return ControlFlow::Break(Over::Again);
        }
        if forward {
            doubt.put_off();
            return ControlFlow::Continue(());
        }
        let asked = self.cluster.ask_others(&self.topic, node).await;
        doubt.ask_at = Instant::now() + self.backoff.pause_up_to(LEADERLESS_PAUSE_MAX);
        match asked.and_then(|_| self.cluster.leader(self.group)) {
            Some(leader) if leader != node => {
                self.lost(node, "it fell silent, and another leads");
                return ControlFlow::Break(Over::Again);
            }
            Some(_) if doubt.is_silent() => self.cluster.dial_beside(node, &doubt.connection),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
