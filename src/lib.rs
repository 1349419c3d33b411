//! Plimsoll: a replicated, persistent message log. An ack means fsynced on a majority.
//!
//! The map of the rooms; `docs/ARCHITECTURE.md` walks through them.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod config;
pub mod controller;
#[cfg(plimsoll_mutations)]
pub mod mutation;
#[cfg(not(plimsoll_mutations))]
mod mutation;
pub mod raft;
pub mod replica;
pub mod server;
pub mod wire;

/// The example of the README, so that it compiles for ever.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
