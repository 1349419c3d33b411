//! Our core and our cluster held against code that nobody here wrote: the test data of another Raft, that Raft itself, and a
//! checker of linearizability.
//!
//! The other Raft is the crate `raft` 0.7 (`raft_rs` here). A crate of its own, of tests alone and with dev-dependencies alone: nothing
//! of it ships, and nothing else waits for it to be compiled.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod confchange;
mod differential;
#[path = "../raft_paper/disk.rs"]
#[allow(
    dead_code,
    reason = "shared with tests/raft_paper, which uses all of it"
)]
mod disk;
#[path = "../end_to_end/harness.rs"]
#[allow(
    dead_code,
    reason = "shared with tests/end_to_end, which uses all of it"
)]
mod harness;
mod linear;
mod mixed;
mod ours;
mod quorum;
mod testdata;
mod theirs;
mod translate;
