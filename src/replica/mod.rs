//! One group on one node: the synchronous shell around the consensus core, and the loop that drives it.
//!
//! Owns what lies between the core, which knows no bytes, and the disk and network, which know no rules:
//! frames in flight, tickets, deduplication, the watermark. It must not know of topics, sockets or
//! certificates. It is on every walk.
//!
//! Pure (no clock, no file, no tokio): replica, tail, pending, producers, snapshot. At the
//! rim: the loop (the only one on a node, for all its groups) and the disk thread (the same).

mod machine;
mod meters;
mod pending;
mod producers;
mod snapshot;
mod watermark;

pub use machine::StateMachine;
pub use meters::Meters;
pub use producers::{PRODUCER_WINDOW_BATCHES, PRODUCERS_MAX};
pub use watermark::{Published, Watermark};
