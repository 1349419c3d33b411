//! A replica that may have lost entries it once acknowledged: how little its word counts, and until when.
//!
//! Owns the rule of the suspect tail. A commit is safe because any later quorum of votes shares a voter with the quorum that
//! holds it, and that voter refuses whoever lacks it. A voter that lost it does not. So its votes are *conditional*: they
//! count only if every voter agrees, and then nobody who answered has a better log. It must not know how the loss was found.
//! On the walk append.

use super::core::Raft;
use super::election::Answer;
use super::mutation;
use super::{Message, Term};

/// Terms up to this one are of a former life, in which this replica may have acknowledged what it lost; `None`: nothing
/// was lost, or what counts was sent again.
pub(super) type Suspect = Option<Term>;

impl Raft {
    /// Whether votes of this replica are conditional; see [`super::Restored::suspect_tail`].
    pub fn tail_suspect(&self) -> bool {
        self.suspect.is_some()
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
            Message::Append(_) | Message::Install(_) | Message::Heartbeat { .. }
        );
        if leads
            && self.suspect == Some(self.term())
            && message.term() == self.term()
            && !mutation::is("a suspect follows the leader of its former life")
        {
            self.enter_term(self.term() + 1);
        }
    }

    /// More is durable. An entry of a term that began after the loss settles it: whoever led that term had all that was
    /// committed before, also by this replica's word, and its log up to that entry is this one.
    pub(super) fn trust_tail_again(&mut self) {
        let settled = self.log.term_at(self.durable_index) > self.suspect
            || mutation::is("a suspect tail is trusted as soon as it grows");
        if self.suspect.is_some() && settled {
            self.suspect = None;
        }
    }
}
