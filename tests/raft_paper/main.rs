//! The rules of the Raft paper ("In Search of an Understandable Consensus Algorithm", extended version), and of Ongaro's
//! thesis where the paper is silent, each as a sentence with its section; and the mistakes others made with them.
//!
//! `cluster` (with `movements`) plays network, disks and shells; `history` judges every step; `solo` asks one core one thing.

#![allow(clippy::unwrap_used)]

mod changes;
mod cluster;
mod commitment;
mod disk;
mod elections;
mod figures;
mod history;
mod install;
mod membership;
mod movements;
#[cfg(plimsoll_mutations)]
mod mutations;
mod pacing;
mod prevotes;
mod random;
mod random_changes;
mod reads;
mod replication;
mod rest;
mod returns;
mod solo;
mod suspects;
mod timing;
mod transfer;
