//! The consensus core: one Raft group as a synchronous state machine.
//!
//! Owns the rules of Raft, and nothing else: who may lead, what may be appended, what is committed, what may be read.
//! Inputs are messages, ticks and disk completions; outputs are [`Effect`]s. It must not know of payloads, bytes, files,
//! sockets, clocks, async runtimes or any other room of this crate. Time is a number handed in; randomness is a generator
//! seeded by [`Config::seed`], so the same inputs give the same run, in the shipped node as in the simulator.
//!
//! The log exists here only as runs of `(first index, term)`: memory and work are proportional to the number of
//! leader changes in the kept log, not to its entries.
//!
//! **Nothing false leaves.** A message leaves the core only when the ballot (term and vote) it was sent under is fsynced,
//! and an append is acknowledged only as far as the log is fsynced; the core keeps such replies back until
//! [`Raft::ballot_durable`] and [`Raft::durable`] release them. Whatever a term change overtakes is dropped.
//!
//! On every walk: produce (`propose`, `next_append`, `sent`), append at a follower (`step`), reads (`read_index`).

mod catch_up;
mod change;
mod contest;
mod core;
mod effects;
mod election;
mod follower;
mod install;
pub mod invariants;
mod leader;
mod log;
mod membership;
mod message;
mod progress;
pub mod quorum;
mod read;
mod rest;
mod suspect;
mod transfer;
mod types;

pub(crate) use crate::mutation;

pub use self::core::Raft;
pub use effects::{AppendPlan, Effect, InstallPlan, OwnEntry};
pub use install::{INSTALL_BYTES_MAX, Offer};
pub use membership::{ChangeError, MEMBERS_MAX, Membership, Target, VOTERS_MAX};
pub use message::{Append, AppendOutcome, Install, Message};
pub use progress::PeerView;
pub use types::{
    Ballot, Config, Index, LogId, Millis, NodeId, NotLeader, ProgressState, Restored, Role, Run,
    Term, TransferError,
};
