//! What nodes tell each other: envelopes of raft messages and forwarded proposals, with the frames they speak of.
//!
//! Owns the mirror of the raft core's messages on the wire. Walks: append, elections, reads, forwarded produces. Knows the
//! core's types, not what they cause; frames are carried beside the head, untouched and uncopied.
//!
//! One message holds the envelopes of many groups. Its head lists them; its body is their frames, one behind the other.

use bytes::Bytes;
use rkyv::{Archive, Deserialize, Serialize};

use super::WireError;
use super::error::ApiError;
use super::head::{at_most, kind, open, seal};
use super::mirror::{ArchivedContentMirror, ContentMirror};
use super::reply::check_error;
use crate::raft::{MEMBERS_MAX, Message, NodeId};

/// What one group's replica on one node has for the same group's replica on another.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The group.
    pub group: u64,
    /// What is said.
    pub content: Content,
    /// The frames it speaks of, in order, in runs of whole frames: an append's entries, or the proposal forwarded. For an
    /// install, the piece of the state.
    pub frames: Vec<Bytes>,
}

/// What an envelope says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// From core to core.
    Raft(Message),
    /// A proposal on its way to the leader: one unstamped frame.
    Forward {
        /// Given back with the answer.
        token: u64,
    },
    /// What became of a proposal.
    ForwardReply {
        /// As the forward said.
        token: u64,
        /// Where it stands, committed; or why not.
        result: Result<ForwardAck, ApiError>,
    },
    /// The node is alive, whatever its groups do or leave undone. The envelope's group means nothing.
    Beat {
        /// Another number than before says: whoever rested on this node is to look for itself.
        life: u64,
    },
}

/// A forwarded proposal is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct ForwardAck {
    /// Its index.
    pub index: u64,
    /// Offset of its first record.
    pub base_offset: u64,
    /// What the state machine answered to a command; empty for records.
    pub result: Vec<u8>,
}

/// How much one message between nodes may hold. Checked before anything is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCaps {
    /// Longest head, in bytes.
    pub head_bytes_max: usize,
    /// Longest body, in bytes.
    pub body_bytes_max: usize,
    /// Most envelopes.
    pub envelopes_max: usize,
    /// Most runs of frames in one envelope.
    pub frames_max: usize,
    /// Most term runs in one append.
    pub term_runs_max: usize,
    /// Most nodes in one membership, and memberships in one append.
    pub members_max: usize,
    /// Longest answer of a state machine, in bytes.
    pub result_bytes_max: usize,
}

impl Default for PeerCaps {
    fn default() -> Self {
        Self {
            head_bytes_max: 4 << 20,
            body_bytes_max: 32 << 20,
            envelopes_max: 65_536,
            frames_max: 65_536,
            term_runs_max: 65_536,
            members_max: MEMBERS_MAX,
            result_bytes_max: 1 << 20,
        }
    }
}

#[derive(Archive, Serialize, Deserialize)]
struct Head {
    sender: u64,
    envelopes: Vec<EnvelopeMirror>,
}

#[derive(Archive, Serialize, Deserialize)]
struct EnvelopeMirror {
    group: u64,
    content: ContentMirror,
    frame_lens: Vec<u32>,
}

/// Kind byte, head and body of a message that carries `envelopes` from `sender`. The body's chunks are the envelopes'
/// frames themselves.
///
/// # Panics
/// If a run of frames is 4 GiB or longer.
pub fn encode_envelopes(sender: NodeId, envelopes: &[Envelope]) -> (u8, Vec<u8>, Vec<Bytes>) {
    let len_of = |run: &Bytes| {
        u32::try_from(run.len()).expect("a run of frames is bounded by the send window")
    };
    let mirror = |envelope: &Envelope| EnvelopeMirror {
        group: envelope.group,
        content: ContentMirror::from(&envelope.content),
        frame_lens: envelope.frames.iter().map(len_of).collect(),
    };
    let head = Head {
        sender,
        envelopes: envelopes.iter().map(mirror).collect(),
    };
    let body = envelopes
        .iter()
        .flat_map(|envelope| envelope.frames.iter().cloned())
        .collect();
    (kind::ENVELOPES, seal(&head), body)
}

/// Reads envelopes back; their frames are slices of `body`. The frames themselves are not looked into. The caller compares
/// the sender with the certificate it came under.
///
/// # Errors
/// [`WireError`] for another kind or version, anything over `caps`, an archive that does not validate, or lengths that do
/// not add up to the body.
pub fn decode_envelopes(
    kind: u8,
    head: &[u8],
    mut body: Bytes,
    caps: &PeerCaps,
) -> Result<(NodeId, Vec<Envelope>), WireError> {
    at_most("body", body.len(), caps.body_bytes_max)?;
    let head = open::<Head>(
        kind,
        self::kind::ENVELOPES,
        head,
        caps.head_bytes_max,
        |head| check(head, body.len(), caps),
    )?;
    let envelope = |mirror: EnvelopeMirror| Envelope {
        group: mirror.group,
        content: mirror.content.into(),
        frames: mirror
            .frame_lens
            .iter()
            .map(|len| body.split_to(*len as usize))
            .collect(),
    };
    Ok((
        head.sender,
        head.envelopes.into_iter().map(envelope).collect(),
    ))
}

fn check(head: &ArchivedHead, body_len: usize, caps: &PeerCaps) -> Result<(), WireError> {
    at_most(
        "list of envelopes",
        head.envelopes.len(),
        caps.envelopes_max,
    )?;
    let mut expected = 0_u64;
    for envelope in head.envelopes.iter() {
        at_most("list of frames", envelope.frame_lens.len(), caps.frames_max)?;
        expected += envelope
            .frame_lens
            .iter()
            .map(|len| u64::from(len.to_native()))
            .sum::<u64>();
        match &envelope.content {
            ArchivedContentMirror::Append(append) => append.check(caps)?,
            ArchivedContentMirror::Install(install) => install.check(caps)?,
            ArchivedContentMirror::Forwarded { ack, .. } => {
                at_most("result", ack.result.len(), caps.result_bytes_max)?;
            }
            ArchivedContentMirror::ForwardFailed { error, .. } => check_error(error)?,
            _ => {}
        }
    }
    if expected == body_len as u64 {
        Ok(())
    } else {
        Err(WireError::BodyLength {
            len: body_len,
            expected,
        })
    }
}

#[cfg(test)]
mod tests;
