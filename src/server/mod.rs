//! A node: everything between the sockets and the replicas.
//!
//! `node` starts and stops it; `accept` takes connections and knows who is on them; `route` tells a client's requests apart; `produce`
//! and `fetch` are the two hot walks; `peer` carries what replicas say to each other; `reconcile` keeps the open groups equal to what
//! the controller has agreed on, and `mover` makes each group's members so. Knows every other room but `client` and `cli`.

mod accept;
mod error;
mod fetch;
pub mod http;
pub mod metrics;
mod mover;
mod network;
mod node;
mod nodes;
mod peer;
mod probe;
mod produce;
mod producer_ids;
mod reconcile;
mod repair;
mod report;
mod route;
mod shared;
mod topics;
mod transfer;
mod usage;

pub use error::{NodeFailure, StartError};
pub use node::Node;
pub use usage::usage_of_this_process;
