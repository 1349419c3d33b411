//! The simulator: a whole cluster in one thread, from one seed, in virtual time. The code that ships (`raft`, `replica`,
//! `controller`, `wire`, `segment-store`) runs over a simulated network and simulated disks, under faults, and is checked after every step.
//!
//! [`Run`] is one seed, [`Batch`] many of them, [`record`] a trace in a file. A breach panics: the trace tells what came before.
//! Nothing that ships depends on this crate.

mod atlas;
pub mod batch;
mod checks;
mod clients;
mod ending;
mod faults;
mod groups;
mod lives;
mod memory;
mod network;
mod node;
mod process;
pub mod record;
mod repair;
mod run;
mod summary;
mod swarm;
mod trace;
mod world;

pub use batch::Batch;
pub use run::{Done, Mode, Run};
pub use summary::Summary;
pub use trace::print_last;
