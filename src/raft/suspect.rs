//! A replica that may have lost entries it once acknowledged: how little its word counts, and until when.
//!
//! Owns the rules of the suspect tail and of the forgotten life. A commit is safe because any later quorum of votes shares a
//! voter with the quorum that holds it, and that voter refuses whoever lacks it. A voter that lost it does not. If only the
//! end of its log is in doubt, its votes are *conditional*: they count only if every voter agrees, and then nobody who answered
//! has a better log. If all of it is gone, as when a replica left this node and comes back, it has no say at all. It must not
//! know how the loss was found. On the walk append.

use super::core::Raft;
use super::election::Answer;
use super::{Message, Term, mutation};

/// What this replica may have promised and does not know any more.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    /// Terms up to this one are of a former life, in which this replica may have acknowledged what it lost. `None`: nothing
    /// was lost, or what counts was sent again.
    former: Option<Term>,
    /// Nothing is left of that life.
    all_gone: bool,
}

impl Suspect {
    /// `lost_end`: the term at which the end of the log was found in doubt. `forgotten`: the last term of a life of which
    /// nothing is left. `last`: the term of the last entry that is here.
    pub(super) fn new(lost_end: Option<Term>, forgotten: Option<Term>, last: Term) -> Suspect {
        let forgotten = forgotten.filter(|&term| last <= term);
        Suspect {
            former: lost_end.max(forgotten),
            all_gone: forgotten.is_some() && !mutation::is("a replica that comes back votes"),
        }
    }
}

impl Raft {
    /// Whether votes of this replica are conditional; see [`super::Restored::suspect_tail`].
    pub fn tail_suspect(&self) -> bool {
        self.suspect.former.is_some()
    }

    /// Whether this replica neither votes nor campaigns; see [`super::Restored::forgotten_term`].
    pub fn has_no_say(&self) -> bool {
        self.suspect.all_gone
    }

    /// A yes of this node.
    pub(super) fn own_answer(&self) -> Answer {
        Answer::of(true, self.tail_suspect())
    }

    /// A replica that lost entries does not follow a leader of its former life: that one takes it to have what it
    /// acknowledged then, and an acknowledgement may still be on its way. In a later term none of that counts.
    pub(super) fn leave_former_life(&mut self, message: &Message) {
        let leads = matches!(
            message,
            Message::Append(_) | Message::Heartbeat { .. } | Message::Rest { .. }
        );
        if leads
            && self.suspect.former == Some(self.term())
            && message.term() == self.term()
            && !mutation::is("a suspect follows the leader of its former life")
        {
            self.enter_term(self.term() + 1);
        }
    }

    /// More is durable. An entry of a term that began after the loss settles it: whoever led that term had all that was
    /// committed before, also by this replica's word, and its log up to that entry is this one.
    pub(super) fn trust_tail_again(&mut self) {
        let settled = self.log.term_at(self.durable_index) > self.suspect.former
            || mutation::is("a suspect tail is trusted as soon as it grows");
        if self.tail_suspect() && settled {
            self.suspect = Suspect::default();
        }
    }
}
