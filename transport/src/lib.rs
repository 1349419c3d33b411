//! QUIC with mutual TLS: endpoints, identities, framed messages, links that reconnect.
//!
//! This crate carries opaque messages between identified parties. It knows nothing of their meaning, of consensus, or of disks.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
