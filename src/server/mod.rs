//! A node: everything between the sockets and the replicas.
//!
//! `node` starts and stops it; `accept` takes connections and knows who is on them; `route` tells a client's requests apart; `produce`
//! and `fetch` are the two hot walks; `peer` carries what replicas say to each other; `reconcile` keeps the open groups equal to what
//! the controller has agreed on. Knows every other room but `client` and `cli`.

mod error;
pub mod http;
pub mod metrics;
mod node;

pub use error::{NodeFailure, StartError};
pub use node::Node;
