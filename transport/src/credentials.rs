//! What this process proves itself with: CA, certificate and key, loaded from PEM and checked before anything is dialed.
#![allow(clippy::todo)]

use std::path::{Path, PathBuf};

use crate::identity::Identity;

/// A CA to trust, a certificate to show and its key; checked against each other. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {}

impl Credentials {
    /// Loads and checks three PEM files.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Credentials, CredentialsError> {
        let _ = (ca, cert, key);
        todo!()
    }

    /// The same from PEM text in memory.
    pub fn from_pem(ca: &str, cert: &str, key: &str) -> Result<Credentials, CredentialsError> {
        let _ = (ca, cert, key);
        todo!()
    }

    /// Who these credentials speak for.
    pub fn identity(&self) -> &Identity {
        todo!()
    }
}

/// Why credentials are of no use. Names the file, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
