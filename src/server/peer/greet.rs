//! The first thing on every connection between nodes: both say which data directory they are, and which start of it, and each holds the
//! other to what it has seen before.
//!
//! A node whose disk was emptied, rolled back or copied has forgotten votes and records that others count on. It is found out here, before
//! any message of it is acted on, and told so; it then stops for good. Must not know what is said on a connection afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use segment_store::standing::PEERS_MAX;
use segment_store::{Boot, DataDirError, Memory, Pin};
use tokio::sync::{Mutex, mpsc};
use transport::{Connection, ConnectionLost, Limits, RecvHalf, SendHalf};

use super::Peers;
use super::dial::StreamEnd;
use crate::mutation;
use crate::wire::{GREETING_HEAD_BYTES_MAX, Greeting, decode_greeting, encode_greeting};

/// Code a connection is closed with when the other node lacks what it had before.
const REFUSED: u32 = 0x100;
/// Code a connection is closed with when the other node was removed from the cluster.
const REMOVED: u32 = 0x101;
/// How long a new connection may stay without a greeting.
const GREETING_WITHIN: Duration = Duration::from_secs(5);
/// Greetings go before everything else.
const PRIORITY: i32 = 20;

/// Why this node must stop, as another one told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Expelled {
    /// It lacks what it had before.
    Refused(String),
    /// It was removed from the cluster.
    Removed,
}

/// What this node says of itself, and what it has seen of the others.
#[derive(Debug)]
pub(super) struct Greeter {
    own: Greeting,
    pins: Mutex<BTreeMap<u64, Pin>>,
    memory: Memory,
    /// Nodes that are gone for good.
    removed: std::sync::Mutex<BTreeSet<u64>>,
    expelled: mpsc::UnboundedSender<Expelled>,
}

/// Why a greeting was not accepted.
enum Unwelcome {
    /// The other lacks what it had before.
    Refused(String),
    /// It sent what no node of the cluster sends, or went away.
    End(StreamEnd),
}

impl From<StreamEnd> for Unwelcome {
    fn from(end: StreamEnd) -> Unwelcome {
        Unwelcome::End(end)
    }
}

impl Greeter {
    /// `expelled` is told when another node refuses this one.
    pub(super) fn new(
        own: Greeting,
        memory: Memory,
        expelled: mpsc::UnboundedSender<Expelled>,
    ) -> Result<Greeter, DataDirError> {
        Ok(Greeter {
            own,
            pins: Mutex::new(memory.pins()?),
            memory,
            removed: std::sync::Mutex::default(),
            expelled,
        })
    }

    /// Greets first, on a connection dialed from here. Gives the nonce of the other's present start; `None` if nothing may be said on the
    /// connection, which is closed then.
    pub(super) async fn greet(&self, node: u64, connection: &Connection) -> Option<u64> {
        let greet = async {
            let (mut send, mut recv) = connection
                .open_bi(PRIORITY)
                .await
                .map_err(StreamEnd::from)?;
            self.say(&mut send).await?;
            send.finish();
            self.hear(node, &mut recv).await
        };
        self.judge(node, connection, greet).await
    }

    /// Answers the greeting on a connection that was dialed by `node`. Gives what `greet` does.
    pub(super) async fn welcome(&self, node: u64, connection: &Connection) -> Option<u64> {
        let welcome = async {
            let (mut send, mut recv) = connection.accept_bi().await.map_err(StreamEnd::from)?;
            let nonce = self.hear(node, &mut recv).await?;
            self.say(&mut send).await?;
            send.finish();
            Ok(nonce)
        };
        self.judge(node, connection, welcome).await
    }

    /// Turns away a node that was removed, on a connection that it has just dialed: it listens once it has begun to greet.
    pub(super) async fn turn_away_at_greeting(&self, node: u64, connection: &Connection) {
        // Whether it greets or is silent, the answer is the same.
        let _ = tokio::time::timeout(GREETING_WITHIN, connection.accept_bi()).await;
        self.turn_away(node, connection);
    }

    /// Closes a connection of a node that was removed, and tells it so.
    pub(super) fn turn_away(&self, node: u64, connection: &Connection) {
        tracing::debug!(node, address = %connection.remote_address(), "refused a node that was removed from the cluster");
        connection.close(REMOVED, "the node was removed from the cluster");
    }

    /// Takes in why a connection to or from another node ended: perhaps it was this node that was refused.
    pub(super) fn note_end(&self, peer: u64, end: &ConnectionLost) {
        let expelled = match end {
            ConnectionLost::ClosedByPeer { code, reason } if *code == REFUSED => {
                tracing::error!(peer, reason, "another node refuses this one");
                Expelled::Refused(reason.clone())
            }
            ConnectionLost::ClosedByPeer { code, .. } if *code == REMOVED => Expelled::Removed,
            _ => return,
        };
        // Nobody listens any more once the node is stopping.
        let _ = self.expelled.send(expelled);
    }

    async fn judge(
        &self,
        node: u64,
        connection: &Connection,
        greeting: impl Future<Output = Result<u64, Unwelcome>>,
    ) -> Option<u64> {
        let greeted = tokio::time::timeout(GREETING_WITHIN, greeting).await;
        if !matches!(greeted, Ok(Ok(_))) && connection.close_reason().is_some() {
            // The other side closed it; to close it here too would hide why.
            return None;
        }
        match greeted {
            Ok(Ok(nonce)) => return Some(nonce),
            Ok(Err(Unwelcome::Refused(reason))) => {
                tracing::error!(node, address = %connection.remote_address(), reason, "refused another node");
                connection.close(REFUSED, &reason);
            }
            Ok(Err(Unwelcome::End(StreamEnd::Violation(why)))) => {
                tracing::error!(
                    peer = node,
                    why,
                    "a peer broke the protocol at its greeting"
                );
                connection.close(transport::close::PROTOCOL, &why);
            }
            Ok(Err(Unwelcome::End(StreamEnd::Gone(why)))) => {
                tracing::debug!(peer = node, why, "a connection ended before it was greeted");
                connection.close(transport::close::DROPPED, "no greeting");
            }
            Err(_) => connection.close(transport::close::PROTOCOL, "no greeting within the time"),
        }
        None
    }

    async fn say(&self, send: &mut SendHalf) -> Result<(), StreamEnd> {
        let (kind, head) = encode_greeting(&self.own);
        Ok(send.send(kind, &head, &mut []).await?)
    }

    async fn hear(&self, node: u64, recv: &mut RecvHalf) -> Result<u64, Unwelcome> {
        let limits = Limits {
            head_bytes_max: GREETING_HEAD_BYTES_MAX,
            body_bytes_max: 0,
        };
        let message = recv.recv(&limits).await.map_err(StreamEnd::from)?;
        let message = message.ok_or_else(|| StreamEnd::Gone("ended before it began".into()))?;
        let greeting = decode_greeting(message.kind, &message.head).map_err(StreamEnd::from)?;
        if greeting.node != node || greeting.cluster != self.own.cluster {
            let why = format!(
                "it greets as node {} of another cluster of the name, or of another number than its certificate's {node}: \
                 node.cluster_id must be the same in all settings",
                greeting.node
            );
            return Err(StreamEnd::Violation(why).into());
        }
        self.hold_to(node, &greeting).await
    }

    /// Compares a node with what was seen of it before, and remembers what is seen now, durably. Gives the nonce of its present start.
    async fn hold_to(&self, node: u64, greeting: &Greeting) -> Result<u64, Unwelcome> {
        let mut pins = self.pins.lock().await;
        let before = pins.get(&node).copied();
        if let Some(pin) = &before
            && let Err(what) = compare(pin, greeting)
        {
            return Err(Unwelcome::Refused(format!(
                "node {node} {what}: it has forgotten votes and records, and must not run under this number again. \
                 Give its place to a new node: plimsoll cluster replace-node {node} NEW --address HOST:PORT"
            )));
        }
        let Some(nonce) = greeting.nonces.first() else {
            return Err(StreamEnd::Violation("a greeting without a nonce".into()).into());
        };
        let now = Pin {
            replica: greeting.replica,
            boot: greeting.boot,
            nonce: *nonce,
        };
        if before == Some(now) {
            return Ok(*nonce);
        }
        let mut changed = pins.clone();
        changed.retain(|node, _| !self.is_removed(*node));
        changed.insert(node, now);
        if changed.len() > PEERS_MAX {
            return Err(StreamEnd::Violation("more nodes than can be remembered".into()).into());
        }
        let (memory, saved) = (self.memory.clone(), changed.clone());
        let saved = tokio::task::spawn_blocking(move || memory.save_pins(&saved)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error @ DataDirError::NoSpace(_))) => {
                tracing::warn!(node, %error, "another node is remembered in memory alone");
            }
            Ok(Err(error)) => {
                tracing::error!(node, %error, "what was seen of another node cannot be kept");
                return Err(StreamEnd::Gone(error.to_string()).into());
            }
            Err(error) => return Err(StreamEnd::Gone(error.to_string()).into()),
        }
        *pins = changed;
        Ok(*nonce)
    }

    /// Takes in which nodes were removed from the cluster: they are refused by their number.
    pub(super) fn set_removed(&self, removed: &BTreeSet<u64>) {
        super::lock(&self.removed).clone_from(removed);
    }

    pub(super) fn is_removed(&self, node: u64) -> bool {
        super::lock(&self.removed).contains(&node)
    }
}

/// Whether a node can be the one that `pin` remembers; else what is wrong, to go behind its name.
fn compare(pin: &Pin, greeting: &Greeting) -> Result<(), String> {
    if mutation::is("a wiped node comes back under its number") {
        return Ok(());
    }
    if greeting.replica != pin.replica {
        return Err(
            "comes with another data directory than before: its own was emptied or replaced".into(),
        );
    }
    if greeting.boot < pin.boot {
        return Err(format!(
            "is at start {} of its data directory, and was at start {} before: an old copy was put back",
            greeting.boot, pin.boot
        ));
    }
    let since = usize::try_from(greeting.boot - pin.boot).unwrap_or(usize::MAX);
    match greeting.nonces.get(since) {
        Some(nonce) if *nonce != pin.nonce => Err(format!(
            "does not know its own start {}: an old copy of its data directory was put back, or there are two",
            pin.boot
        )),
        // Too long ago for its memory.
        Some(_) | None => Ok(()),
    }
}

impl Peers {
    /// What this node says of itself.
    pub(in crate::server) fn greeting(
        cluster: [u8; 16],
        node: u64,
        replica: [u8; 16],
        boot: &Boot,
    ) -> Greeting {
        Greeting {
            cluster,
            node,
            replica,
            boot: boot.number,
            nonces: boot.nonces.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: Pin = Pin {
        replica: [1; 16],
        boot: 5,
        nonce: 50,
    };

    fn greeting(replica: u8, boot: u64, nonces: &[u64]) -> Greeting {
        Greeting {
            cluster: [0; 16],
            node: 3,
            replica: [replica; 16],
            boot,
            nonces: nonces.to_vec(),
        }
    }

    #[test]
    fn the_same_start_and_any_later_one_of_the_same_line_are_known_again() {
        for (boot, nonces) in [(5, &[50][..]), (6, &[60, 50]), (7, &[70, 60, 50, 40])] {
            assert_eq!(compare(&PIN, &greeting(1, boot, nonces)), Ok(()));
        }
        let long_ago = greeting(1, 500, &[9, 8, 7]);
        assert_eq!(compare(&PIN, &long_ago), Ok(()));
    }

    #[test]
    fn an_emptied_a_rolled_back_and_a_copied_directory_are_told_apart_and_refused() {
        for (replica, boot, nonces, what) in [
            (2, 1, &[10][..], "emptied or replaced"),
            (2, 6, &[60, 50], "emptied or replaced"),
            (1, 4, &[40, 30], "put back"),
            (1, 5, &[51, 40], "there are two"),
            (1, 7, &[71, 61, 51, 40], "there are two"),
        ] {
            let said = compare(&PIN, &greeting(replica, boot, nonces)).unwrap_err();
            assert!(said.contains(what), "{said}");
        }
    }
}
