//! Our core and our cluster held against code that nobody here wrote: the test data of another Raft, that Raft itself, and a
//! checker of linearizability.
//!
//! The other Raft is the crate `raft` 0.7 (`raft_rs` here). All of it are dev-dependencies: nothing of it ships.

mod quorum;
mod testdata;
