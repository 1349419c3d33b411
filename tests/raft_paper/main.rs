//! The rules of the Raft paper ("In Search of an Understandable Consensus Algorithm", extended version), and of Ongaro's
//! thesis where the paper is silent, each as a sentence with its section; and the mistakes others made with them.
//!
//! `cluster` plays network, disks and shells; `history` judges every step; `solo` asks one core one thing.

#[allow(dead_code)]
mod cluster;
#[allow(dead_code)]
mod disk;
mod history;
mod random;
#[allow(dead_code)]
mod solo;
