//! Whole clusters in one process: real files, real certificates, real UDP on loopback, driven from outside.
//!
//! Owns what a user of a cluster may rely on, as far as it can be shown without killing processes. Must not look into a node except
//! through its ports and its folder. On every walk, from end to end.

#![allow(missing_docs, clippy::unwrap_used)]

mod admission;
mod catch_up;
mod client;
mod damage;
mod forwarding;
mod harness;
mod hostile;
mod identity;
mod leaderless;
mod limits;
mod membership;
mod raw;
mod scrub;
mod slice;
mod topics;
