//! A connection whose other end is known.
//!
//! Owns the pairing of a QUIC connection with the identity proven at its handshake. Knows nothing of how either was made, nor of messages.
//! On every walk, between two processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::error::{ConnectionLost, var_int};
use crate::identity::{Alpn, Identity};
use crate::options::Side;
use crate::stream::{RecvHalf, SendHalf};

/// A live connection to an identified party. Cheap to clone; all clones are the same connection, which closes when the last is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    quinn: quinn::Connection,
    peer: Arc<Peer>,
    /// For [`SendHalf::flush_in_turn`]; who asks first has it first.
    turn: Arc<Semaphore>,
}

#[derive(Debug)]
struct Peer {
    identity: Identity,
    alpn: Alpn,
    side: Side,
}

impl Connection {
    pub(crate) fn new(
        quinn: quinn::Connection,
        identity: Identity,
        alpn: Alpn,
        side: Side,
    ) -> Connection {
        Connection {
            quinn,
            peer: Arc::new(Peer {
                identity,
                alpn,
                side,
            }),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Who is at the other end, proven by its certificate.
    pub fn identity(&self) -> &Identity {
        &self.peer.identity
    }

    /// What the connection is for.
    pub fn alpn(&self) -> Alpn {
        self.peer.alpn
    }

    /// Where the other end is now.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.quinn.remote_address())
    }

    /// A number that tells this connection from the others that live in this process.
    pub fn id(&self) -> usize {
        self.quinn.stable_id()
    }

    /// Opens a stream in both directions. Only the side that dialed may (asserted): the other answers on its streams. The other side learns
    /// of it with the first message. Waits while the limit of open streams is reached. Data of a higher `priority` always goes before data
    /// of a lower one; 0 is the middle. The priority is of this side's half; the other side sets its own.
    pub async fn open_bi(&self, priority: i32) -> Result<(SendHalf, RecvHalf), ConnectionLost> {
        assert!(
            self.peer.side == Side::Dialing,
            "streams are opened by the side that dialed"
        );
        let (send, recv) = self.quinn.open_bi().await?;
        let send = SendHalf::new(send, Arc::clone(&self.turn));
        send.set_priority(priority);
        Ok((send, RecvHalf::new(recv)))
    }

    /// The next stream that the other side opened. Cancel-safe.
    pub async fn accept_bi(&self) -> Result<(SendHalf, RecvHalf), ConnectionLost> {
        let (send, recv) = self.quinn.accept_bi().await?;
        let send = SendHalf::new(send, Arc::clone(&self.turn));
        Ok((send, RecvHalf::new(recv)))
    }

    /// Counters so far.
    pub fn stats(&self) -> Stats {
        let stats = self.quinn.stats();
        Stats {
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            retransmitted_bytes: stats.path.lost_bytes,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            rtt: stats.path.rtt,
            mtu: stats.path.current_mtu,
        }
    }

    /// Closes it at once: streams are abandoned, the other side gets the code and the reason.
    pub fn close(&self, code: u32, reason: &str) {
        self.quinn.close(var_int(code), reason.as_bytes());
    }

    /// Waits until it is closed, by whomever, and says why.
    pub async fn closed(&self) -> ConnectionLost {
        self.quinn.closed().await.into()
    }

    /// Why it is closed, or `None` while it lives.
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        self.quinn.close_reason().map(ConnectionLost::from)
    }
}

/// An IPv4 address as such, even where a socket of both families writes it as IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Counters of a connection since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// QUIC packets sent.
    pub sent_packets: u64,
    /// QUIC packets sent and declared lost.
    pub lost_packets: u64,
    /// Bytes of lost packets: all of them that still mattered were sent again.
    pub retransmitted_bytes: u64,
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// UDP payload size in use on this path, bytes.
    pub mtu: u16,
}
