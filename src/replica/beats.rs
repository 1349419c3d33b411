//! The beats of nodes: one sign of life a node and interval, which stands for the heartbeats of all groups that rest.
//!
//! Owns which nodes are told that this one lives, which are heard, and from when on one of them counts as silent. A replica rests only on
//! nodes that are heard; when one falls silent, or says that it is not what it was, whoever rests on it is woken, and its own timeouts run
//! from the last beat. It must not know what groups there are, nor why one rests. On no walk: groups that are on one are awake.
//!
//! Pure: the loop and the simulator drive it alike.

use std::collections::BTreeMap;

use crate::mutation;
use crate::raft::{self, Message, Millis, NodeId};
use crate::wire::{Content, Envelope};

/// How long a node that says nothing, and is told nothing but beats, is told those.
const FORGET_AFTER_MS: u64 = 10_000;

/// The beats of one node.
#[derive(Debug)]
pub struct Beats {
    /// Changes whenever a replica others may rest on is gone without a word: at each start, and when one is closed.
    life: u64,
    interval_ms: u64,
    /// Silence for so long wakes those that rest on a node. Not longer than any election timeout.
    patience_ms: u64,
    next_beat: Millis,
    others: BTreeMap<NodeId, Other>,
}

#[derive(Debug, Default)]
struct Other {
    /// When a replica here last said something to one there.
    told_at: Millis,
    /// When its last beat came.
    heard_at: Option<Millis>,
    /// What that said, until it is told that none has followed.
    life: Option<u64>,
}

impl Other {
    /// From when on it counts as silent, unless it does.
    fn silent_at(&self, patience_ms: u64) -> Option<Millis> {
        let heard_at = self.life.and(self.heard_at);
        heard_at.map(|at| at.saturating_add(patience_ms))
    }
}

/// What a message turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// For a group: it is to be given to it.
    Message,
    /// A beat.
    Beat,
    /// A beat of a node that is not what it was, or was silent: wake whoever rests on it.
    BeatOfAnother,
}

impl Beats {
    /// Nobody is heard yet. `life` must differ between starts of the node.
    pub fn new(config: &raft::Config, life: u64) -> Beats {
        Beats {
            life,
            interval_ms: config.heartbeat_ms,
            patience_ms: config.election_timeout_min_ms,
            next_beat: 0,
            others: BTreeMap::new(),
        }
    }

    /// A replica here says something to one on `to`: from now on the node hears our beats.
    pub fn told(&mut self, now: Millis, to: NodeId) {
        self.others.entry(to).or_default().told_at = now;
    }

    /// A message has come. One that asks for rest, or agrees to it, says no more than that its sender is alive if no beat could tell
    /// when it dies.
    pub fn receive(&mut self, now: Millis, from: NodeId, content: &mut Content) -> Arrived {
        match *content {
            Content::Beat { life } => {
                let other = self.others.entry(from).or_insert_with(|| Other {
                    told_at: now,
                    ..Other::default()
                });
                other.heard_at = Some(now);
                // Nodes beat together: one that is awake anyway does what it would soon have woken for.
                if self.next_beat.saturating_sub(now) <= self.interval_ms / 2 {
                    self.next_beat = now;
                }
                match other.life.replace(life) {
                    Some(before) if before == life => Arrived::Beat,
                    Some(_) if mutation::is("a node that restarts passes for the one it was") => {
                        Arrived::Beat
                    }
                    _ => Arrived::BeatOfAnother,
                }
            }
            Content::Raft(ref mut message) => {
                if !self.is_heard(now, from) {
                    keep_awake(message);
                }
                Arrived::Message
            }
            Content::Forward { .. } | Content::ForwardReply { .. } => Arrived::Message,
        }
    }

    /// When `node` was last heard, also if it has fallen silent since: whoever is woken by that counts from then.
    pub fn heard_at(&self, node: NodeId) -> Option<Millis> {
        self.others.get(&node)?.heard_at
    }

    fn is_heard(&self, now: Millis, node: NodeId) -> bool {
        let other = self.others.get(&node);
        let silent_at = other.and_then(|other| other.silent_at(self.patience_ms));
        silent_at.is_some_and(|at| now < at)
    }

    /// A replica that led is closed without a word to the others: they are to look for themselves.
    pub fn begin_life(&mut self) {
        self.life = self.life.wrapping_add(1);
        self.next_beat = 0;
    }

    /// When [`Beats::tick`] is due next.
    pub fn next_deadline(&self) -> Millis {
        if self.others.is_empty() {
            return Millis::MAX;
        }
        let others = self.others.values();
        let silent = others.filter_map(|other| other.silent_at(self.patience_ms));
        silent.min().unwrap_or(Millis::MAX).min(self.next_beat)
    }

    /// Lets time pass: whom to send a beat to now, and who has fallen silent. Handle what has arrived before.
    pub fn tick(&mut self, now: Millis) -> Ticked {
        let mut ticked = Ticked::default();
        for (&node, other) in &mut self.others {
            let silent_at = other.silent_at(self.patience_ms);
            if silent_at.is_none_or(|at| now < at) {
                continue;
            }
            other.life = None;
            if !mutation::is("the silence of a node wakes nobody at rest") {
                ticked.silent.push(node);
            }
        }
        if now >= self.next_beat {
            self.next_beat = now.saturating_add(self.interval_ms);
            let patience = FORGET_AFTER_MS;
            self.others
                .retain(|_, other| other.life.is_some() || now < other.told_at + patience);
            let life = self.life;
            let beat = |&to: &NodeId| {
                let content = Content::Beat { life };
                let envelope = Envelope {
                    group: 0,
                    content,
                    frames: Vec::new(),
                };
                (to, envelope)
            };
            ticked.beats.extend(self.others.keys().map(beat));
        }
        ticked
    }
}

/// What [`Beats::tick`] gives.
#[derive(Debug, Default)]
pub struct Ticked {
    /// To be sent.
    pub beats: Vec<(NodeId, Envelope)>,
    /// Nodes not heard any more: wake whoever rests on them.
    pub silent: Vec<NodeId>,
}

/// Takes the rest out of a message; all else it says stays.
fn keep_awake(message: &mut Message) {
    match *message {
        Message::Rest {
            term,
            commit,
            round,
        } => {
            *message = Message::Heartbeat {
                term,
                commit,
                round,
            }
        }
        Message::RestReply { term, round } => *message = Message::HeartbeatReply { term, round },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(life: u64) -> Beats {
        Beats::new(&raft::Config::new(1, 1), life)
    }

    fn beat(life: u64) -> Content {
        Content::Beat { life }
    }

    fn rest() -> Content {
        Content::Raft(Message::Rest {
            term: 2,
            commit: 3,
            round: 4,
        })
    }

    #[test]
    fn who_is_told_something_hears_beats_until_it_is_silent_for_long() {
        let mut own = beats(5);
        assert_eq!(own.next_deadline(), Millis::MAX);
        own.told(1_000, 2);
        let ticked = own.tick(1_000);
        assert_eq!(ticked.beats.len(), 1);
        assert_eq!(
            (ticked.beats[0].0, &ticked.beats[0].1.content),
            (2, &beat(5))
        );
        assert_eq!(own.next_deadline(), 1_050);
        assert!(own.tick(1_049).beats.is_empty());
        assert_eq!(own.tick(1_050).beats.len(), 1);
        assert!(own.tick(11_000).beats.is_empty(), "nobody is there");
    }

    #[test]
    fn rest_is_asked_and_agreed_to_only_where_beats_are_heard() {
        let mut own = beats(5);
        let mut asked = rest();
        assert_eq!(own.receive(1_000, 2, &mut asked), Arrived::Message);
        let awake = Message::Heartbeat {
            term: 2,
            commit: 3,
            round: 4,
        };
        assert_eq!(asked, Content::Raft(awake));
        let first = own.receive(1_000, 2, &mut beat(7));
        assert_eq!(first, Arrived::BeatOfAnother, "it may have been away");
        let mut asked = rest();
        own.receive(1_149, 2, &mut asked);
        assert_eq!(asked, rest());
        own.receive(1_150, 2, &mut asked);
        assert_ne!(asked, rest(), "it has been silent for too long");
    }

    #[test]
    fn silence_is_told_once_and_counted_from_the_last_beat() {
        let mut own = beats(5);
        own.receive(1_000, 2, &mut beat(7));
        own.receive(1_060, 2, &mut beat(7));
        own.tick(1_060);
        assert_eq!(own.heard_at(2), Some(1_060));
        assert!(own.tick(1_209).silent.is_empty());
        assert_eq!(own.tick(1_210).silent, [2]);
        assert_eq!(
            own.heard_at(2),
            Some(1_060),
            "timeouts run from the last beat"
        );
        assert!(own.tick(1_300).silent.is_empty(), "it was told before");
        let mut beat_again = beat(7);
        assert_eq!(
            own.receive(1_400, 2, &mut beat_again),
            Arrived::BeatOfAnother
        );
    }

    #[test]
    fn nodes_that_hear_each_other_beat_together_and_none_more_than_twice_as_often() {
        for apart in 1..50 {
            let (mut first, mut second) = (beats(5), beats(7));
            first.told(0, 2);
            second.told(0, 1);
            let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
            for now in 0..1_000 {
                if now > 0 && !first.tick(now).beats.is_empty() {
                    of_first.push(now);
                    second.receive(now, 1, &mut beat(5));
                }
                if now >= apart && !second.tick(now).beats.is_empty() {
                    of_second.push(now);
                    first.receive(now, 2, &mut beat(7));
                }
            }
            for beats in [&of_first, &of_second] {
                assert!(
                    beats
                        .windows(2)
                        .all(|pair| (25..=50).contains(&(pair[1] - pair[0])))
                );
            }
            let together = |at: &u64| of_second.iter().any(|other| at.abs_diff(*other) <= 1);
            let mut later = of_first.iter().filter(|at| (100..900).contains(*at));
            assert!(later.all(together), "{of_first:?} {of_second:?}");
            assert!(of_first.len() <= 22, "{of_first:?}");
        }
    }

    #[test]
    fn node_that_started_again_or_closed_a_group_is_another() {
        let (mut own, mut other) = (beats(5), beats(7));
        other.told(1_000, 1);
        let mut life = || other.tick(1_000).beats.remove(0).1.content;
        own.receive(999, 2, &mut life());
        assert_eq!(own.receive(1_000, 2, &mut beat(7)), Arrived::Beat);
        other.begin_life();
        let mut life = other.tick(1_000).beats.remove(0).1.content;
        assert_eq!(own.receive(1_001, 2, &mut life), Arrived::BeatOfAnother);
        assert_eq!(own.receive(1_002, 2, &mut life), Arrived::Beat);
    }
}
