//! QUIC with mutual TLS: endpoints, identities, framed messages, links that reconnect.
//!
//! This crate carries opaque messages between identified parties. It knows nothing of their meaning, of consensus, or of disks.
//! Read in this order: [`identity`] (who may speak), [`pki`] and [`credentials`] (how they prove it), [`options`] (every limit of QUIC, set on
//! purpose), [`endpoint`] and [`connection`] (the handshake and what it yields), [`frame`] and [`stream`] (messages), [`outbox`] and [`link`]
//! (what keeps two nodes talking).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod accept;
mod assemble;
mod congestion;
pub mod connection;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod frame;
pub mod identity;
pub mod link;
pub mod options;
pub mod outbox;
pub mod pki;
mod pool;
pub mod stream;
mod tls;

pub use connection::{Connection, Stats};
pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{Endpoint, EndpointError, Incoming};
pub use error::{ConnectError, ConnectionLost, RecvError, RefusedError, SendError, close};
pub use frame::{Head, Limits, Message};
pub use identity::{ALPN_CLIENT, ALPN_PEER, Alpn, Identity, IdentityError};
pub use link::Link;
pub use options::TransportOptions;
pub use outbox::{Outbox, PushError};
pub use pki::{Authority, Issued, PkiError};
pub use pool::BufferPool;
pub use stream::{RecvHalf, SendHalf};

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod testing;
