//! One group on one node: the synchronous shell around the consensus core, and the loop that drives it.
//!
//! Owns what lies between the core, which knows no bytes, and the disk and network, which know no rules:
//! frames in flight, tickets, deduplication, the watermark. It must not know of topics, sockets or
//! certificates. It is on every walk.
//!
//! Pure (no clock, no file, no tokio): replica, tail, pending, producers, snapshot. At the
//! rim: the loop (the only one on a node, for all its groups) and the disk thread (the same).

mod beats;
mod disk;
mod effects;
mod error;
mod follow;
mod group;
mod incoming;
mod install;
mod jobs;
mod lead;
mod machine;
mod mailbox;
mod meters;
mod open;
mod pacer;
mod pending;
mod producers;
mod propose;
mod repair;
mod repairs;
#[expect(clippy::module_inception, reason = "the noun of the room")]
mod replica;
mod replicate;
mod restart;
mod run;
mod running;
mod settle;
mod snapshot;
mod status;
mod stopping;
mod sync;
mod tail;
mod waiting;
mod watching;
mod watermark;
mod writes;

pub use beats::{Arrived, Beats, Ticked};
pub use disk::{Acks, DiskWorker, Durability};
pub use effects::{Acked, Answer, DiskOp, Effect, Input, Lane, ReplicaConfig};
pub use error::{OpenError, Poisoned};
pub use group::{Group, GroupSpec, Removal, Replicas, Submitted, Wanted};
pub use jobs::{DiskJob, DiskReport, GroupFiles};
pub use machine::StateMachine;
pub use mailbox::MailboxLimits;
pub use meters::Meters;
pub use open::{open_damaged, open_files};
pub use pacer::Pacer;
pub use producers::{PRODUCER_WINDOW_BATCHES, PRODUCERS_MAX};
pub use repair::{REPAIR_BYTES, RepairAnswer, RepairStatus, RepairStep, Repairing};
pub use repairs::RepairHandle;
pub use replica::Replica;
pub use restart::{Found, Restart};
pub use run::{LoopConfig, Outbound, spawn};
pub use status::{GroupStatus, Held, PeerStatus};
pub use watermark::{Published, Watermark};
