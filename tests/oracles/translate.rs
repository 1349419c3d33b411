//! What cores of ours say, in the words of the other Raft, and back.
//!
//! Owns the dictionary. Three words differ:
//! - Our acknowledgement names its entry by (index, term), theirs by index alone: whoever sends one of theirs fills in the term it
//!   has there (`log_term`, which theirs leave at 0).
//! - Our heartbeats count rounds, theirs carry a context that the answer brings back: our round travels as the context, and theirs
//!   get a round of their own ([`Rounds`]).
//! - `ReadIndexReply { index: None }` has no word there: silence says the same.

use std::collections::BTreeMap;

use plimsoll::raft::{Append, AppendOutcome, Index, LogId, Membership, Message, NodeId, Run, Term};
use raft_rs::eraftpb::{Entry as TheirEntry, Message as Wire, MessageType};

use crate::disk::{Entry, Payload};

/// Context of a vote that a leader has asked for; the other crate keeps the word to itself.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// Answered contexts that are kept.
const ROUNDS_MAX: usize = 256;

/// The contexts of heartbeats, by the round they were given here.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    contexts: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

impl Rounds {
    fn of(&mut self, context: &[u8]) -> u64 {
        self.last += 1;
        self.contexts.insert(self.last, context.to_vec());
        if self.contexts.len() > ROUNDS_MAX {
            self.contexts.pop_first();
        }
        self.last
    }

    fn context(&self, round: u64) -> Vec<u8> {
        self.contexts.get(&round).cloned().unwrap_or_default()
    }
}

pub(crate) fn payload_bytes(payload: &Payload) -> Vec<u8> {
    let mut bytes = Vec::new();
    match payload {
        Payload::Noop => {}
        Payload::Data(data) => bytes.extend(data.to_be_bytes()),
        Payload::Membership(membership) => {
            let lists = [
                &membership.voters,
                &membership.voters_outgoing,
                &membership.learners,
            ];
            for list in lists {
                bytes.push(u8::try_from(list.len()).unwrap());
                list.iter()
                    .for_each(|node| bytes.extend(node.to_be_bytes()));
            }
        }
    }
    bytes
}

pub(crate) fn payload(bytes: &[u8]) -> Payload {
    if bytes.is_empty() {
        return Payload::Noop;
    }
    if let Ok(data) = bytes.try_into() {
        return Payload::Data(u64::from_be_bytes(data));
    }
    let mut rest = bytes;
    let mut list = || {
        let (count, after) = rest.split_first().unwrap();
        let (nodes, after) = after.split_at(usize::from(*count) * 8);
        rest = after;
        let node = |bytes: &[u8]| NodeId::from_be_bytes(bytes.try_into().unwrap());
        nodes.chunks(8).map(node).collect::<Vec<_>>()
    };
    Payload::Membership(Membership {
        voters: list(),
        voters_outgoing: list(),
        learners: list(),
    })
}

pub(crate) fn their_entry(index: Index, entry: &Entry) -> TheirEntry {
    TheirEntry {
        index,
        term: entry.term,
        data: payload_bytes(&entry.payload).into(),
        ..TheirEntry::default()
    }
}

pub(crate) fn our_entry(entry: &TheirEntry) -> Entry {
    Entry {
        term: entry.term,
        payload: payload(&entry.data),
    }
}

fn wire(from: NodeId, to: NodeId, kind: MessageType, term: Term) -> Wire {
    let mut wire = Wire::default();
    wire.set_msg_type(kind);
    wire.from = from;
    wire.to = to;
    wire.term = term;
    wire
}

/// The entry that carries a read's token.
fn token_entry(token: u64) -> Vec<TheirEntry> {
    let entry = TheirEntry {
        data: token.to_be_bytes().to_vec().into(),
        ..TheirEntry::default()
    };
    vec![entry]
}

fn token_of(wire: &Wire) -> Option<u64> {
    let entry = wire.entries.first()?;
    Some(u64::from_be_bytes(entry.data.as_ref().try_into().ok()?))
}

/// What a core of ours says, with the entries of an `Append`. `None`: there is no word for it.
pub(crate) fn to_wire(
    from: NodeId,
    to: NodeId,
    message: &Message,
    entries: &[Entry],
    rounds: &Rounds,
) -> Option<Wire> {
    use MessageType as Kind;
    let term = message.term();
    let of = |kind| wire(from, to, kind, term);
    let asking = |kind, last: LogId| {
        let mut wire = of(kind);
        (wire.index, wire.log_term) = (last.index, last.term);
        wire
    };
    let answering = |kind, granted: bool| {
        let mut wire = of(kind);
        wire.reject = !granted;
        wire
    };
    Some(match message {
        Message::PreVote { last, .. } => asking(Kind::MsgRequestPreVote, *last),
        Message::Vote { last, transfer, .. } => {
            let mut wire = asking(Kind::MsgRequestVote, *last);
            if *transfer {
                wire.context = CAMPAIGN_TRANSFER.to_vec().into();
            }
            wire
        }
        Message::PreVoteReply { granted, .. } => {
            answering(Kind::MsgRequestPreVoteResponse, *granted)
        }
        Message::VoteReply { granted, .. } => answering(Kind::MsgRequestVoteResponse, *granted),
        Message::Append(append) => {
            append_to_wire(asking(Kind::MsgAppend, append.prev), append, entries)
        }
        Message::AppendReply { outcome, .. } => {
            outcome_to_wire(of(Kind::MsgAppendResponse), outcome)
        }
        Message::Heartbeat { commit, round, .. } => {
            let mut wire = of(Kind::MsgHeartbeat);
            wire.commit = *commit;
            wire.context = round.to_be_bytes().to_vec().into();
            wire
        }
        Message::HeartbeatReply { round, .. } => {
            let mut wire = of(Kind::MsgHeartbeatResponse);
            wire.context = rounds.context(*round).into();
            wire
        }
        Message::ReadIndex { token, .. } => {
            let mut wire = of(Kind::MsgReadIndex);
            wire.set_entries(token_entry(*token).into());
            wire
        }
        Message::ReadIndexReply { token, index, .. } => {
            let mut wire = of(Kind::MsgReadIndexResp);
            wire.index = (*index)?;
            wire.set_entries(token_entry(*token).into());
            wire
        }
        Message::TimeoutNow { .. } => of(Kind::MsgTimeoutNow),
        #[allow(
            unreachable_patterns,
            reason = "words that the other Raft does not have"
        )]
        _ => return None,
    })
}

fn append_to_wire(mut wire: Wire, append: &Append, entries: &[Entry]) -> Wire {
    wire.commit = append.commit;
    let numbered = (append.prev.index + 1..).zip(entries);
    let entries = numbered.map(|(index, entry)| their_entry(index, entry));
    wire.set_entries(entries.collect());
    wire
}

fn outcome_to_wire(mut wire: Wire, outcome: &AppendOutcome) -> Wire {
    match *outcome {
        AppendOutcome::Accepted { matched, commit } => {
            (wire.index, wire.log_term) = (matched.index, matched.term);
            wire.commit = commit;
        }
        AppendOutcome::Rejected {
            prev_index,
            hint,
            last_index,
        } => {
            wire.reject = true;
            wire.index = prev_index;
            wire.reject_hint = prev_index.min(last_index);
            wire.log_term = hint.term;
        }
    }
    wire
}

/// What `wire` says to a core of ours, and the entries of an `Append`. `None`: there is no word for it.
pub(crate) fn from_wire(wire: &Wire, rounds: &mut Rounds) -> Option<(Message, Vec<Entry>)> {
    use MessageType as Kind;
    let (term, granted) = (wire.term, !wire.reject);
    let last = LogId {
        term: wire.log_term,
        index: wire.index,
    };
    let message = match wire.get_msg_type() {
        Kind::MsgRequestPreVote => Message::PreVote { term, last },
        Kind::MsgRequestPreVoteResponse => Message::PreVoteReply {
            term,
            granted,
            conditional: false,
        },
        Kind::MsgRequestVote => Message::Vote {
            term,
            last,
            transfer: wire.context == CAMPAIGN_TRANSFER,
        },
        Kind::MsgRequestVoteResponse => Message::VoteReply {
            term,
            granted,
            conditional: false,
        },
        Kind::MsgAppend => return Some(append_from_wire(wire)),
        Kind::MsgAppendResponse if granted => Message::AppendReply {
            term,
            outcome: AppendOutcome::Accepted {
                matched: last,
                commit: wire.commit,
            },
        },
        Kind::MsgAppendResponse => Message::AppendReply {
            term,
            outcome: AppendOutcome::Rejected {
                prev_index: wire.index,
                hint: LogId {
                    term: wire.log_term,
                    index: wire.reject_hint,
                },
                last_index: wire.reject_hint,
            },
        },
        Kind::MsgHeartbeat => Message::Heartbeat {
            term,
            commit: wire.commit,
            round: rounds.of(&wire.context),
        },
        Kind::MsgHeartbeatResponse => {
            let round = wire
                .context
                .as_ref()
                .try_into()
                .map_or(0, u64::from_be_bytes);
            Message::HeartbeatReply { term, round }
        }
        Kind::MsgReadIndex => Message::ReadIndex {
            term,
            token: token_of(wire)?,
        },
        Kind::MsgReadIndexResp => Message::ReadIndexReply {
            term,
            token: token_of(wire)?,
            index: Some(wire.index),
        },
        Kind::MsgTimeoutNow => Message::TimeoutNow { term },
        _ => return None,
    };
    Some((message, Vec::new()))
}

fn append_from_wire(wire: &Wire) -> (Message, Vec<Entry>) {
    let entries: Vec<Entry> = wire.entries.iter().map(our_entry).collect();
    let mut runs: Vec<Run> = Vec::new();
    let mut memberships = Vec::new();
    for (index, entry) in (wire.index + 1..).zip(&entries) {
        if runs.last().is_none_or(|run| run.term != entry.term) {
            runs.push(Run {
                first: index,
                term: entry.term,
            });
        }
        if let Payload::Membership(membership) = &entry.payload {
            memberships.push((index, membership.clone()));
        }
    }
    let append = Append {
        term: wire.term,
        prev: LogId {
            term: wire.log_term,
            index: wire.index,
        },
        runs,
        last_index: wire.index + entries.len() as u64,
        memberships,
        commit: wire.commit,
    };
    (Message::Append(append), entries)
}
