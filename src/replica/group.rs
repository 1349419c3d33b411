//! Handles for the rest of the node: owns what other rooms call to write to a group, read it, or ask of it.
//!
//! It must not know how a request is served. Requests go to the loop through its mailbox; reads of the
//! watermark and of the log do not.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::Bytes;
use segment_store::{LogReader, UnstampedRun};
use tokio::sync::oneshot;

use super::StateMachine;
use super::effects::{Acked, Answer};
use super::error::OpenError;
use super::mailbox::{Mail, Mailbox, Request};
use super::open::Opener;
use super::repair::RepairStatus;
use super::repairs::RepairHandle;
use super::status::GroupStatus;
use super::watermark::Watermark;
use crate::raft::{Index, NodeId, Target};
use crate::wire::{ApiError, BatchHead, Envelope};

/// A group to be opened on this node.
pub struct GroupSpec {
    /// The group.
    pub group: u64,
    /// Voters the group was created with; the log knows better once it has a membership.
    pub voters: Vec<NodeId>,
    /// The other nodes that may hold a replica: where one that was on this node before, and left, looks for the log when it comes back.
    pub others: Vec<NodeId>,
    /// Whether the group has moved since it was created: then a replica without a folder is not one of those that it began with, whoever
    /// they were.
    pub moved: bool,
    /// The voter that should lead a young group: its first election timeout is the shortest.
    pub preferred: Option<NodeId>,
    /// What applies the commands, for group 0.
    pub state_machine: Option<Box<dyn StateMachine>>,
}

impl fmt::Debug for GroupSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupSpec")
            .field("group", &self.group)
            .field("voters", &self.voters)
            .field("preferred", &self.preferred)
            .finish_non_exhaustive()
    }
}

/// What is removed of a group that is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Nothing: it is opened again later.
    Nothing,
    /// The replica: the group lives on elsewhere, and may come back.
    Replica,
    /// All of it: the group is no more.
    Group,
}

/// One group on this node. Cheap to clone.
#[derive(Clone)]
pub struct Group {
    group: u64,
    mailbox: Mailbox,
    watermark: Watermark,
    reader: LogReader,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

impl Group {
    pub(crate) fn new(
        group: u64,
        mailbox: Mailbox,
        watermark: Watermark,
        reader: LogReader,
    ) -> Group {
        Group {
            group,
            mailbox,
            watermark,
            reader,
        }
    }

    /// The group's number.
    pub fn group(&self) -> u64 {
        self.group
    }

    /// Hands batches over, at once; the future resolves when they are committed, or cannot be. `head` is
    /// what [`crate::wire::check_batches`] gave for these frames and this group. Batches are taken in the
    /// order of the calls and acked in that order. With `forward`, a replica that does not lead passes
    /// the batch, of which there is one then, on to the leader; without, it answers [`ApiError::NotLeader`].
    ///
    /// Dropping the future does not take the batches back.
    pub fn submit(
        &self,
        run: impl Into<UnstampedRun>,
        head: BatchHead,
        forward: bool,
    ) -> Submitted {
        let run = run.into();
        let bytes = run.len_bytes() as u64;
        let request = Request::Produce { run, head, forward };
        Submitted(self.mailbox.request(self.group, request, bytes))
    }

    /// [`Group::submit`], and waits for the answer.
    ///
    /// # Errors
    /// Any [`ApiError`] of a produce. After a retriable one batches may still have been committed.
    pub async fn produce(
        &self,
        run: impl Into<UnstampedRun>,
        head: BatchHead,
        forward: bool,
    ) -> Result<Acked, ApiError> {
        self.submit(run, head, forward).await
    }

    /// Proposes a command to the state machine (through the leader) and returns its result.
    ///
    /// # Errors
    /// As of [`Group::produce`].
    pub async fn command(&self, payload: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let bytes = payload.len() as u64;
        let request = Request::Command { payload };
        match self.ask(request, bytes).await? {
            Answer::Applied(result) => Ok(result),
            other => unreachable!("a command was answered with {other:?}"),
        }
    }

    /// The end offset (exclusive) of the log such that every record acked before the call lies below
    /// it; confirmed by a majority, and readable here when this returns.
    ///
    /// # Errors
    /// [`ApiError::NotLeader`], [`ApiError::Unavailable`] or [`ApiError::Timeout`] if no leader confirms.
    pub async fn read_index(&self) -> Result<u64, ApiError> {
        match self.ask(Request::ReadIndex, 0).await? {
            Answer::ReadAt { high_watermark } => Ok(high_watermark),
            other => unreachable!("a read was answered with {other:?}"),
        }
    }

    /// Hands leadership to `to`; returns when `to` leads.
    ///
    /// # Errors
    /// [`ApiError::NotLeader`], [`ApiError::InvalidRequest`] if `to` is no other voter, or
    /// [`ApiError::Timeout`].
    pub async fn transfer(&self, to: NodeId) -> Result<(), ApiError> {
        match self.ask(Request::Transfer { to }, 0).await? {
            Answer::Transferred => Ok(()),
            other => unreachable!("a transfer was answered with {other:?}"),
        }
    }

    /// Makes the group what `target` says; returns the index of the entry that says so, once it is committed. Asking
    /// again for what is under way, or done, is no error.
    ///
    /// # Errors
    /// [`ApiError::NotLeader`]; [`ApiError::NotYet`] if another change is under way, a new voter has not caught up, or
    /// the leader is new; [`ApiError::InvalidRequest`] for what can never be. After [`ApiError::Timeout`],
    /// [`ApiError::Unavailable`] and [`ApiError::NotLeader`] the change may have been made, or be under way still.
    pub async fn change_membership(&self, target: Target) -> Result<Index, ApiError> {
        match self.ask(Request::ChangeMembership { target }, 0).await? {
            Answer::Changed { index } => Ok(index),
            other => unreachable!("a change of membership was answered with {other:?}"),
        }
    }

    /// What readers may see; kept up to date.
    pub fn watermark(&self) -> &Watermark {
        &self.watermark
    }

    /// Reads the log. What lies at or above the high watermark must not be shown to anyone.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// What the replica knows; `None` if the group is closed.
    pub async fn status(&self) -> Option<GroupStatus> {
        let (reply, answer) = oneshot::channel();
        let group = self.group;
        self.mailbox.post(Mail::Status { group, reply });
        answer.await.ok()
    }

    async fn ask(&self, request: Request, bytes: u64) -> Result<Answer, ApiError> {
        let answer = self.mailbox.request(self.group, request, bytes)?;
        answer.await.unwrap_or(Err(ApiError::ShuttingDown))
    }
}

/// The answer to batches that were handed over.
#[derive(Debug)]
pub struct Submitted(Result<oneshot::Receiver<Result<Answer, ApiError>>, ApiError>);

impl Future for Submitted {
    type Output = Result<Acked, ApiError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.0 {
            Ok(answer) => ready!(Pin::new(answer).poll(context)),
            Err(error) => return Poll::Ready(Err(error.clone())),
        };
        Poll::Ready(match answer {
            Ok(Ok(Answer::Acked(acked))) => Ok(acked),
            Ok(Ok(other)) => unreachable!("a batch was answered with {other:?}"),
            Ok(Err(error)) => Err(error),
            // The loop has ended: whether the batch was committed is not known.
            Err(_) => Err(ApiError::ShuttingDown),
        })
    }
}

/// Groups open on this node, for look-up without a lock.
pub(crate) type Registry = ArcSwap<HashMap<u64, Group>>;

/// All groups of this node. Cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    mailbox: Mailbox,
    registry: Arc<Registry>,
    opener: Arc<Opener>,
}

/// Entries that a replica lacks and another one has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The group.
    pub group: u64,
    /// First entry that is missing.
    pub first: u64,
    /// Last one (inclusive).
    pub last: u64,
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas").finish_non_exhaustive()
    }
}

impl Replicas {
    pub(crate) fn new(mailbox: Mailbox, registry: Arc<Registry>, opener: Arc<Opener>) -> Replicas {
        Replicas {
            mailbox,
            registry,
            opener,
        }
    }

    /// Opens a group, creating its folder if there is none, and starts its replica. The files are opened
    /// on a thread that may block.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is running then. After [`OpenError::Damaged`] the group is in repair: drive it with what
    /// [`Replicas::repair`] gives, call [`Replicas::end_repair`], and open it again.
    pub async fn open(&self, spec: GroupSpec) -> Result<Group, OpenError> {
        let group = spec.group;
        if !self.opener.claim(group) {
            return Err(OpenError::AlreadyOpen(group));
        }
        let opener = Arc::clone(&self.opener);
        let opened = tokio::task::spawn_blocking(move || {
            let opened = opener.open(spec);
            if opened.is_err() && opener.repairs().get(group).is_none() {
                opener.release(group);
            }
            opened
        });
        let opened = opened.await.map_err(|_| OpenError::ShuttingDown)??;
        let handle = Group::new(
            group,
            self.mailbox.clone(),
            opened.watermark.clone(),
            opened.files.log.reader(),
        );
        if !self.mailbox.post(Mail::Open(Box::new(opened))) {
            return Err(OpenError::ShuttingDown);
        }
        self.registry.rcu(|groups| {
            let mut groups = HashMap::clone(groups);
            groups.insert(group, handle.clone());
            groups
        });
        Ok(handle)
    }

    /// Closes a group, if it is open; then removes what is to be removed of it, open or not.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub async fn close(&self, group: u64, remove: Removal) -> Result<(), segment_store::Fault> {
        self.registry.rcu(|groups| {
            let mut groups = HashMap::clone(groups);
            groups.remove(&group);
            groups
        });
        let (done, closed) = oneshot::channel();
        if self.mailbox.post(Mail::Close { group, done }) {
            // An error means that the loop has ended and closed everything.
            let _ = closed.await;
        }
        self.opener.release(group);
        let opener = Arc::clone(&self.opener);
        let removed = tokio::task::spawn_blocking(move || match remove {
            Removal::Nothing => Ok(()),
            Removal::Replica => opener.leave(group),
            Removal::Group => opener.remove(group),
        });
        removed.await.unwrap_or(Ok(()))
    }

    /// The group, if it is open here.
    pub fn get(&self, group: u64) -> Option<Group> {
        self.registry.load().get(&group).cloned()
    }

    /// The repair of a group that is damaged here.
    pub fn repair(&self, group: u64) -> Option<Arc<RepairHandle>> {
        self.opener.repairs().get(group)
    }

    /// How far all repairs are.
    pub fn repairs(&self) -> Vec<RepairStatus> {
        self.opener.repairs().statuses()
    }

    /// The group's log is whole again, and may be opened; or it is given up with its folder.
    pub fn end_repair(&self, group: u64) {
        self.opener.repairs().end(group);
        self.opener.release(group);
    }

    /// Says that what was read of the group's log is not what was written. Whoever runs the node is told.
    pub fn report_damage(&self, group: u64) {
        self.mailbox.post(Mail::Damaged { group });
    }

    /// Has the group's log read byte by byte before it is opened the next time.
    pub fn distrust(&self, group: u64) {
        self.opener.repairs().distrust(group);
    }

    /// Frames that end with the last one wanted, from a replica that runs here or is damaged elsewhere; empty if it is not here. And
    /// the index up to which it knows everything to be committed. Blocks.
    ///
    /// # Errors
    /// What is here is damaged, too.
    pub fn read_for_repair(
        &self,
        wanted: Wanted,
        bytes_max: usize,
    ) -> Result<(Bytes, u64), segment_store::ReadError> {
        let Wanted { group, first, last } = wanted;
        if let Some(group) = self.get(group) {
            // Before the frames: what is committed now is read as it stays.
            let commit_index = group.watermark().commit_index();
            let frames = group.reader().read_before(first, last, bytes_max)?;
            return Ok((frames, commit_index));
        }
        match self.repair(group) {
            Some(repair) => Ok((repair.read_before(first, last, bytes_max)?, 0)),
            None => Ok((Bytes::new(), 0)),
        }
    }

    /// The groups open here, ascending.
    pub fn groups(&self) -> Vec<u64> {
        let mut groups: Vec<u64> = self.registry.load().keys().copied().collect();
        groups.sort_unstable();
        groups
    }

    /// Hands over what the peer `from` said; its certificate was checked. Waits while too many bytes of
    /// peers are not durable yet, so that the stream they come on is read no further. Envelopes without
    /// frames never wait: deliver heartbeats and votes from a task of their own.
    pub async fn deliver(&self, from: NodeId, envelopes: Vec<Envelope>) {
        for envelope in envelopes {
            self.mailbox.deliver(from, envelope).await;
        }
    }

    /// Says that the connection to `peer` broke, or that messages to it were dropped.
    pub fn peer_unreachable(&self, peer: NodeId) {
        self.mailbox.post(Mail::PeerUnreachable(peer));
    }

    /// Hands leaderships over, makes everything durable, closes all groups. Returns when that is done.
    pub async fn shutdown(&self) {
        let (done, ended) = oneshot::channel();
        if self.mailbox.post(Mail::Shutdown { done }) {
            // An error means that the loop has ended already.
            let _ = ended.await;
        }
        self.registry.store(Arc::new(HashMap::new()));
    }
}
