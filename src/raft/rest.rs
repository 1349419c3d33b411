//! Rest: a group in which nothing happens says nothing.
//!
//! Owns when leader and followers fall silent, and what ends that. A leader whose members all hold all of its log, and
//! know all of it to be committed, asks them to rest; once every one of them has agreed to one and the same round, it stops its heartbeats, and they stop
//! waiting for them. From then on the beats of the leader's *node* stand for its heartbeats: the shell hears them, vouches with them
//! ([`Raft::vouch`]), and wakes the group when a node it rests on falls silent ([`Raft::wake`]). So does any message but those that agree
//! to rest, and any request.
//!
//! No rule of safety rests on any of it: terms, votes, commits and reads are decided as ever, by messages of the group alone. A replica
//! that rests wrongly is only quiet, and wakes when it is asked anything. It must not know what a beat is, nor how nodes are watched.
//! On no walk: whoever is on one is awake.

use super::core::{Part, Raft};
use super::{Index, Message, Millis, NodeId, mutation};

/// A leader's side of it.
#[derive(Debug)]
pub(super) struct Rest {
    /// Since when nothing was appended or committed.
    pub(super) quiet_since: Millis,
    /// Nothing is sent or awaited.
    resting: bool,
}

impl Rest {
    pub(super) fn new(now: Millis) -> Rest {
        Rest {
            quiet_since: now,
            resting: false,
        }
    }
}

impl Raft {
    /// Whether this replica is quiet until something happens.
    pub fn rests(&self) -> bool {
        match &self.part {
            Part::Leader(leading) => leading.rest.resting,
            Part::Follower(following) => following.resting,
            Part::PreCandidate(_) | Part::Candidate(_) => false,
        }
    }

    /// Whether this replica rests for as long as `node` is alive: then the silence of that node is to wake it.
    pub fn rests_on(&self, node: NodeId) -> bool {
        self.rests()
            && match &self.part {
                Part::Leader(leading) => leading.peers.contains_key(&node),
                _ => self.leader == Some(node),
            }
    }

    /// `heard` tells when other nodes were last heard to be alive. To be called before a replica that rests is given anything: that they
    /// lived stands for the heartbeats and answers that they did not send.
    pub fn vouch(&mut self, now: Millis, heard: impl Fn(NodeId) -> Option<Millis>) {
        self.advance(now);
        if !self.rests() {
            return;
        }
        let (leader, timeout) = (self.leader, self.election_timeout_ms);
        match &mut self.part {
            Part::Leader(leading) => {
                for (peer, progress) in &mut leading.peers {
                    progress.heard_at = progress.heard_at.max(heard(*peer).unwrap_or(0));
                }
            }
            Part::Follower(following) => {
                let Some(heard_at) = leader.and_then(heard) else {
                    return;
                };
                following.leader_heard_at = following.leader_heard_at.max(Some(heard_at));
                self.election_deadline = self.election_deadline.max(heard_at + timeout);
            }
            Part::PreCandidate(_) | Part::Candidate(_) => {}
        }
    }

    /// Ends the rest: a leader begins a round, a follower waits for one. Does nothing to who is awake.
    pub fn wake(&mut self, now: Millis) {
        self.advance(now);
        self.end_rest();
    }

    pub(super) fn end_rest(&mut self) {
        match &mut self.part {
            Part::Leader(leading) if leading.rest.resting => {
                leading.rest.resting = false;
                // The next tick, which is due at once, begins it.
                leading.heartbeat_deadline = self.now;
            }
            Part::Follower(following) => following.resting = false,
            _ => {}
        }
    }

    /// A message has come: all but those that keep a rest end it.
    pub(super) fn wake_for(&mut self, message: &Message) {
        let keeps = matches!(
            message,
            Message::Rest { .. }
                | Message::RestReply { .. }
                | Message::Heartbeat { .. }
                | Message::HeartbeatReply { .. }
        );
        if !keeps {
            self.end_rest();
        }
    }

    /// Something is appended or committed here.
    pub(super) fn note_work(&mut self) {
        let now = self.now;
        if !mutation::is("a leader at rest sleeps through a proposal") {
            self.end_rest();
        }
        if let Some(leading) = self.leading_mut() {
            leading.rest.quiet_since = now;
        }
    }

    /// Whether a leader may ask everyone to rest: nothing has happened for a while, and nothing is left to do.
    pub(super) fn may_invite(&self) -> bool {
        let (Some(after), Some(leading)) = (self.config.rest_after_ms, self.leading()) else {
            return false;
        };
        let last = self.log.last_index();
        let membership = self.members.current().1;
        let mut peers = leading.peers.values();
        self.now >= leading.rest.quiet_since.saturating_add(after)
            && !leading.peers.is_empty()
            && leading.transfer.is_none()
            && self.is_even(last)
            && !membership.joint()
            && membership.is_voter(self.config.node)
            && self.reads.is_empty()
            && (mutation::is("a group rests without a member that is behind")
                || peers.all(|peer| peer.is_idle(last) && peer.match_index == last))
    }

    /// Whether all that is in the log is committed, up to `last`, and durable here.
    fn is_even(&self, last: Index) -> bool {
        self.log.last_index() == last
            && self.commit_index == last
            && self.durable_index == last
            && self.ballot_saved()
    }

    /// The leader of our term, alive, asks us to rest if all it has is here.
    pub(super) fn on_rest(&mut self, from: NodeId, commit: Index, round: u64) {
        let news = self.note_heartbeat(from, commit, round);
        if !news {
            return;
        }
        let rests = self.is_even(commit)
            && self.installing == 0
            && !self.is_pending()
            && self.reads.is_empty();
        let following = self.following();
        following.resting = rests && !following.ack_owed;
        let (resting, term) = (following.resting, self.term());
        let reply = match resting {
            true => Message::RestReply { term, round },
            false => Message::HeartbeatReply { term, round },
        };
        self.send(from, reply);
    }

    /// A follower rests since `round`. Once all do since the latest round, so does their leader.
    pub(super) fn on_rest_reply(&mut self, from: NodeId, round: u64) {
        self.on_heartbeat_reply(from, round);
        let Some(leading) = self.leading_mut() else {
            return;
        };
        let begun = leading.round;
        if let Some(progress) = leading.peers.get_mut(&from)
            && round == begun
        {
            progress.rests_since = round;
        }
        let leading = self.leading().expect("it led a moment ago");
        let mut peers = leading.peers.values();
        let all = match mutation::is("a group rests without a member that is behind") {
            true => peers.any(|peer| peer.rests_since == begun),
            false => peers.all(|peer| peer.rests_since == begun),
        };
        if all
            && self.may_invite()
            && let Some(leading) = self.leading_mut()
        {
            leading.rest.resting = true;
        }
    }
}
