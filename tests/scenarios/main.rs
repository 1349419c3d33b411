//! Scenarios of one group on several nodes: the shipped `replica` and `segment-store` over a network and
//! disks that the test scripts, in one thread, without a clock. Sentences, each of which a bug refutes.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod batches;
mod cluster;
mod logs;

mod chance;
mod disks;
mod forwarding;
mod installs;
mod leaders;
mod members;
#[cfg(plimsoll_mutations)]
mod mutations;
mod producing;
mod restarts;
mod snapshots;
