//! Group 0: nodes, topics, their partitions and replicas, producer-id blocks. A replicated state machine with snapshots.
//!
//! Every node is a member of group 0 (the first few vote) and applies the same commands in the same order, so every node holds the same `State`; handlers read
//! it through `ControllerView` without a lock, and the server opens and closes partition groups to match it. Everything a
//! decision depends on is in the command or in the state, never in a node's own configuration.
//!
//! Knows `wire` and the public face of `replica`. Must not know the network, files or time.

mod balance;
mod command;
mod machine;
mod nodes;
mod placement;
mod snapshot;
mod state;
mod view;

pub use command::{
    Command, CommandError, Outcome, Refusal, decode_command, decode_outcome, encode_command,
    encode_outcome,
};
pub use machine::ControllerMachine;
pub use nodes::{CONTROLLER_VOTERS_MAX, NODES_MAX};
pub use snapshot::SnapshotError;
pub use state::{Member, PARTITIONS_PER_TOPIC_MAX, PRODUCER_ID_BLOCK_MAX, Partition, State, Topic};
pub use view::ControllerView;

/// The group of the controller itself.
pub const CONTROLLER_GROUP: u64 = 0;
