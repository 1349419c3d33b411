//! Contests: what keeps those who would lead out of each other's way.
//!
//! The paper leaves that to randomised timeouts alone (section 5.2), and they decide here, too, who asks first. But what is between the first
//! question and the vote takes time, two syncs at least, and with a slow disk or thousands of elections at once far more than timeouts lie apart:
//! then several campaign, split the votes, and do so again. So a voter tells one of them at a time that it would vote for it; of two
//! that ask each other, one gives way; and elections that came to nothing are begun again after longer and longer.
//!
//! Owns these three rules. No rule of safety depends on them: a pre-vote refused, or a timeout that is long, costs time. So each of them is bounded, for
//! whoever is favoured may be gone, or unable to win: nothing here moves a voter's own timer, it is bound to a candidate once in a term, and for no
//! longer than the shortest timeout. It must not know how votes are counted. On the walk of elections.

use super::core::{Part, Raft};
use super::{Config, LogId, Millis, NodeId, Term};

/// The longest timeout is doubled with each election that came to nothing, so often at most.
const DOUBLINGS_MAX: u32 = 3;

/// What is remembered of contests.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// Elections in a row that this node began, and that ended without a leader. Pre-votes are none: who cannot reach a majority disturbs nobody.
    fruitless: u32,
    favour: Option<Favour>,
}

/// Who was the first to be granted a pre-vote since our term began, and until when it is the only one.
#[derive(Debug)]
struct Favour {
    term: Term,
    to: NodeId,
    until: Millis,
}

impl Contest {
    /// The longest timeout that may be drawn now.
    pub(super) fn timeout_max(&self, config: &Config) -> Millis {
        config.election_timeout_max_ms << self.fruitless.min(DOUBLINGS_MAX)
    }
}

impl Raft {
    /// The timeout has passed: counts an election that it ended.
    pub(super) fn note_fruitless(&mut self) {
        if matches!(self.part, Part::Candidate(_)) {
            self.contest.fruitless = self.contest.fruitless.saturating_add(1);
        }
    }

    /// Somebody leads: timeouts are as short as ever.
    pub(super) fn end_contest(&mut self) {
        if std::mem::take(&mut self.contest.fruitless) > 0 {
            self.draw_election_timeout();
        }
    }

    /// Whether this node, which would vote for `from`, may say so: not while it favours another.
    pub(super) fn favours(&mut self, from: NodeId, last: LogId) -> bool {
        if self.has_just_asked() {
            if (last, from) < (self.log.last_id(), self.config.node) {
                return false;
            }
            self.become_follower();
        }
        let (now, term) = (self.now, self.term());
        match &self.contest.favour {
            Some(favour) if favour.term == term => favour.to == from || now >= favour.until,
            _ => {
                let until = now + self.config.election_timeout_min_ms;
                self.contest.favour = Some(Favour {
                    term,
                    to: from,
                    until,
                });
                true
            }
        }
    }

    /// Whether this node has asked for pre-votes so lately that the answers may be under way. If none have come by then, the others may not
    /// hear it at all, and it stands in nobody's way.
    fn has_just_asked(&self) -> bool {
        let asked_at = self
            .election_deadline
            .saturating_sub(self.election_timeout_ms);
        matches!(self.part, Part::PreCandidate(_))
            && self.now < asked_at.saturating_add(self.config.heartbeat_ms)
    }
}
