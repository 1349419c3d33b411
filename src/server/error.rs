//! Why a node does not start, or why it stopped. Each message says what to do about it.
//!
//! Must not know how a node works.

use std::path::PathBuf;

/// Why a node could not start. Nothing is left running or locked.
#[derive(thiserror::Error, Debug)]
pub enum StartError {
    /// A thread or a runtime could not be made.
    #[error("cannot start a thread: {0}; raise the limit on threads or memory of this process")]
    Thread(std::io::Error),
    /// The QUIC port cannot be had.
    #[error(
        "cannot listen on {address} (UDP) for peers and clients: {reason}; stop what uses the port, or set node.listen to another"
    )]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// The admin port cannot be had.
    #[error(
        "cannot listen on {address} (TCP) for the admin pages: {source}; stop what uses the port, or set node.admin to another"
    )]
    Admin {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error("cannot use the certificates of [tls]: {0}")]
    Credentials(String),
    /// The address of a peer means nothing here.
    #[error("{0}")]
    Resolve(std::io::Error),
    /// The data directory is in use, foreign, or damaged.
    #[error("cannot use the data directory {path}: {reason}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The log of the controller's group cannot be opened.
    #[error("cannot open the controller's group: {0}")]
    Controller(String),
    /// A broken assumption of the program's own.
    #[error("a thread of the node ended unexpectedly; please report it with the log")]
    Bug,
}

/// Why a node stopped without being asked to.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum NodeFailure {
    /// The machine broke a promise: a failed write or sync, a damaged file.
    #[error("stopped to protect the data: {0}")]
    Fault(String),
    /// Another node had seen more of this node than it holds now.
    #[error("refused by the cluster: {0}")]
    Refused(String),
    /// A broken assumption of the program's own.
    #[error(
        "stopped by a bug: a thread of the node ended unexpectedly; please report it with the log"
    )]
    Bug,
}
