//! The same script for our core and for the other Raft: twins that get the same inputs must decide the same.
//!
//! Each node of a small cluster is a pair: a core of ours and a node of the crate `raft`, on equal logs and ballots. A seed's script
//! delivers, loses and repeats messages, proposes, lets time pass, and restarts pairs; each input goes to both twins. What is sent on
//! comes from one of the two kinds, the *speaker*, chosen per seed; what the other would have said is compared and dropped. Compared
//! after every input: term, vote, role, known leader, the whole log, the commit index, and the verdict of each answer (vote granted
//! or not, append accepted or refused).
//!
//! Where the two may differ, by intention, and what the comparison does about it:
//! - *When to campaign, and when a leader without a quorum gives up* are timers: our core's clock decides, its twin follows.
//! - *Commit index of a follower*: theirs looks at one append alone, ours remembers what it compared in this term, so ours may be
//!   ahead for a while. Never behind, never beyond what a leader has committed, and equal once the cluster is quiet.
//! - *Pre-votes of earlier rounds, and repeated ones*: a hint to both; theirs counts the first answer of a node, ours the last, and
//!   theirs does not look at the round. They are not delivered.
//! - *A pre-vote for the term the receiver is in already*: ours refuses (so that the asker learns the term), theirs may grant.
//! - *Two that would lead*: ours tells one of them at a time that it would vote for it, and of two that ask each other one gives way; theirs tells
//!   all. A refusal that such a favour explains may differ, no other; where ours gives way, the twin is told to.
//! - *A pre-candidate that grants a vote in its own term*: ours gives up its own question, theirs does not; the twin is told to.
//! - *A repeated request for a vote that was granted, once the voter's log has grown past the candidate's old end*: ours repeats its
//!   answer, theirs compares the logs again.
//! - *An append that begins before the receiver's commit index*: ours takes what follows, theirs answers without a look at it. It is
//!   given the part that begins at its commit index.
//! - *Refusals*: theirs is silent where ours says no; silence counts as no.
//! - Leadership transfer and reads are not in the scripts (their timers differ); `mixed` has them.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use plimsoll::raft::{Index, Membership, Millis, NodeId, Role, Term};
use raft_rs::StateRole;
use raft_rs::eraftpb::{Message as Wire, MessageType as Kind};

use crate::disk::{Entry, Payload};
use crate::ours::Ours;
use crate::theirs::{TICK_MS, Theirs};
use crate::translate::payload_bytes;

const SEEDS: u64 = 400;
const STEPS: usize = 3_500;

/// Who is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    Ours,
    Theirs,
}

struct Twins {
    now: Millis,
    /// Whom our core was the first to grant a pre-vote in a term, and until when that holds.
    favour: Option<(Term, NodeId, Millis)>,
    /// The end of the log when all of it was compared last.
    compared: (Index, Option<Term>),
    ours: Ours,
    theirs: Theirs,
}

impl Twins {
    /// If both our core and another ask for pre-votes: whether ours gives way, should the question reach it at once.
    fn gives_way(&self, wire: &Wire) -> Option<bool> {
        let core = self.ours.core();
        let both =
            core.role() == Role::PreCandidate && wire.get_msg_type() == Kind::MsgRequestPreVote;
        let last = core.last_index();
        let own = (core.term_at(last).unwrap_or(0), last, core.node());
        both.then(|| (wire.log_term, wire.index, wire.from) > own)
    }

    fn favours_another(&self, from: NodeId) -> bool {
        let (term, now) = (self.ours.core().term(), self.now);
        let another = |(of, to, until)| of == term && to != from && now < until;
        self.favour.is_some_and(another)
    }

    fn note_favour(&mut self, from: NodeId) {
        let term = self.ours.core().term();
        if self.favour.is_none_or(|(of, ..)| of != term) {
            self.favour = Some((term, from, self.now + self.ours.shortest_timeout()));
        }
    }
}

/// What was compared.
#[derive(Debug, Default)]
struct Sums {
    inputs: u64,
    votes: [u64; 2],
    pre_votes: [u64; 2],
    favours: u64,
    appends: [u64; 2],
    leaders: u64,
    restarts: u64,
    commits_ahead: u64,
    committed: u64,
    truncations: u64,
}

struct Script {
    rng: Rng,
    speaker: Speaker,
    twins: BTreeMap<NodeId, Twins>,
    network: Vec<Wire>,
    cut: BTreeSet<(NodeId, NodeId)>,
    leaders: BTreeMap<Term, NodeId>,
    /// The highest commit index of any leader so far.
    committed: Index,
    next: u64,
    sums: Sums,
}

fn role(state: StateRole) -> Role {
    match state {
        StateRole::Follower => Role::Follower,
        StateRole::PreCandidate => Role::PreCandidate,
        StateRole::Candidate => Role::Candidate,
        StateRole::Leader => Role::Leader,
    }
}

/// The last answer of kind `kind` among what was said: whether it says yes. Silence is no.
fn says_yes(said: &[Wire], kind: Kind) -> bool {
    let mut answers = said.iter().filter(|wire| wire.get_msg_type() == kind);
    answers.next_back().is_some_and(|wire| !wire.reject)
}

/// An append without the entries up to `commit`, if others follow.
fn from_commit_on(wire: &Wire, commit: Index) -> Wire {
    let mut rest = wire.clone();
    let known = commit.saturating_sub(wire.index) as usize;
    let is_append = wire.get_msg_type() == Kind::MsgAppend;
    if is_append && known > 0 && known < wire.entries.len() {
        (rest.index, rest.log_term) = (commit, wire.entries[known - 1].term);
        rest.set_entries(wire.entries.iter().skip(known).cloned().collect());
    }
    rest
}

impl Script {
    fn new(seed: u64) -> Script {
        let mut rng = Rng::with_seed(seed);
        let voters = *rng.choice(&[1, 2, 3, 3, 3, 5]).unwrap();
        let first = [Entry {
            term: 1,
            payload: Payload::Membership(Membership::of_voters(1..=voters)),
        }];
        let twins = |node| {
            let seed = seed.wrapping_mul(100) + node;
            let twins = Twins {
                now: 0,
                favour: None,
                compared: (0, None),
                ours: Ours::new(node, voters, &first, true, seed),
                theirs: Theirs::new(node, voters, &first, false, seed),
            };
            (node, twins)
        };
        Script {
            speaker: *rng.choice(&[Speaker::Ours, Speaker::Theirs]).unwrap(),
            rng,
            twins: (1..=voters).map(twins).collect(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            committed: 0,
            next: 0,
            sums: Sums::default(),
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.twins.keys().copied().collect()
    }

    /// Both twins have had the same input and said this. Brings the roles in line that may differ, compares, and sends on.
    fn compare(&mut self, node: NodeId, ours_said: Vec<Wire>, mut theirs_said: Vec<Wire>) {
        let pair = self.twins.get_mut(&node).unwrap();
        let core = pair.ours.core();
        if pair.theirs.raw.raft.state == StateRole::PreCandidate
            && core.role() == Role::Follower
            && core.term() == pair.theirs.term()
            && core.ballot().vote.is_some_and(|vote| vote != node)
        {
            theirs_said.extend(pair.theirs.become_follower());
        }
        let raft = &pair.theirs.raw.raft;
        let context = format!("node {node}, {:?} speaks", self.speaker);
        assert_eq!(core.term(), raft.term, "term of {context}");
        assert_eq!(
            core.ballot().vote.unwrap_or(0),
            raft.vote,
            "vote of {context}"
        );
        assert_eq!(core.role(), role(raft.state), "role of {context}");
        assert_eq!(
            core.leader().unwrap_or(0),
            raft.leader_id,
            "leader of {context}"
        );
        let last = (core.last_index(), core.term_at(core.last_index()));
        let log = &raft.raft_log;
        let theirs_last = (log.last_index(), Some(log.last_term()));
        assert_eq!(last, theirs_last, "end of the log of {context}");
        if last != pair.compared {
            pair.compared = last;
            assert_eq!(pair.ours.entries(), pair.theirs.log(), "log of {context}");
        }
        let (ours, theirs) = (core.commit_index(), pair.theirs.commit_index());
        if core.role() == Role::Leader {
            let leader = *self.leaders.entry(core.term()).or_insert(node);
            assert_eq!(leader, node, "two leaders in term {}", core.term());
            if core.term_at(ours) == Some(core.term()) {
                assert_eq!(ours, theirs, "commit index of leader, {context}");
            }
            self.committed = self.committed.max(ours);
        }
        assert!(theirs <= ours, "commit {theirs}, ours {ours}: {context}");
        assert!(ours <= self.committed, "commits {ours} alone: {context}");
        self.sums.inputs += 1;
        self.sums.commits_ahead += u64::from(theirs < ours);
        self.network.extend(match self.speaker {
            Speaker::Ours => ours_said,
            Speaker::Theirs => theirs_said,
        });
    }

    fn deliver(&mut self, wire: &Wire) {
        if self.cut.contains(&(wire.from, wire.to)) {
            return;
        }
        let pair = self.twins.get_mut(&wire.to).unwrap();
        let (core, now) = (pair.ours.core(), pair.now);
        let term = core.term();
        let gives_way = pair.gives_way(wire);
        let repeats = term == wire.term
            && core.ballot().vote == Some(wire.from)
            && core.last_index() > wire.index;
        let ours = pair.ours.step(now, wire);
        let mut theirs = pair
            .theirs
            .step(from_commit_on(wire, pair.theirs.commit_index()));
        let stale = wire.term < term;
        let both = |kind| (says_yes(&ours, kind), says_yes(&theirs, kind));
        match wire.get_msg_type() {
            Kind::MsgRequestVote if repeats => {
                assert!(says_yes(&ours, Kind::MsgRequestVoteResponse));
            }
            Kind::MsgRequestVote => {
                let (ours, theirs) = both(Kind::MsgRequestVoteResponse);
                assert_eq!(ours, theirs, "answers to {wire:?} in term {term}");
                self.sums.votes[usize::from(ours)] += 1;
            }
            Kind::MsgRequestPreVote if wire.term != term => {
                let (ours, would) = both(Kind::MsgRequestPreVoteResponse);
                let elsewhere =
                    would && !ours && (gives_way == Some(false) || pair.favours_another(wire.from));
                assert!(
                    ours == would || elsewhere,
                    "answers to {wire:?} in term {term}: {ours}, {would}"
                );
                if gives_way.is_some() && pair.ours.core().role() == Role::Follower {
                    theirs.extend(pair.theirs.become_follower());
                }
                if ours {
                    pair.note_favour(wire.from);
                }
                self.sums.pre_votes[usize::from(ours)] += 1;
                self.sums.favours += u64::from(elsewhere);
            }
            Kind::MsgAppend if !stale => {
                let (ours, theirs) = both(Kind::MsgAppendResponse);
                assert_eq!(ours, theirs, "answers to {wire:?} in term {term}");
                self.sums.appends[usize::from(ours)] += 1;
            }
            Kind::MsgAppend => {
                let answers = |said: &[Wire]| said.iter().any(|answer| answer.term == term);
                assert!(
                    answers(&ours) && answers(&theirs),
                    "a late leader learns the term"
                );
            }
            _ => {}
        }
        self.compare(wire.to, ours, theirs);
    }

    /// Time passes at `node`. Our core's clock decides who campaigns and who gives up.
    fn tick(&mut self, node: NodeId) {
        let pair = self.twins.get_mut(&node).unwrap();
        pair.now += TICK_MS;
        let before = (pair.ours.core().role(), pair.ours.core().term());
        let mut ours = pair.ours.tick(pair.now);
        let after = (pair.ours.core().role(), pair.ours.core().term());
        let mut theirs = Vec::new();
        let asks = |kind| ours.iter().any(|wire: &Wire| wire.get_msg_type() == kind);
        let campaigns = asks(Kind::MsgRequestPreVote) || after.1 > before.1;
        if before.0 != Role::Leader || self.speaker == Speaker::Theirs {
            theirs = pair.theirs.tick();
        }
        if campaigns {
            // The questions of earlier rounds are forgotten.
            let pre_vote = |wire: &Wire| {
                let asked = wire.get_msg_type() == Kind::MsgRequestPreVote && wire.from == node;
                asked || wire.get_msg_type() == Kind::MsgRequestPreVoteResponse && wire.to == node
            };
            self.network.retain(|wire| !pre_vote(wire));
            theirs.extend(pair.theirs.campaign());
        }
        let leads = (
            pair.ours.core().role() == Role::Leader,
            pair.theirs.is_leader(),
        );
        match leads {
            (true, false) => ours.extend(pair.ours.step_down(pair.now)),
            (false, true) => theirs.extend(pair.theirs.become_follower()),
            _ => {}
        }
        self.compare(node, ours, theirs);
    }

    fn propose(&mut self, node: NodeId) {
        self.next += 1;
        let payload = Payload::Data(self.next);
        let pair = self.twins.get_mut(&node).unwrap();
        let (theirs_took, theirs) = pair.theirs.propose(payload_bytes(&payload));
        let (ours_took, ours) = pair.ours.propose(payload);
        assert_eq!(ours_took, theirs_took, "node {node} takes a proposal");
        self.compare(node, ours, theirs);
    }

    /// Both crash. What they know of the commit index afterwards is the same.
    fn restart(&mut self, node: NodeId) {
        self.sums.restarts += 1;
        let forget = self.rng.bool();
        let pair = self.twins.get_mut(&node).unwrap();
        pair.favour = None;
        pair.theirs.restart(forget);
        let commit = pair.theirs.commit_index();
        let ours = pair.ours.restart(pair.now, commit);
        self.compare(node, ours, Vec::new());
    }

    /// Delivers, loses or repeats one of the oldest messages.
    fn deliver_any(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let reach = self.network.len().min(6);
        let at = self.rng.usize(0..reach);
        let kind = self.network[at].get_msg_type();
        let once = matches!(
            kind,
            Kind::MsgRequestPreVote | Kind::MsgRequestPreVoteResponse
        );
        match self.rng.u8(0..20) {
            0 => _ = self.network.remove(at),
            1 if !once => {
                let wire = self.network[at].clone();
                self.deliver(&wire);
            }
            _ => {
                let wire = self.network.remove(at);
                self.deliver(&wire);
            }
        }
    }

    fn disturb(&mut self) {
        let voters = self.twins.len() as u64;
        let (node, other) = (self.rng.u64(1..=voters), self.rng.u64(1..=voters));
        match self.rng.u32(0..1000) {
            0..550 => self.deliver_any(),
            550..860 => self.tick(node),
            860..970 => self.propose(node),
            970..975 => self.restart(node),
            975..982 => _ = self.cut.insert((node, other)),
            982..992 => {
                for peer in self.ids() {
                    self.cut.extend([(node, peer), (peer, node)]);
                }
            }
            _ => self.cut.clear(),
        }
    }

    /// The cluster becomes quiet: both kinds have a leader, and all commit indexes are equal.
    fn recover(&mut self) {
        self.cut.clear();
        for round in 0..400 {
            for node in self.ids() {
                self.tick(node);
            }
            if round == 350 {
                let leader = self.twins.values().find(|pair| pair.theirs.is_leader());
                let leader = leader.expect("somebody leads after three seconds");
                self.propose(leader.ours.core().node());
            }
            for _ in 0..10_000 {
                let wires = std::mem::take(&mut self.network);
                if wires.is_empty() {
                    break;
                }
                wires.iter().for_each(|wire| self.deliver(wire));
            }
        }
        for (node, pair) in &self.twins {
            let commits = (pair.ours.core().commit_index(), pair.theirs.commit_index());
            assert_eq!(commits, (self.committed, self.committed), "node {node}");
            assert_eq!(pair.ours.core().last_index(), self.committed, "node {node}");
        }
    }
}

fn run_seed(seed: u64) -> Sums {
    let mut script = Script::new(seed);
    for _ in 0..STEPS {
        script.disturb();
    }
    script.recover();
    let mut sums = script.sums;
    sums.leaders = script.leaders.len() as u64;
    sums.committed = script.committed;
    sums.truncations = script
        .twins
        .values()
        .map(|pair| pair.ours.truncations)
        .sum();
    sums
}

#[test]
fn same_script_gives_the_same_decisions_in_both_implementations() {
    let mut all = Sums::default();
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| run_seed(seed)).unwrap_or_else(|panic| {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        });
        for side in 0..2 {
            all.votes[side] += run.votes[side];
            all.pre_votes[side] += run.pre_votes[side];
            all.appends[side] += run.appends[side];
        }
        all.inputs += run.inputs;
        all.favours += run.favours;
        all.leaders += run.leaders;
        all.restarts += run.restarts;
        all.commits_ahead += run.commits_ahead;
        all.committed += run.committed;
        all.truncations += run.truncations;
    }
    println!("{SEEDS} seeds, [no, yes]: {all:?}");
    let decisions = [all.votes, all.pre_votes, all.appends];
    assert!(
        decisions.as_flattened().iter().all(|&count| count > SEEDS),
        "each decision was met on both sides, often: {all:?}"
    );
    assert!(all.favours > SEEDS / 10, "{all:?}");
    assert!(all.leaders > SEEDS && all.restarts > SEEDS && all.truncations > SEEDS / 10);
    assert!(
        all.commits_ahead * 5 < all.inputs,
        "a commit index that is ahead is the exception"
    );
}
