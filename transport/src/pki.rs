//! Makes certificates: a cluster's authority, and what it issues to nodes and clients.
#![allow(clippy::todo)]

use std::time::SystemTime;

use crate::identity::IdentityError;

/// A certificate and its private key, both PEM. Whoever writes the key to a file makes that file readable by its owner alone (0600).
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS#8). Secret.
    pub key_pem: String,
}

/// A cluster's certificate authority.
pub struct Authority {}

impl Authority {
    /// Makes a new authority for `cluster`, valid for ten years.
    pub fn create(cluster: &str) -> Result<Authority, PkiError> {
        let _ = (cluster, SystemTime::now());
        todo!()
    }

    /// The authority whose certificate and key these are, as [`Authority::cert_pem`] and [`Authority::key_pem`] gave them.
    pub fn load(cluster: &str, cert_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        let _ = (cluster, cert_pem, key_pem);
        todo!()
    }

    /// The authority's certificate: what everyone in the cluster trusts (`ca.pem`).
    pub fn cert_pem(&self) -> &str {
        todo!()
    }

    /// The authority's private key. Whoever has it can make nodes.
    pub fn key_pem(&self) -> String {
        todo!()
    }

    /// A certificate for node `node`, valid for two years.
    pub fn issue_node(&self, node: u64) -> Result<Issued, PkiError> {
        let _ = node;
        todo!()
    }

    /// A certificate for the client `name`, valid for two years.
    pub fn issue_client(&self, name: &str) -> Result<Issued, PkiError> {
        let _ = name;
        todo!()
    }
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The name or number cannot be an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Key generation, signing or parsing failed.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}
