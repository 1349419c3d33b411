//! Entries asked of another node because they are damaged here, and given to one that lacks them: a question and an answer on a stream of
//! its own, behind everything else.
//!
//! Must not know which frames are the right ones: whoever repairs has the proof. On the repair walk.

use std::time::Duration;

use transport::{Connection, Limits, SendHalf};

use super::Peers;
use super::dial::StreamEnd;
use crate::replica::{REPAIR_BYTES, RepairAnswer, Wanted};
use crate::wire::{HELLO_HEAD_BYTES_MAX, StreamHello, decode_frames, encode_frames, encode_hello};

/// Everything else goes first.
const REPAIR_PRIORITY: i32 = -10;
/// How long a peer may take to answer: it may have to read from a slow disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Peers {
    /// The other nodes, any of which may have what is damaged here.
    pub(in crate::server) fn others(&self) -> Vec<u64> {
        self.others.load().keys().copied().collect()
    }

    /// Asks `node` for entries that are damaged here.
    pub(in crate::server) async fn frames_of(&self, node: u64, wanted: Wanted) -> RepairAnswer {
        let hello = hello_of(wanted);
        let connection = self.peer(node).and_then(|peer| peer.current(hello));
        let Some(connection) = connection else {
            return RepairAnswer::Silence;
        };
        match tokio::time::timeout(ANSWER_WITHIN, self.ask_for_frames(&connection, wanted)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(peer = node, group = wanted.group, %error, "a peer did not say whether it has what is damaged here");
                RepairAnswer::Silence
            }
            Err(_) => RepairAnswer::Silence,
        }
    }

    async fn ask_for_frames(
        &self,
        connection: &Connection,
        wanted: Wanted,
    ) -> Result<RepairAnswer, StreamEnd> {
        let (mut send, mut recv) = connection.open_bi(REPAIR_PRIORITY).await?;
        let (kind, head) = encode_hello(&hello_of(wanted));
        send.send(kind, &head, &mut []).await?;
        send.finish();
        let limits = Limits {
            head_bytes_max: HELLO_HEAD_BYTES_MAX,
            body_bytes_max: self.limits().body_bytes_max,
        };
        let message = recv
            .recv(&limits)
            .await?
            .ok_or_else(|| StreamEnd::Gone("ended without an answer".into()))?;
        let (_, commit_index) = decode_frames(message.kind, &message.head)?;
        let frames = message.body.freeze();
        Ok(match commit_index >= wanted.last {
            true => RepairAnswer::Committed(frames),
            false => RepairAnswer::Frames(frames),
        })
    }

    /// Answers a node that lacks entries, with what is here of them.
    pub(super) async fn give_frames(
        &self,
        peer: u64,
        wanted: Wanted,
        mut send: SendHalf,
    ) -> StreamEnd {
        // Few at a time: each holds up to a frame in memory and a thread that reads the disk.
        let Ok(_permit) = self.giving.acquire().await else {
            return StreamEnd::Gone("the node is going down".into());
        };
        let replicas = self.replicas().clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = replicas.read_for_repair(wanted, REPAIR_BYTES);
            if let Err(error) = &read
                && error.is_damage()
            {
                replicas.report_damage(wanted.group);
            }
            read
        });
        let (frames, commit_index) = match read.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!(peer, group = wanted.group, %error, "what another node lacks is damaged here, too");
                (bytes::Bytes::new(), 0)
            }
            Err(_) => return StreamEnd::Gone("the reading ended unexpectedly".into()),
        };
        let (kind, head) = encode_frames(wanted.group, commit_index);
        match send.send(kind, &head, &mut [frames]).await {
            Ok(()) => {
                send.finish();
                send.stopped().await.into()
            }
            Err(error) => error.into(),
        }
    }
}

fn hello_of(wanted: Wanted) -> StreamHello {
    StreamHello::Repair {
        group: wanted.group,
        first: wanted.first,
        last: wanted.last,
    }
}
