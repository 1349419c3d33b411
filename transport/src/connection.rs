//! A connection whose other end is known.
#![allow(clippy::todo)]

use std::net::SocketAddr;
use std::time::Duration;

use crate::error::ConnectionLost;
use crate::identity::{Alpn, Identity};
use crate::stream::{RecvHalf, SendHalf};

/// A live connection to an identified party. Cheap to clone; all clones are the same connection, which closes when the last is dropped.
#[derive(Clone, Debug)]
pub struct Connection {}

impl Connection {
    /// Who is at the other end, proven by its certificate.
    pub fn identity(&self) -> &Identity {
        todo!()
    }

    /// What the connection is for.
    pub fn alpn(&self) -> Alpn {
        todo!()
    }

    /// Where the other end is now.
    pub fn remote_address(&self) -> SocketAddr {
        todo!()
    }

    /// A number that tells this connection from others of this process.
    pub fn id(&self) -> usize {
        todo!()
    }

    /// Opens a stream in both directions. The other side learns of it with the first message. Waits while the limit of open streams is
    /// reached. Data of a higher `priority` always goes before data of a lower one; 0 is the middle.
    pub async fn open_bi(&self, priority: i32) -> Result<(SendHalf, RecvHalf), ConnectionLost> {
        let _ = priority;
        todo!()
    }

    /// The next stream that the other side opened.
    pub async fn accept_bi(&self) -> Result<(SendHalf, RecvHalf), ConnectionLost> {
        todo!()
    }

    /// Counters so far.
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Closes it at once: streams are abandoned, the other side gets the code and the reason.
    pub fn close(&self, code: u32, reason: &str) {
        let _ = (code, reason);
        todo!()
    }

    /// Waits until it is closed, by whomever, and says why.
    pub async fn closed(&self) -> ConnectionLost {
        todo!()
    }

    /// Why it is closed, or `None` while it lives.
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        todo!()
    }
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
