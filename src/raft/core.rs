//! The state of one replica's core, its inputs, and what all roles share.
//!
//! Owns the struct, the term rules that precede every message, the ballot, and the queue of what waits for it. The
//! rules of each role live in the files named after them. On every walk.

use super::contest::Contest;
use super::election::{Answer, Votes};
use super::follower::Following;
use super::leader::Leading;
use super::log::TermRuns;
use super::membership::MembershipHistory;
use super::message::Outgoing;
use super::mutation;
use super::read::Reads;
use super::suspect::Suspect;
use super::{
    Ballot, Config, Effect, Index, LogId, Membership, Message, Millis, NodeId, Restored, Role, Term,
};

/// Replies kept back while a ballot is being saved, at most; more are dropped, as a network would.
const HELD_MAX: usize = 1024;

/// Terms and indexes from this value on are refused: no honest log reaches them, and sums stay clear of overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// The consensus core of one replica. See the room's documentation for the way it is driven.
#[derive(Debug)]
pub struct Raft {
    pub(super) config: Config,
    pub(super) rng: fastrand::Rng,
    /// The latest time handed in.
    pub(super) now: Millis,

    ballot: Ballot,
    /// Whether `ballot` is fsynced. While it is not, messages wait in `held`.
    ballot_saved: bool,
    held: Vec<Outgoing>,

    pub(super) part: Part,
    /// Leader of the current term, if known. This node itself exactly if it leads.
    pub(super) leader: Option<NodeId>,
    /// (role, term, leader) as last told to the shell.
    published: (Role, Term, Option<NodeId>),

    pub(super) log: TermRuns,
    pub(super) members: MembershipHistory,
    /// Fsynced here up to and including.
    pub(super) durable_index: Index,
    /// Committed, as far as known here; inclusive.
    pub(super) commit_index: Index,
    pub(super) suspect: Suspect,
    /// States taken from a leader that are not durable yet: until they are, nothing is acknowledged.
    pub(super) installing: u32,
    /// Last entry that an installed state contains, which the log may not have reached yet.
    pub(super) pending_index: Index,
    /// Number of truncations: completions of disk writes issued before the last one are void.
    pub(super) truncations: u64,

    /// When to campaign, unless a leader is heard. Of no use to a leader.
    pub(super) election_deadline: Millis,
    /// The timeout that `election_deadline` was computed with; drawn anew for each election (section 5.2).
    pub(super) election_timeout_ms: u64,
    pub(super) contest: Contest,
    pub(super) reads: Reads,
    pub(super) effects: Vec<Effect>,
}

/// What a replica keeps for the role it plays.
#[derive(Debug)]
pub(super) enum Part {
    Follower(Following),
    PreCandidate(Votes),
    Candidate(Votes),
    Leader(Box<Leading>),
}

impl Raft {
    /// A replica as it starts: a follower that knows no leader.
    ///
    /// Panics if `restored` contradicts itself.
    pub fn new(config: Config, restored: Restored, now: Millis) -> Raft {
        assert!(config.node != 0, "node numbers start at 1");
        assert!(
            config.heartbeat_ms < config.election_timeout_min_ms
                && config.election_timeout_min_ms <= config.election_timeout_max_ms,
            "heartbeats must come more often than election timeouts, whose range must not be empty"
        );
        let log = TermRuns::new(restored.prev, restored.runs, restored.last_index);
        let commit_index = restored.commit_index.max(log.prev().index);
        assert!(
            commit_index <= log.last_index(),
            "what is committed here was durable here"
        );
        let members = MembershipHistory::new(restored.memberships);
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut raft = Raft {
            reads: Reads::new(rng.u64(..)),
            rng,
            now,
            ballot: restored.ballot,
            ballot_saved: true,
            held: Vec::new(),
            part: Part::Follower(Following::default()),
            leader: None,
            published: (Role::Follower, restored.ballot.term, None),
            durable_index: log.last_index(),
            commit_index,
            installing: 0,
            pending_index: restored.pending_index,
            truncations: 0,
            suspect: Suspect::default(),
            election_deadline: now,
            election_timeout_ms: 0,
            contest: Contest::default(),
            effects: Vec::new(),
            log,
            members,
            config,
        };
        raft.draw_election_timeout();
        let membership = raft.members.current().1;
        let alone = membership.voters == [raft.config.node] && !membership.joint();
        if !alone {
            raft.election_deadline = now
                + raft
                    .config
                    .first_timeout_ms
                    .unwrap_or(raft.election_timeout_ms);
        }
        // An entry of a term proves that the term began, although the crash came before the ballot was saved.
        let last_term = raft.log.last_id().term;
        if last_term > raft.ballot.term {
            raft.set_ballot(Ballot {
                term: last_term,
                vote: None,
            });
            raft.publish();
        }
        let lost_end = restored.suspect_tail.then_some(raft.ballot.term);
        raft.suspect = Suspect::new(lost_end, restored.forgotten_term, raft.log.last_id().term);
        if raft.ballot.vote == Some(raft.config.node)
            && mutation::is("a restarted leader goes on in its term")
        {
            raft.become_leader();
        }
        raft
    }

    /// Takes a message from `from`. The frames of an `Append` stay outside; see [`Effect::AppendRemote`].
    ///
    /// `from` must be the proven sender. What is malformed, or comes from this node itself, is dropped.
    pub fn step(&mut self, now: Millis, from: NodeId, message: Message) {
        self.advance(now);
        let term = message.term();
        if from == self.config.node || from == 0 || term >= NUMBER_MAX {
            return;
        }
        if !message.is_well_formed(NUMBER_MAX) {
            return;
        }
        self.wake_for(&message);
        if term > self.ballot.term {
            let asks_only = matches!(
                message,
                Message::PreVote { .. } | Message::PreVoteReply { granted: true, .. }
            );
            if matches!(
                message,
                Message::Vote {
                    transfer: false,
                    ..
                }
            ) && self.hears_leader()
            {
                return;
            }
            if !asks_only {
                self.enter_term(term);
            }
        }
        self.leave_former_life(&message);
        let counts = matches!(message, Message::AppendReply { .. })
            && (mutation::is("acks of earlier terms count")
                || mutation::is("acks of an earlier leadership count"));
        if term < self.ballot.term && !counts {
            self.refuse_stale(from, message);
        } else {
            self.dispatch(from, message);
        }
        self.publish();
    }

    /// A message of the current term, or a pre-vote of a later one.
    fn dispatch(&mut self, from: NodeId, message: Message) {
        match message {
            Message::PreVote { term, last } => self.on_pre_vote(from, term, last),
            Message::PreVoteReply {
                term,
                granted,
                conditional,
            } => self.on_pre_vote_reply(from, term, Answer::of(granted, conditional)),
            Message::Vote { last, .. } => self.on_vote(from, last),
            Message::VoteReply {
                granted,
                conditional,
                ..
            } => self.on_vote_reply(from, Answer::of(granted, conditional)),
            Message::Append(append) => self.on_append(from, append),
            Message::AppendReply { outcome, .. } => self.on_append_reply(from, outcome),
            Message::Install(install) => self.on_install(from, install),
            Message::InstallReply { at, received, .. } => self.on_install_reply(from, at, received),
            Message::Heartbeat { commit, round, .. } => self.on_heartbeat(from, commit, round),
            Message::HeartbeatReply { round, .. } => self.on_heartbeat_reply(from, round),
            Message::Rest { commit, round, .. } => self.on_rest(from, commit, round),
            Message::RestReply { round, .. } => self.on_rest_reply(from, round),
            Message::ReadIndex { token, .. } => self.on_read_index(from, token),
            Message::ReadIndexReply { token, index, .. } => {
                self.on_read_index_reply(from, token, index);
            }
            Message::TimeoutNow { .. } => self.on_timeout_now(from),
        }
    }

    /// A message of an earlier term: requests are refused with our term, so that the sender learns of it; replies are void.
    fn refuse_stale(&mut self, from: NodeId, message: Message) {
        let term = self.ballot.term;
        let reply = match message {
            Message::PreVote { .. } if mutation::is("stale pre-votes stay unanswered") => return,
            Message::PreVote { .. } => Message::PreVoteReply {
                term,
                granted: false,
                conditional: false,
            },
            Message::Vote { .. } => Message::VoteReply {
                term,
                granted: false,
                conditional: false,
            },
            Message::Append(append) => self.rejection(append.prev.index),
            Message::Install(install) => self.rejection(install.offer.base.index),
            Message::Heartbeat { round, .. } | Message::Rest { round, .. } => {
                Message::HeartbeatReply { term, round }
            }
            Message::ReadIndex { token, .. } => Message::ReadIndexReply {
                term,
                token,
                index: None,
            },
            _ => return,
        };
        self.send(from, reply);
    }

    /// Lets time pass. Call it at [`Raft::next_deadline`]; earlier or later calls do no harm.
    ///
    /// Step the messages that have arrived before: what a late tick cannot know of, it takes for silence.
    pub fn tick(&mut self, now: Millis) {
        self.advance(now);
        self.expire_reads();
        if self.rests() {
            return;
        }
        if matches!(self.part, Part::Leader(_)) {
            self.tick_leader();
        } else if self.now >= self.election_deadline {
            self.on_election_timeout();
        }
        self.publish();
    }

    /// When `tick` is due next; `Millis::MAX` if nothing waits for time. May move with every input.
    pub fn next_deadline(&self) -> Millis {
        let role = match &self.part {
            _ if self.rests() => Millis::MAX,
            Part::Leader(_) => self.leader_deadline(),
            _ => self.election_deadline,
        };
        role.min(self.reads.next_deadline())
    }

    /// The log is fsynced up to and including `id`. `truncations` is the value [`Raft::truncations`] had when the write
    /// was issued: a completion that a truncation has overtaken says nothing about the log as it is now, and is ignored.
    pub fn durable(&mut self, now: Millis, id: LogId, truncations: u64) {
        self.advance(now);
        let cut_since = truncations != self.truncations
            && !mutation::is("completions from before a truncation count");
        let overtaken = cut_since || self.log.id_at(id.index) != Some(id);
        if (overtaken && !mutation::is("completions matched by index alone"))
            || (id.index <= self.durable_index && !mutation::is("completions in any order count"))
        {
            return;
        }
        self.durable_index = id.index;
        self.trust_tail_again();
        match self.part {
            Part::Leader(_) => self.advance_commit(),
            Part::Follower(_) => self.acknowledge_durable(),
            Part::PreCandidate(_) | Part::Candidate(_) => {}
        }
        self.publish();
    }

    /// The ballot is fsynced. Releases what waited for it, if it is still the current one.
    pub fn ballot_durable(&mut self, ballot: Ballot) {
        if ballot != self.ballot || self.ballot_saved {
            return;
        }
        self.ballot_saved = true;
        for Outgoing { to, message } in std::mem::take(&mut self.held) {
            self.effects.push(Effect::Send { to, message });
        }
        self.count_own_vote();
        self.publish();
    }

    /// Stops leading or campaigning, in the same term.
    pub fn step_down(&mut self, now: Millis) {
        self.advance(now);
        if !matches!(self.part, Part::Follower(_)) {
            self.become_follower();
        }
        self.publish();
    }

    /// The shell removed the entries up to and including `prev` from the log. They must be committed.
    pub fn set_trimmed(&mut self, prev: LogId) {
        assert!(
            prev.index <= self.commit_index,
            "only committed entries may be trimmed"
        );
        if prev.index <= self.log.prev().index {
            return;
        }
        self.log.trim_to(prev);
        self.members.trim_to(prev.index);
        self.strand_trimmed_peers();
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    // ---- what all roles share ----

    pub(super) fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// A later term began somewhere: forget what belonged to the old one.
    pub(super) fn enter_term(&mut self, term: Term) {
        assert!(term > self.ballot.term, "terms only rise");
        let vote = match mutation::is("a vote outlives its term") {
            true => self.ballot.vote,
            false => None,
        };
        self.set_ballot(Ballot { term, vote });
        self.become_follower();
    }

    /// Replaces the ballot. Whatever waited for a ballot of an earlier term is overtaken, and dropped.
    pub(super) fn set_ballot(&mut self, ballot: Ballot) {
        if ballot.term != self.ballot.term {
            self.held.clear();
        }
        self.ballot = ballot;
        self.ballot_saved = false;
        self.effects.push(Effect::SaveBallot(ballot));
    }

    pub(super) fn ballot_saved(&self) -> bool {
        self.ballot_saved
    }

    /// Follower of nobody yet, in the current term. The election deadline stands, except for one who led.
    pub(super) fn become_follower(&mut self) {
        self.abandon_reads();
        if matches!(self.part, Part::Leader(_)) {
            self.draw_election_timeout();
            self.election_deadline = self.now + self.election_timeout_ms;
        }
        self.part = Part::Follower(Following::default());
        self.leader = None;
    }

    pub(super) fn draw_election_timeout(&mut self) {
        let longest = self.contest.timeout_max(&self.config);
        self.election_timeout_ms = self.rng.u64(self.config.election_timeout_min_ms..=longest);
    }

    /// Sends `message` once the ballot it is sent under is durable: at once, as a rule.
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        if self.ballot_saved || mutation::is("replies before the ballot is saved") {
            self.effects.push(Effect::Send { to, message });
        } else if self.held.len() < HELD_MAX {
            self.held.push(Outgoing { to, message });
        }
    }

    /// Tells the shell of a change of role, term or leader.
    pub(super) fn publish(&mut self) {
        let now = (self.role(), self.ballot.term, self.leader);
        if now != self.published {
            self.published = now;
            let (role, term, leader) = now;
            self.effects.push(Effect::Role { role, term, leader });
        }
    }

    /// Raises the commit index to `index`, if that is news.
    pub(super) fn commit_to(&mut self, index: Index) {
        if index <= self.commit_index {
            return;
        }
        assert!(
            index <= self.log.last_index(),
            "committed {index} beyond the log's end {}",
            self.log.last_index()
        );
        self.commit_index = index;
        self.note_work();
        self.effects.push(Effect::Commit { index });
        self.release_confirmed_reads();
    }

    // ---- what is so now ----

    /// This node.
    pub fn node(&self) -> NodeId {
        self.config.node
    }

    /// The role now.
    pub fn role(&self) -> Role {
        match self.part {
            Part::Follower(_) => Role::Follower,
            Part::PreCandidate(_) => Role::PreCandidate,
            Part::Candidate(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    /// The term now.
    pub fn term(&self) -> Term {
        self.ballot.term
    }

    /// The leader of the term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Last committed index known here; inclusive.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// First index kept; `last_index + 1` if none is.
    pub fn first_index(&self) -> Index {
        self.log.first_index()
    }

    /// Last index of the log; inclusive.
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// Last index fsynced here; inclusive.
    pub fn durable_index(&self) -> Index {
        self.durable_index
    }

    /// Number of `Truncate` effects so far. Tag each log write with it, and pass the tag to [`Raft::durable`].
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// The ballot now; perhaps not yet durable.
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The membership in force, and the index of its entry (0: the one the group was created with).
    pub fn membership(&self) -> (Index, &Membership) {
        self.members.current()
    }

    /// Term of the entry at `index`; `None` outside the kept log and the entry before it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }
}
