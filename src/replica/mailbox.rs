//! What reaches the loop: owns the mails and the bounds, in bytes, at the senders' side.
//!
//! It must not know what the loop does with a mail. The queue itself has no limit, because everything
//! bulky in it holds a permit of a semaphore that has one.

use std::sync::Arc;
use std::time::Instant;

use segment_store::UnstampedRun;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::effects::Answer;
use super::jobs::DiskReport;
use super::open::OpenedGroup;
use super::status::GroupStatus;
use crate::raft::{Index, NodeId, Target};
use crate::wire::{ApiError, BatchHead, Envelope};

/// Where an answer goes; nobody may be waiting for it any more.
pub(crate) type ReplyTo = oneshot::Sender<Result<Answer, ApiError>>;

/// One thing for the loop.
pub(crate) enum Mail {
    /// A request of a caller on this node.
    Request {
        group: u64,
        request: Request,
        reply: ReplyTo,
        /// Held until the answer.
        permit: Option<OwnedSemaphorePermit>,
        arrived: Instant,
    },
    /// A message of a peer.
    Peer {
        from: NodeId,
        envelope: Envelope,
        /// Held until what it brought is durable.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// A peer cannot be reached.
    PeerUnreachable(NodeId),
    /// What a replica knows of itself.
    Status {
        group: u64,
        reply: oneshot::Sender<GroupStatus>,
    },
    /// A group whose files are open.
    Open(Box<OpenedGroup>),
    /// A group to be closed; answered once its files are.
    Close {
        group: u64,
        done: oneshot::Sender<()>,
    },
    /// What a disk thread has done.
    Disk(DiskReport),
    /// A run of frames is in memory now.
    Warmed {
        group: u64,
        peer: NodeId,
        first: Index,
    },
    /// A reader found that the group's log is damaged.
    Damaged { group: u64 },
    /// Hand over leaderships, finish the disk's work, close everything.
    Shutdown { done: oneshot::Sender<()> },
}

/// What a caller asks of a group.
pub(crate) enum Request {
    Produce {
        run: UnstampedRun,
        head: BatchHead,
        forward: bool,
    },
    Command {
        payload: Vec<u8>,
    },
    ReadIndex,
    Transfer {
        to: NodeId,
    },
    ChangeMembership {
        target: Target,
    },
}

/// Bytes that callers and peers may have in the loop and behind it.
#[derive(Clone, Copy, Debug)]
pub struct MailboxLimits {
    /// Bytes of proposals of this node's callers that are not answered yet.
    pub proposal_bytes_max: u64,
    /// Bytes of frames from peers that are not durable yet.
    pub peer_bytes_max: u64,
}

impl Default for MailboxLimits {
    fn default() -> MailboxLimits {
        MailboxLimits {
            proposal_bytes_max: 128 << 20,
            peer_bytes_max: 64 << 20,
        }
    }
}

/// The senders' side of the loop.
#[derive(Clone)]
pub(crate) struct Mailbox {
    mails: mpsc::UnboundedSender<Mail>,
    proposal_bytes: Arc<Semaphore>,
    peer_bytes: Arc<Semaphore>,
    limits: MailboxLimits,
}

impl Mailbox {
    /// Both ends.
    pub(crate) fn new(limits: MailboxLimits) -> (Mailbox, mpsc::UnboundedReceiver<Mail>) {
        let (mails, receiver) = mpsc::unbounded_channel();
        let semaphore = |bytes: u64| Arc::new(Semaphore::new(to_permits(bytes) as usize));
        let mailbox = Mailbox {
            mails,
            proposal_bytes: semaphore(limits.proposal_bytes_max),
            peer_bytes: semaphore(limits.peer_bytes_max),
            limits,
        };
        (mailbox, receiver)
    }

    /// Posts a mail that holds no bulk. False if the loop has ended.
    pub(crate) fn post(&self, mail: Mail) -> bool {
        self.mails.send(mail).is_ok()
    }

    /// Posts a request of `bytes`; refused while too many bytes wait already.
    pub(crate) fn request(
        &self,
        group: u64,
        request: Request,
        bytes: u64,
    ) -> Result<oneshot::Receiver<Result<Answer, ApiError>>, ApiError> {
        let permit = match bytes {
            0 => None,
            _ => {
                let permits = to_permits(bytes.min(self.limits.proposal_bytes_max));
                let taken = Arc::clone(&self.proposal_bytes).try_acquire_many_owned(permits);
                Some(taken.map_err(|_| ApiError::Overloaded)?)
            }
        };
        let (reply, answer) = oneshot::channel();
        let mail = Mail::Request {
            group,
            request,
            reply,
            permit,
            arrived: Instant::now(),
        };
        if self.post(mail) {
            Ok(answer)
        } else {
            Err(ApiError::ShuttingDown)
        }
    }

    /// Posts a peer's message; waits while too many bytes of peers are not durable yet. Messages
    /// without frames never wait.
    pub(crate) async fn deliver(&self, from: NodeId, envelope: Envelope) {
        let bytes: u64 = envelope.frames.iter().map(|run| run.len() as u64).sum();
        let permit = match bytes {
            0 => None,
            _ => {
                let permits = to_permits(bytes.min(self.limits.peer_bytes_max));
                let taken = Arc::clone(&self.peer_bytes).acquire_many_owned(permits);
                Some(taken.await.expect("the semaphore is never closed"))
            }
        };
        // After the loop has ended nobody needs the message.
        self.post(Mail::Peer {
            from,
            envelope,
            permit,
        });
    }
}

/// Semaphores count in 32 bits, so a permit stands for 64 bytes: the unit of frames.
fn to_permits(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(64)).unwrap_or(u32::MAX)
}
