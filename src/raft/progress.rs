//! A leader's knowledge of one peer, and the window of what is in flight to it.
//!
//! Owns the state machine probe, pipeline, catch-up, install. It must not know the log's terms, the quorum, or other peers.
//! On the walk produce.

use std::collections::VecDeque;

use super::catch_up::Sending;
use super::mutation;
use super::{Config, Index, Millis, ProgressState};

/// Appends in flight to one peer, at most; the window is also bounded in bytes.
const IN_FLIGHT_MESSAGES_MAX: usize = 1024;

/// How a leader sees one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Highest index known to be durable on the peer and equal to ours.
    pub match_index: Index,
    /// Next index to send.
    pub next_index: Index,
    /// The peer's own commit index, as it last told.
    pub commit_index: Index,
    /// How entries are being sent.
    pub state: ProgressState,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// When the peer was last heard in this term.
    pub heard_at: Millis,
}

/// One peer, in the eyes of the leader of one term.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Durable on the peer and equal to ours, up to and including. Never falls within a term.
    pub(super) match_index: Index,
    /// Next index to send. In `Probe` and `Install`, one past the `prev` being probed.
    pub(super) next_index: Index,
    /// The peer's own commit index, as it last told.
    pub(super) commit_index: Index,
    /// The highest commit index that a message to the peer has let it take over.
    pub(super) commit_sent: Index,
    /// Last message of the peer in this term.
    pub(super) heard_at: Millis,
    /// Latest heartbeat round the peer answered.
    pub(super) round_acked: u64,
    /// The round by which the peer said that it rests; 0 before it did.
    pub(super) rests_since: u64,
    /// When to act if nothing is heard until then: probe again, or doubt the pipeline. `None`: nothing is awaited.
    pub(super) retry_at: Option<Millis>,
    state: ProgressState,
    /// Between `Pipeline` and `CatchUp`: what the state turns into once nothing is in flight. The two use streams of their
    /// own, which may overtake each other.
    turning_to: Option<ProgressState>,
    /// What is being given to the peer. `None` outside `Install`.
    pub(super) install: Option<Sending>,
    /// (last index, bytes) of each append in flight, ascending. Empty outside `Pipeline` and `CatchUp`.
    in_flight: VecDeque<(Index, u64)>,
    /// Sum of the bytes in `in_flight`.
    in_flight_bytes: u64,
}

impl Progress {
    /// A peer nothing is known of: the end of our log, `last_index`, is probed first.
    pub(super) fn new(last_index: Index, now: Millis) -> Progress {
        Progress {
            match_index: 0,
            next_index: last_index + 1,
            commit_index: 0,
            commit_sent: 0,
            heard_at: now,
            round_acked: 0,
            rests_since: 0,
            retry_at: None,
            state: ProgressState::Probe,
            turning_to: None,
            install: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
        }
    }

    pub(super) fn state(&self) -> ProgressState {
        self.state
    }

    /// Index of the entry that the probe in flight asks for. Only meaningful in `Probe` and `Install`.
    pub(super) fn probed_index(&self) -> Index {
        self.next_index - 1
    }

    /// Stops streaming: asks whether the peer holds the entry at `prev` first.
    pub(super) fn probe(&mut self, prev: Index) {
        self.enter(ProgressState::Probe, prev);
    }

    /// Stops streaming: the peer lacks `prev`, the entry before our kept log.
    pub(super) fn install(&mut self, prev: Index) {
        self.enter(ProgressState::Install, prev);
        self.retry_at = None;
    }

    /// Streams entries like this from now on, or rather once what is in flight has arrived.
    pub(super) fn turn_to(&mut self, state: ProgressState) {
        if self.streams() {
            self.turning_to = (state != self.state).then_some(state);
            self.turn_if_drained();
        }
    }

    fn turn_if_drained(&mut self) {
        if self.in_flight.is_empty()
            && let Some(state) = self.turning_to.take()
        {
            self.state = state;
        }
    }

    /// Whether entries are being streamed at all.
    pub(super) fn streams(&self) -> bool {
        matches!(self.state, ProgressState::Pipeline | ProgressState::CatchUp)
    }

    fn enter(&mut self, state: ProgressState, prev: Index) {
        self.state = state;
        self.turning_to = None;
        self.install = None;
        self.next_index = prev + 1;
        self.commit_sent = 0;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// Room in the window for another append; `None` if there is none, or nothing may be streamed.
    pub(super) fn room(&self, config: &Config) -> Option<u64> {
        let bytes_max = match self.state {
            ProgressState::Pipeline => config.in_flight_bytes_max,
            ProgressState::CatchUp => config.catch_up_in_flight_bytes_max,
            ProgressState::Probe | ProgressState::Install => return None,
        };
        let open = self.turning_to.is_none()
            && self.in_flight.len() < IN_FLIGHT_MESSAGES_MAX
            && (self.in_flight_bytes < bytes_max || mutation::is("a full window takes more"));
        open.then(|| bytes_max.saturating_sub(self.in_flight_bytes))
    }

    /// An append up to `last` of `bytes` left. `retry_at` counts if nothing was in flight before.
    pub(super) fn sent(&mut self, last: Index, bytes: u64, retry_at: Millis) {
        assert!(
            self.streams() && last >= self.next_index,
            "sent what was not planned"
        );
        self.next_index = last + 1;
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
        self.retry_at.get_or_insert(retry_at);
    }

    /// The peer holds our log up to `matched`, durably. Returns whether that is news.
    pub(super) fn accepted(&mut self, matched: Index, retry_at: Millis) -> bool {
        let news = matched > self.match_index;
        self.match_index = self.match_index.max(matched);
        if !self.streams() {
            if matched < self.probed_index() {
                return news;
            }
            self.state = ProgressState::Pipeline;
            self.install = None;
        }
        self.next_index = self.next_index.max(matched + 1);
        while let Some(&(last, bytes)) = self.in_flight.front()
            && last <= matched
        {
            self.in_flight.pop_front();
            self.in_flight_bytes -= bytes;
        }
        self.retry_at = (!self.in_flight.is_empty()).then_some(retry_at);
        self.turn_if_drained();
        news
    }

    /// Whether the peer has been sent all of a log that ends at `last_index`, and has acknowledged all of it.
    pub(super) fn is_idle(&self, last_index: Index) -> bool {
        self.state == ProgressState::Pipeline
            && self.in_flight.is_empty()
            && self.next_index > last_index
    }

    pub(super) fn view(&self) -> PeerView {
        PeerView {
            match_index: self.match_index,
            next_index: self.next_index,
            commit_index: self.commit_index,
            state: self.state,
            in_flight_bytes: self.in_flight_bytes,
            heard_at: self.heard_at,
        }
    }
}
