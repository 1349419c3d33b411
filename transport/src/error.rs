//! What goes wrong on a connection, in words for whoever reads the log, and the codes connections are closed with.
//!
//! Owns the close codes and the errors that more than one file of this crate returns. Knows nothing of what the messages were about.

use std::net::SocketAddr;

use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use crate::frame::FrameError;

/// Codes sent when one side closes a connection or a stream, with a reason in words beside them. Codes from 0x100 on are the caller's.
pub mod close {
    /// The sender is stopping in good order.
    pub const STOPPING: u32 = 0;
    /// The certificate names another cluster.
    pub const FOREIGN_CLUSTER: u32 = 1;
    /// A client's certificate was shown where only nodes may speak.
    pub const CLIENT_AS_PEER: u32 = 2;
    /// The certificate carries no identity, or more than one.
    pub const NO_IDENTITY: u32 = 3;
    /// The other side broke the protocol.
    pub const PROTOCOL: u32 = 4;
    /// The other side is not wanted any more: its stream was dropped here, or replaced.
    pub const DROPPED: u32 = 5;
}

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionLost {
    /// The other side closed it and said why.
    #[error("closed by the other side: {reason} (code {code})")]
    ClosedByPeer {
        /// One of [`close`], or the caller's own.
        code: u32,
        /// The reason in words; may be empty.
        reason: String,
    },
    /// The other side's TLS or QUIC layer refused us.
    #[error("refused by the other side: {reason}")]
    RefusedByPeer {
        /// What it said, and what that means.
        reason: String,
    },
    /// Nothing was heard for the idle timeout.
    #[error("nothing heard from the other side for too long")]
    TimedOut,
    /// The other side restarted and no longer knows this connection.
    #[error("the other side has restarted")]
    Reset,
    /// Closed from this side.
    #[error("closed from this side")]
    ClosedHere,
    /// The other side broke QUIC or TLS, or failed verification here.
    #[error("{reason}")]
    Broken {
        /// What was broken.
        reason: String,
    },
}

/// Why dialing a node gave no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No usable answer came in time.
    #[error("no answer from {address}: is node {node} running there, and is UDP let through?")]
    NoAnswer {
        /// The address dialed.
        address: SocketAddr,
        /// The node expected there.
        node: u64,
    },
    /// Whoever is there did not prove to be the node expected.
    #[error("{address} did not prove to be node {node} of our cluster: {reason}")]
    NotThatNode {
        /// The address dialed.
        address: SocketAddr,
        /// The node expected there.
        node: u64,
        /// What was wrong with its certificate.
        reason: String,
    },
    /// The node is there, and will not have us.
    #[error("node {node} at {address} refused us: {reason}")]
    Refused {
        /// The address dialed.
        address: SocketAddr,
        /// The node expected there.
        node: u64,
        /// What it said.
        reason: ConnectionLost,
    },
    /// This endpoint was closed, here.
    #[error("the endpoint is closed")]
    Closed,
    /// This endpoint cannot dial: an address it has no route or family for.
    #[error("cannot dial {address}: {reason}")]
    Local {
        /// The address dialed.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
}

/// Why someone who knocked was not let in. Already logged, with the remote address, when returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedError {
    /// The handshake failed: no certificate, a foreign CA, an expired one, another protocol.
    #[error("the handshake failed: {reason}")]
    Handshake {
        /// What failed, from this side's or the other's view.
        reason: ConnectionLost,
    },
    /// The handshake did not end within its time.
    #[error("the handshake did not end in time")]
    TimedOut,
    /// The certificate has no identity of ours, or more than one.
    #[error("the certificate carries no single plimsoll identity: {reason}")]
    NoIdentity {
        /// What it carries.
        reason: String,
    },
    /// The certificate is of another cluster, under the same CA.
    #[error("the certificate is of cluster \"{theirs}\", this is cluster \"{ours}\"")]
    ForeignCluster {
        /// Cluster in the certificate.
        theirs: String,
        /// Our own cluster.
        ours: String,
    },
    /// A client spoke the peer protocol.
    #[error("client \"{name}\" may not speak the peer protocol")]
    ClientAsPeer {
        /// The client's name.
        name: String,
    },
}

/// Why a message could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
    /// The other side does not want this stream any more.
    #[error("the other side stopped reading the stream (code {code})")]
    Stopped {
        /// The code it gave.
        code: u32,
    },
    /// The stream was finished or reset from this side before, or a send was abandoned half-way.
    #[error("the stream is closed for sending")]
    Closed,
    /// Head or body cannot be expressed in a preamble. Nothing was sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Why a message could not be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
    /// The other side abandoned the stream.
    #[error("the other side abandoned the stream (code {code})")]
    Reset {
        /// The code it gave.
        code: u32,
    },
    /// The stream ended within a message.
    #[error("the stream ended within a message, after {received} of {expected} bytes")]
    CutShort {
        /// Bytes of this message that came, preamble included.
        received: u64,
        /// Bytes it should have, as far as is known.
        expected: u64,
    },
    /// The preamble is none of ours, or passes the limits.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream was stopped from this side before.
    #[error("the stream is closed for receiving")]
    Closed,
}

/// A code of ours as QUIC takes it.
pub(crate) fn var_int(code: u32) -> VarInt {
    VarInt::from_u32(code)
}

/// A code as it came; codes of ours fit 32 bits, others are cut to the largest.
pub(crate) fn code_of(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

impl From<ConnectionError> for ConnectionLost {
    fn from(error: ConnectionError) -> ConnectionLost {
        match error {
            ConnectionError::ApplicationClosed(close) => ConnectionLost::ClosedByPeer {
                code: code_of(close.error_code),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::ConnectionClosed(close) => ConnectionLost::RefusedByPeer {
                reason: explain(
                    u64::from(close.error_code),
                    &String::from_utf8_lossy(&close.reason),
                ),
            },
            ConnectionError::TransportError(error) => ConnectionLost::Broken {
                reason: explain(u64::from(error.code), &error.reason),
            },
            ConnectionError::Reset => ConnectionLost::Reset,
            ConnectionError::TimedOut => ConnectionLost::TimedOut,
            ConnectionError::LocallyClosed => ConnectionLost::ClosedHere,
            other @ (ConnectionError::VersionMismatch | ConnectionError::CidsExhausted) => {
                ConnectionLost::Broken {
                    reason: other.to_string(),
                }
            }
        }
    }
}

/// Adds to the TLS layer's own words what they mean here. `code` is QUIC's: 0x100 plus the TLS alert (RFC 9001, 4.8).
fn explain(code: u64, words: &str) -> String {
    let meaning = match code {
        0x12a => "a certificate that cannot be used here",
        0x12b => "a certificate of an unsupported kind",
        0x12d => "an expired certificate",
        0x12e => "a certificate not good for this name or purpose",
        0x130 => "a certificate not issued by the cluster's CA",
        0x133 => "a bad signature on the certificate or the handshake",
        0x174 => "no certificate was shown, and one is demanded",
        0x178 => "another protocol is spoken there, or another version of it",
        0x02 => "the connection was turned away: too many at once, or not accepting any",
        _ if words.is_empty() => return format!("QUIC error {code:#x}"),
        _ => return words.to_owned(),
    };
    if words.is_empty() {
        meaning.to_owned()
    } else {
        format!("{meaning} ({words})")
    }
}

impl From<WriteError> for SendError {
    fn from(error: WriteError) -> SendError {
        match error {
            WriteError::Stopped(code) => SendError::Stopped {
                code: code_of(code),
            },
            WriteError::ConnectionLost(lost) => SendError::Lost(lost.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => SendError::Closed,
        }
    }
}

impl From<ReadError> for RecvError {
    fn from(error: ReadError) -> RecvError {
        match error {
            ReadError::Reset(code) => RecvError::Reset {
                code: code_of(code),
            },
            ReadError::ConnectionLost(lost) => RecvError::Lost(lost.into()),
            ReadError::ClosedStream
            | ReadError::ZeroRttRejected
            | ReadError::IllegalOrderedRead => RecvError::Closed,
        }
    }
}
