//! Whether a node that somebody waits for gives any sign.
//!
//! A node that dies says nothing: not on a connection, not while it is dialed. QUIC gives up after seconds; who waits here hears of the silence long before, and
//! asks the others. Owns that judgement, and the one task for each node that listens while somebody waits. Must not know what is done about a silence. On every walk of the client.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::lock;
use super::node::{Node, REPLY_LIMITS, open};
use crate::wire::{Request, encode_request};

/// How often somebody looks whether anything has come.
const TICK: Duration = Duration::from_millis(50);
/// Ticks without anything, after which a node that was being heard is asked to say something.
const ASK_AFTER: u32 = 2;
/// Ticks without anything, after which a node that was asked, or is being dialed, is silent: 200 ms.
const SILENT_AFTER: u32 = 4;
/// The same where it owes nothing: what QUIC sends to keep a connection alive, each 500 ms, must have been answered by then.
const IDLE_SILENT_AFTER: u32 = 14;

/// What has been heard of a node: number of the last dial, and bytes that came since on its connection.
pub(super) type Heard = (u64, u64);

/// Tells, at each tick, what to make of what was heard until then.
#[derive(Debug)]
struct Judge {
    heard: Heard,
    /// Ticks since anything came.
    quiet: u32,
    /// It would say something by now if it could: it is being dialed, or has been sent something, or was busy just before.
    owes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Wait,
    /// It was busy, and says nothing: it may have nothing to say.
    Ask,
    Silent,
}

impl Judge {
    /// Somebody begins to wait, so it has been sent something, or is being dialed.
    fn new(heard: Heard) -> Judge {
        Judge {
            heard,
            quiet: 0,
            owes: true,
        }
    }

    /// `late` more ticks are given to what is on its way there and back.
    fn tick(&mut self, heard: Heard, late: u32) -> Verdict {
        if heard != self.heard {
            // Twice on end: more than an answer to what keeps the connection alive, or to a question from here.
            self.owes = self.quiet == 0;
            (self.heard, self.quiet) = (heard, 0);
            return Verdict::Wait;
        }
        self.quiet = self.quiet.saturating_add(1);
        let silent_after = if self.owes {
            SILENT_AFTER
        } else {
            IDLE_SILENT_AFTER
        };
        if self.quiet >= silent_after + late {
            Verdict::Silent
        } else if self.owes && self.quiet == ASK_AFTER {
            Verdict::Ask
        } else {
            Verdict::Wait
        }
    }
}

/// One node's silence, and who listens for it.
#[derive(Debug)]
pub(super) struct Silence {
    /// What had been heard when it was found silent: it is for as long as that is all.
    since: watch::Sender<Option<Heard>>,
    /// Whether the task that listens runs; it does while there are receivers.
    is_listening: std::sync::Mutex<bool>,
}

impl Silence {
    pub(super) fn new() -> Silence {
        Silence {
            since: watch::Sender::new(None),
            is_listening: std::sync::Mutex::new(false),
        }
    }
}

impl Node {
    /// Resolves once nothing comes from the node any more though it would if it could. Cancel-safe, and holds nothing that another waits for.
    pub(super) async fn silence(self: &Arc<Self>) {
        let mut since = self.listen();
        let silent = since.wait_for(|heard| *heard == Some(self.heard())).await;
        silent.expect("the node holds the sender");
    }

    /// Has somebody listen.
    fn listen(self: &Arc<Self>) -> watch::Receiver<Option<Heard>> {
        let mut is_listening = lock(&self.silence.is_listening);
        let since = self.silence.since.subscribe();
        if !*is_listening {
            *is_listening = true;
            tokio::spawn(Arc::clone(self).hear());
        }
        since
    }

    /// Listens while anybody wants to know.
    async fn hear(self: Arc<Self>) {
        let mut judge = Judge::new(self.heard());
        loop {
            sleep(TICK).await;
            if self.nobody_waits() {
                return;
            }
            let heard = self.heard();
            match judge.tick(heard, self.late()) {
                Verdict::Wait => {}
                Verdict::Ask => judge.owes = self.ask_for_a_sign().await,
                Verdict::Silent => {
                    self.silence.since.send_if_modified(|since| {
                        let is_new = *since != Some(heard);
                        *since = Some(heard);
                        is_new
                    });
                }
            }
        }
    }

    /// Ticks in which a packet comes and goes twice, were it as slow as packets are on this connection.
    fn late(&self) -> u32 {
        let rtt = self.live().map(|connection| connection.stats().rtt);
        let ticks = rtt.map_or(0, |rtt| 2 * rtt.as_millis() / TICK.as_millis());
        u32::try_from(ticks).unwrap_or(u32::MAX / 2)
    }

    fn nobody_waits(&self) -> bool {
        let mut is_listening = lock(&self.silence.is_listening);
        *is_listening = self.silence.since.receiver_count() > 0;
        !*is_listening
    }

    /// The smallest request there is; QUIC alone can be asked for nothing. False if it could not be sent: then the node owes nothing.
    async fn ask_for_a_sign(&self) -> bool {
        let Some(connection) = self.live() else {
            // It is being dialed, which is the same.
            return true;
        };
        let (kind, head) = encode_request(&Request::Metadata {
            topics: Some(Vec::new()),
        });
        let asked = async {
            let (mut send, recv) = open(&connection).await.ok()?;
            send.send(kind, &head, &mut []).await.ok()?;
            send.finish();
            Some(recv)
        };
        let Ok(Some(mut recv)) = timeout(TICK, asked).await else {
            return false;
        };
        tokio::spawn(async move {
            // That anything comes is all that counts.
            drop(timeout(TICK * SILENT_AFTER, recv.recv(&REPLY_LIMITS)).await);
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of it when so many bytes have come at each tick.
    fn verdicts(judge: &mut Judge, bytes: impl IntoIterator<Item = u64>) -> Vec<Verdict> {
        let heard = bytes.into_iter().map(|bytes| judge.tick((1, bytes), 0));
        heard.collect()
    }

    #[test]
    fn node_that_never_answers_is_silent_after_the_fourth_tick_and_from_then_on() {
        use Verdict::{Ask, Silent, Wait};
        let mut judge = Judge::new((1, 0));
        assert_eq!(
            verdicts(&mut judge, [0; 6]),
            [Wait, Ask, Wait, Silent, Silent, Silent]
        );
    }

    #[test]
    fn busy_node_that_pauses_is_asked_once_and_one_that_answers_is_left_alone_while_it_is_kept_alive()
     {
        let mut judge = Judge::new((1, 0));
        let busy = verdicts(&mut judge, 1..=5);
        assert!(busy.iter().all(|verdict| *verdict == Verdict::Wait));
        assert_eq!(
            verdicts(&mut judge, [5, 5, 6]),
            [Verdict::Wait, Verdict::Ask, Verdict::Wait]
        );
        // A sign each tenth tick, for a minute.
        let idle = verdicts(&mut judge, (10..1210).map(|tick| tick / 10 + 5));
        assert!(idle.iter().all(|verdict| *verdict == Verdict::Wait));
    }

    #[test]
    fn idle_node_is_silent_only_when_it_does_not_answer_what_keeps_the_connection_alive() {
        let mut judge = Judge::new((1, 0));
        verdicts(&mut judge, [0, 1]);
        let quiet = verdicts(&mut judge, [1; 14]);
        let silent = quiet.iter().position(|verdict| *verdict == Verdict::Silent);
        assert_eq!(silent, Some(13));
        assert!(!quiet.contains(&Verdict::Ask));
    }

    #[test]
    fn node_far_away_has_longer_to_answer() {
        let mut judge = Judge::new((1, 0));
        let near = (1..=7).map(|_| judge.tick((1, 0), 3));
        let silent = near.collect::<Vec<_>>();
        assert!(!silent[..6].contains(&Verdict::Silent));
        assert_eq!(silent[6], Verdict::Silent);
    }

    #[test]
    fn node_that_is_dialed_anew_has_all_its_time_again() {
        let mut judge = Judge::new((1, 0));
        verdicts(&mut judge, [0; 4]);
        let anew: Vec<Verdict> = (0..4).map(|_| judge.tick((2, 0), 0)).collect();
        assert!(!anew.contains(&Verdict::Silent), "{anew:?}");
    }
}
