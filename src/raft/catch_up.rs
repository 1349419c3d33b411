//! Peers whose log is not simply being extended: finding where it ends, feeding one that is far behind, and giving a state to one
//! that lacks entries trimmed here (section 7).
//!
//! Owns who is asked, fed or given what, and when that is done again. It must not know what the state contains: the shell has its
//! bytes. The follower's side of it is in `install`. On the walk produce.

use super::core::Raft;
use super::install::Offer;
use super::mutation;
use super::{Append, Index, Install, InstallPlan, LogId, Message, Millis, NodeId, ProgressState};

/// How many election timeouts a peer may take to answer what yields to all else.
const BULK_PATIENCE: u64 = 4;

/// A state that is being given to a peer, piece by piece, one in flight at a time.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    offer: Offer,
    /// Bytes the peer has said to have received in order.
    received: u64,
    in_flight: bool,
}

impl Sending {
    fn is_complete(&self) -> bool {
        self.received == self.offer.bytes
    }
}

impl Raft {
    /// When a peer to which something is in flight, and that stays silent from now on, is doubted.
    pub(super) fn doubt_deadline(&self, peer: NodeId) -> Millis {
        let patience = self.config.election_timeout_max_ms;
        let progress = self.leading().and_then(|leading| leading.peers.get(&peer));
        match progress.map(|progress| progress.state()) {
            Some(ProgressState::CatchUp | ProgressState::Install) => {
                self.now + BULK_PATIENCE * patience
            }
            _ => self.now + patience,
        }
    }

    /// Asks `peer` whether it holds the entry before its next index, or before our kept log if that begins later. Asked
    /// again each heartbeat until it answers.
    pub(super) fn send_probe(&mut self, peer: NodeId) {
        let (term, commit, log_prev) = (self.term(), self.commit_index, self.log.prev().index);
        let again = self.now + self.config.heartbeat_ms;
        let later = self.doubt_deadline(peer);
        let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        else {
            return;
        };
        if progress.probed_index() < log_prev {
            progress.probe(log_prev);
        }
        let installing = progress.state() == ProgressState::Install;
        progress.retry_at = Some(if installing { later } else { again });
        let prev = progress.probed_index();
        let prev = self
            .log
            .id_at(prev)
            .expect("probes stay inside the kept log");
        let append = Append {
            term,
            prev,
            runs: Vec::new(),
            last_index: prev.index,
            memberships: Vec::new(),
            commit,
        };
        self.send(peer, Message::Append(append));
    }

    /// Falls back to asking where the log of `peer` ends, from `prev` downward.
    pub(super) fn probe_from(&mut self, peer: NodeId, prev: Index) {
        if let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        {
            progress.probe(prev);
            self.send_probe(peer);
        }
    }

    /// The connection to `peer` broke: what was in flight may be lost, so its end of the log is probed again.
    pub fn peer_unreachable(&mut self, peer: NodeId) {
        if self.rests_on(peer) {
            self.end_rest();
        }
        if let Some(view) = self.progress(peer)
            && matches!(view.state, ProgressState::Pipeline | ProgressState::CatchUp)
        {
            self.probe_from(peer, view.next_index - 1);
        }
    }

    /// The kept log now begins later: whoever needs an entry before it cannot be served from it.
    pub(super) fn strand_trimmed_peers(&mut self) {
        let prev = self.log.prev().index;
        for peer in self.peers() {
            if let Some(view) = self.progress(peer)
                && view.next_index <= prev
            {
                self.probe_from(peer, view.next_index - 1);
            }
        }
    }

    /// Asks `peer` again if its answer is overdue.
    pub(super) fn retry(&mut self, peer: NodeId) {
        let now = self.now;
        let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        else {
            return;
        };
        if progress.retry_at.is_some_and(|retry_at| now >= retry_at) {
            if progress.streams() {
                let prev = progress.next_index - 1;
                progress.probe(prev);
            }
            if let Some(sending) = &mut progress.install {
                // The piece, or the answer to it, may be lost. Or all is there, and the last answer is lost: asked below.
                sending.in_flight = false;
            }
            self.send_probe(peer);
        }
    }

    // ---- far behind ----

    /// The lag above which a peer is fed from the log on disk; see [`super::Config::catch_up_lag_bytes`].
    pub fn catch_up_lag_bytes(&self) -> u64 {
        self.config.catch_up_lag_bytes
    }

    /// The shell measured how many bytes of log `peer` has not been sent. Far behind, it is fed from the log on disk, in a
    /// window of its own, until little enough is left.
    pub fn set_lag(&mut self, peer: NodeId, lag_bytes: u64) {
        let far = self.config.catch_up_lag_bytes;
        let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        else {
            return;
        };
        if lag_bytes > far {
            progress.turn_to(ProgressState::CatchUp);
        } else if lag_bytes <= far / 2 {
            progress.turn_to(ProgressState::Pipeline);
        }
    }

    // ---- behind the kept log ----

    /// `peer` does not hold the entry before our kept log: no append can help it.
    pub(super) fn begin_install(&mut self, peer: NodeId) {
        let prev = self.log.prev().index;
        if let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        {
            progress.install(prev);
        }
    }

    /// What `peer` needs next, if it must be given a state. Call it after every input, like [`Raft::next_append`].
    pub fn next_install(&self, peer: NodeId) -> Option<InstallPlan> {
        let progress = self.leading()?.peers.get(&peer)?;
        if progress.state() != ProgressState::Install || mutation::is("a state is never sent") {
            return None;
        }
        match &progress.install {
            None => Some(InstallPlan::Offer),
            Some(sending) if sending.in_flight || sending.is_complete() => None,
            Some(sending) => Some(InstallPlan::Piece {
                offset: sending.received,
            }),
        }
    }

    /// The shell has a state for `peer`, as of an applied entry, to go in front of the log as it is kept now. Panics if no
    /// plan asked for it.
    pub fn offer_install(&mut self, peer: NodeId, offer: Offer) {
        assert_eq!(
            self.next_install(peer),
            Some(InstallPlan::Offer),
            "the shell was asked for a state"
        );
        assert!(
            offer.base == self.log.prev()
                && offer.is_well_formed()
                && offer.snapshot.index <= self.commit_index
                && self.log.id_at(offer.snapshot.index) == Some(offer.snapshot),
            "{offer:?} does not go in front of the kept log"
        );
        let sending = Sending {
            offer,
            received: 0,
            in_flight: false,
        };
        if let Some(progress) = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
        {
            progress.install = Some(sending);
        }
    }

    /// The shell sends a piece of `len` bytes. Returns the message to send with them. Panics if no plan allowed it.
    pub fn install_sent(&mut self, now: Millis, peer: NodeId, len: u64) -> Message {
        self.advance(now);
        let (term, retry_at) = (self.term(), self.doubt_deadline(peer));
        let progress = self
            .leading_mut()
            .and_then(|leading| leading.peers.get_mut(&peer))
            .expect("the shell asked for a plan before");
        progress.retry_at = Some(retry_at);
        let sending = progress
            .install
            .as_mut()
            .expect("a piece is planned after an offer");
        sending.in_flight = true;
        Message::Install(Install {
            term,
            offer: sending.offer.clone(),
            offset: sending.received,
            len,
        })
    }

    /// The peer says how much of a state it has. The next piece begins there, even if that is earlier: it may have restarted.
    pub(super) fn on_install_reply(&mut self, from: NodeId, at: (LogId, LogId), received: u64) {
        let retry_at = self.doubt_deadline(from);
        let Some(progress) = self.hear(from) else {
            return;
        };
        if let Some(sending) = &mut progress.install
            && (sending.offer.base, sending.offer.snapshot) == at
            && received <= sending.offer.bytes
        {
            sending.received = received;
            sending.in_flight = false;
            // All there: what is awaited now is that it is durable.
            progress.retry_at = sending.is_complete().then_some(retry_at);
        }
    }

    /// The peer still lacks the entry before our kept log, although it had all of the state: it has lost it again.
    pub(super) fn on_install_rejected(&mut self, from: NodeId, prev_index: Index) {
        if let Some(progress) = self.hear(from)
            && prev_index == progress.probed_index()
            && let Some(sending) = &mut progress.install
            && sending.is_complete()
        {
            sending.received = 0;
        }
    }
}
