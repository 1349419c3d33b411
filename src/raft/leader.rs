//! The leader's side of replication (sections 5.3 and 5.4.2): what to send to whom, when to commit, when to give up.
//!
//! Owns pacing and commitment. It must not know payloads: the shell picks frames for a plan and reports what it picked.
//! On the walk produce. The leader's own disk is one voter among others, and it may be the last of them.

use std::collections::BTreeMap;

use super::change::Pace;
use super::core::{Part, Raft};
use super::mutation;
use super::progress::{PeerView, Progress};
use super::quorum;
use super::rest::Rest;
use super::transfer::Transfer;
use super::{
    Append, AppendOutcome, AppendPlan, Effect, Index, LogId, Message, Millis, NodeId, NotLeader,
    OwnEntry, ProgressState,
};

/// What a leader keeps for its term.
#[derive(Debug)]
pub(super) struct Leading {
    /// All other members of the membership in force, voters and learners.
    pub(super) peers: BTreeMap<NodeId, Progress>,
    /// Index of the no-op that opened the term: nothing of this term is committed before it is.
    pub(super) first_of_term: Index,
    /// Latest heartbeat round begun; rounds of a term count from 1.
    pub(super) round: u64,
    pub(super) heartbeat_deadline: Millis,
    pub(super) rest: Rest,
    pub(super) transfer: Option<Transfer>,
    pub(super) pace: Pace,
}

impl Raft {
    pub(super) fn leading(&self) -> Option<&Leading> {
        match &self.part {
            Part::Leader(leading) => Some(leading),
            _ => None,
        }
    }

    pub(super) fn leading_mut(&mut self) -> Option<&mut Leading> {
        match &mut self.part {
            Part::Leader(leading) => Some(leading),
            _ => None,
        }
    }

    /// The election of the current term is won. Opens the term with a no-op and asks where the others' logs end.
    pub(super) fn become_leader(&mut self) {
        let (now, last_index, node) = (self.now, self.log.last_index(), self.config.node);
        let others = self
            .members
            .current()
            .1
            .members()
            .into_iter()
            .filter(|&member| member != node);
        self.part = Part::Leader(Box::new(Leading {
            peers: others
                .map(|peer| (peer, Progress::new(last_index, now)))
                .collect(),
            first_of_term: last_index + 1,
            round: 0,
            heartbeat_deadline: now,
            rest: Rest::new(now),
            transfer: None,
            pace: Pace::new(now, self.commit_index),
        }));
        self.leader = Some(node);
        self.end_contest();
        self.publish();
        self.append_own(OwnEntry::Noop);
        let (index, membership) = self.members.current();
        if index == 0 {
            // From here on the log itself says who belongs to the group.
            let membership = membership.clone();
            self.append_own(OwnEntry::Membership(membership));
        }
        self.begin_round();
        for peer in self.peers() {
            self.send_probe(peer);
        }
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.leading()
            .map_or_else(Vec::new, |leading| leading.peers.keys().copied().collect())
    }

    pub(super) fn append_own(&mut self, entry: OwnEntry) {
        let id = LogId {
            term: self.term(),
            index: self.log.last_index() + 1,
        };
        self.log.push(id.term, id.index);
        self.note_work();
        let membership = match &entry {
            OwnEntry::Membership(membership) => Some(membership.clone()),
            OwnEntry::Noop => None,
        };
        self.effects.push(Effect::AppendOwn { id, entry });
        if let Some(membership) = membership {
            self.members.push(id.index, membership);
            self.keep_peers_of_membership();
        }
    }

    /// Appends `count` (at least 1) entries to the leader's log and returns the identity of the first; they are
    /// consecutive. The caller stamps and writes the frames and calls [`Raft::durable`] once they are fsynced.
    pub fn propose(&mut self, count: u64) -> Result<LogId, NotLeader> {
        assert!(count > 0, "a proposal has entries");
        match self.leading() {
            None => {
                return Err(NotLeader {
                    leader: self.leader,
                });
            }
            Some(leading) if leading.transfer.is_some() => return Err(NotLeader { leader: None }),
            Some(_) => {}
        }
        let first = LogId {
            term: self.term(),
            index: self.log.last_index() + 1,
        };
        self.log.push(first.term, self.log.last_index() + count);
        self.note_work();
        Ok(first)
    }

    // ---- sending ----

    /// What to send next to `peer`, if anything. Call it (and [`Raft::sent`]) until `None`, after every input.
    pub fn next_append(&self, peer: NodeId) -> Option<AppendPlan> {
        let progress = self.leading()?.peers.get(&peer)?;
        let (first, last) = (progress.next_index, self.log.last_index());
        let bytes_max = progress.room(&self.config)?;
        (first <= last).then_some(AppendPlan {
            first,
            last,
            bytes_max,
        })
    }

    /// The shell picked the frames from the plan's `first` to `last`, `bytes` long in all. Returns the `Append` to send
    /// with them. Panics if no plan allowed it.
    pub fn sent(&mut self, now: Millis, peer: NodeId, last: Index, bytes: u64) -> Message {
        self.advance(now);
        let retry_at = self.doubt_deadline(peer);
        let plan = self
            .next_append(peer)
            .expect("the shell asked for a plan before");
        assert!(
            (plan.first..=plan.last).contains(&last),
            "the shell sent frames of the plan"
        );
        let message = Message::Append(Append {
            term: self.term(),
            prev: match mutation::is("an append names no entry before it") {
                true => LogId::ZERO,
                false => self
                    .log
                    .id_at(plan.first - 1)
                    .expect("a pipeline starts inside the kept log"),
            },
            runs: self.log.slice(plan.first, last),
            last_index: last,
            memberships: self.members.between(plan.first, last),
            commit: self.commit_index,
        });
        let commit = self.commit_index.min(last);
        if let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        {
            let last = match mutation::is("what did not fit counts as sent") {
                true => plan.last,
                false => last,
            };
            progress.sent(last, bytes, retry_at);
            progress.commit_sent = commit;
        }
        message
    }

    /// A leader's view of `peer`; `None` if this node does not lead or `peer` is no other member.
    pub fn progress(&self, peer: NodeId) -> Option<PeerView> {
        self.leading()?.peers.get(&peer).map(Progress::view)
    }

    // ---- hearing ----

    /// Notes that `peer` is alive in our term. `None` if that does not concern us.
    pub(super) fn hear(&mut self, peer: NodeId) -> Option<&mut Progress> {
        let now = self.now;
        let progress = self.leading_mut()?.peers.get_mut(&peer)?;
        progress.heard_at = now;
        Some(progress)
    }

    pub(super) fn on_append_reply(&mut self, from: NodeId, outcome: AppendOutcome) {
        match outcome {
            AppendOutcome::Accepted { matched, commit } => self.on_accepted(from, matched, commit),
            AppendOutcome::Rejected {
                prev_index,
                hint,
                last_index,
            } => {
                self.on_rejected(from, prev_index, hint, last_index);
            }
        }
    }

    fn on_accepted(&mut self, from: NodeId, matched: LogId, commit: Index) {
        // By (index, term). What our log no longer covers is committed, and cannot be mistaken for anything else.
        let known = matched.index < self.log.prev().index
            || self.log.id_at(matched.index) == Some(matched)
            || mutation::is("acks of an earlier leadership count");
        let retry_at = self.doubt_deadline(from);
        let Some(progress) = self.hear(from) else {
            return;
        };
        if !known {
            return;
        }
        progress.commit_index = progress.commit_index.max(commit);
        if progress.accepted(matched.index, retry_at) {
            self.advance_commit();
            self.hurry_transfer(from);
        }
        self.tell_commit(from);
    }

    /// The follower lacks the entry we built on. Finds the last one that both may have, skipping whole terms on either side.
    fn on_rejected(&mut self, from: NodeId, prev_index: Index, hint: LogId, last_index: Index) {
        let Some(progress) = self.hear(from) else {
            return;
        };
        let current = match progress.state() {
            ProgressState::Probe if mutation::is("refusals of empty appends are ignored") => false,
            ProgressState::Probe => prev_index == progress.probed_index(),
            ProgressState::Pipeline | ProgressState::CatchUp => prev_index < progress.next_index,
            ProgressState::Install => {
                self.on_install_rejected(from, prev_index);
                return;
            }
        };
        // Below what it acknowledged as durable, a rejection can only be an old one.
        if !current || prev_index <= progress.match_index {
            return;
        }
        let match_index = progress.match_index;
        if prev_index <= self.log.prev().index {
            // Not even what precedes our kept log: it must be given something that stands for it.
            return self.begin_install(from);
        }
        // Its entry at `prev_index` differs from ours, or there is none.
        let common_max = last_index.min(prev_index - 1);
        let ours = self.log.last_at_most(hint.term, common_max);
        let prev = match ours {
            // We have entries of that term: a term's entries start at the same place in every log that has any.
            Some(id) if id.term == hint.term => id.index,
            Some(id) => id.index.min(hint.index.saturating_sub(1)),
            None => 0,
        };
        self.probe_from(from, prev.max(match_index));
    }

    pub(super) fn on_heartbeat_reply(&mut self, from: NodeId, round: u64) {
        let begun = self.leading().map_or(0, |leading| leading.round);
        if let Some(progress) = self.hear(from)
            && round <= begun
        {
            progress.round_acked = progress.round_acked.max(round);
            self.confirm_reads();
        }
    }

    // ---- committing ----

    /// Commits what a quorum has durably, if it is of our own term: older entries commit with it (section 5.4.2, figure 8).
    pub(super) fn advance_commit(&mut self) {
        let Some(leading) = self.leading() else {
            return;
        };
        let (node, mut durable) = (self.config.node, self.durable_index);
        if mutation::is("the leader counts itself before its disk") {
            durable = self.log.last_index();
        }
        let reached = quorum::reached(&self.counted_membership(), |voter| {
            if voter == node {
                durable
            } else {
                leading.peers.get(&voter).map_or(0, |peer| peer.match_index)
            }
        });
        let earlier_term = reached < leading.first_of_term
            && !mutation::is("entries of earlier terms committed by counting");
        if reached <= self.commit_index || earlier_term {
            return;
        }
        self.commit_to(reached);
        self.admit_early_reads();
        for peer in self.peers() {
            self.tell_commit(peer);
        }
        self.carry_change_on();
    }

    /// Tells an idle `peer` of the commit index at once; to others, the next append carries it.
    fn tell_commit(&mut self, peer: NodeId) {
        let (last_index, commit_index, term) =
            (self.log.last_index(), self.commit_index, self.term());
        let Some(leading) = self.leading_mut() else {
            return;
        };
        let round = leading.round;
        let Some(progress) = leading.peers.get_mut(&peer) else {
            return;
        };
        let commit = commit_index.min(progress.match_index);
        if progress.is_idle(last_index) && commit > progress.commit_sent {
            progress.commit_sent = commit;
            self.send(
                peer,
                Message::Heartbeat {
                    term,
                    commit,
                    round,
                },
            );
        }
    }

    // ---- time ----

    /// Begins a heartbeat round: a sign of life for everyone, and the proof of leadership that reads wait for.
    pub(super) fn begin_round(&mut self) {
        let (now, term, commit_index, interval) = (
            self.now,
            self.term(),
            self.commit_index,
            self.config.heartbeat_ms,
        );
        let invites = self.may_invite();
        let Some(leading) = self.leading_mut() else {
            return;
        };
        leading.round += 1;
        leading.heartbeat_deadline = now + interval;
        let round = leading.round;
        let mut heartbeats = Vec::with_capacity(leading.peers.len());
        for (&peer, progress) in &mut leading.peers {
            let commit = match mutation::is("heartbeats carry any commit index") {
                true => commit_index,
                false => commit_index.min(progress.match_index),
            };
            progress.commit_sent = progress.commit_sent.max(commit);
            let heartbeat = match invites {
                true => Message::Rest {
                    term,
                    commit,
                    round,
                },
                false => Message::Heartbeat {
                    term,
                    commit,
                    round,
                },
            };
            heartbeats.push((peer, heartbeat));
        }
        for (peer, heartbeat) in heartbeats {
            self.send(peer, heartbeat);
        }
    }

    /// When the last contact with a quorum will be an election timeout ago (CheckQuorum; thesis, 6.2).
    fn quorum_deadline(&self, leading: &Leading) -> Millis {
        let node = self.config.node;
        let contact = quorum::reached(self.members.current().1, |voter| {
            if voter == node {
                Millis::MAX
            } else {
                leading.peers.get(&voter).map_or(0, |peer| peer.heard_at)
            }
        });
        contact.saturating_add(self.config.election_timeout_max_ms)
    }

    pub(super) fn leader_deadline(&self) -> Millis {
        let Some(leading) = self.leading() else {
            return Millis::MAX;
        };
        let transfer = leading.transfer.as_ref().map(|transfer| transfer.deadline);
        let retries = leading.peers.values().filter_map(|peer| peer.retry_at);
        let heartbeat = (!leading.peers.is_empty()).then_some(leading.heartbeat_deadline);
        let first = retries
            .chain(transfer)
            .chain(heartbeat)
            .min()
            .unwrap_or(Millis::MAX);
        first.min(self.quorum_deadline(leading))
    }

    pub(super) fn tick_leader(&mut self) {
        let Some(leading) = self.leading() else {
            return;
        };
        let heartbeat_due = self.now >= leading.heartbeat_deadline;
        let without_quorum = self.now >= self.quorum_deadline(leading);
        let voted_out = self.expire_transfer() && self.is_voted_out();
        if without_quorum || voted_out {
            self.become_follower();
            return;
        }
        self.note_pace();
        if heartbeat_due {
            self.begin_round();
        }
        for peer in self.peers() {
            self.retry(peer);
        }
    }
}
