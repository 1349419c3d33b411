//! What this process proves itself with: CA, certificate and key, loaded from PEM and checked before anything is dialed.
//!
//! Owns the checks and their messages: a certificate that would be refused at every handshake is refused here, once, with its file's name.
//! Knows nothing of sockets. On no walk: once, at start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage};

use crate::identity::Identity;
use crate::tls;

/// A CA to trust, a certificate to show and its key; checked against each other. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Where three pieces of PEM came from, for messages.
struct Sources {
    ca: String,
    cert: String,
    key: String,
}

impl Credentials {
    /// Loads and checks three PEM files: the CA's certificate, our certificate (intermediates after it, if any), our private key.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Credentials, CredentialsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| CredentialsError::Read {
                file: path.display().to_string(),
                source,
            })
        };
        let sources = Sources {
            ca: ca.display().to_string(),
            cert: cert.display().to_string(),
            key: key.display().to_string(),
        };
        Credentials::check(&read(ca)?, &read(cert)?, &read(key)?, &sources)
    }

    /// The same from PEM text in memory.
    pub fn from_pem(ca: &str, cert: &str, key: &str) -> Result<Credentials, CredentialsError> {
        let sources = Sources {
            ca: "the CA's PEM".to_owned(),
            cert: "the certificate's PEM".to_owned(),
            key: "the key's PEM".to_owned(),
        };
        Credentials::check(ca.as_bytes(), cert.as_bytes(), key.as_bytes(), &sources)
    }

    /// Who these credentials speak for.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    fn check(
        ca: &[u8],
        cert: &[u8],
        key: &[u8],
        sources: &Sources,
    ) -> Result<Credentials, CredentialsError> {
        let credentials = Credentials::assemble(ca, cert, key, sources)?;
        credentials.verify(UnixTime::now(), sources)?;
        Ok(credentials)
    }

    /// Everything but what depends on the CA and on the time.
    fn assemble(
        ca: &[u8],
        cert: &[u8],
        key: &[u8],
        sources: &Sources,
    ) -> Result<Credentials, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, &sources.ca)? {
            roots.add(root).map_err(|error| CredentialsError::NotPem {
                file: sources.ca.clone(),
                expected: "a CA certificate",
                reason: error.to_string(),
            })?;
        }
        let chain = certificates(cert, &sources.cert)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CredentialsError::NotPem {
            file: sources.key.clone(),
            expected: "a private key",
            reason: error.to_string(),
        })?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &tls::provider()).map_err(
            |error| CredentialsError::WrongKey {
                cert: sources.cert.clone(),
                key: sources.key.clone(),
                reason: error.to_string(),
            },
        )?;
        let identity =
            tls::identity_of(&chain[0]).map_err(|reason| CredentialsError::NoIdentity {
                file: sources.cert.clone(),
                reason,
            })?;
        Ok(Credentials {
            inner: Arc::new(Inner {
                identity,
                roots: Arc::new(roots),
                chain,
                key,
            }),
        })
    }

    /// Verifies our own certificate as the other side will.
    fn verify(&self, now: UnixTime, sources: &Sources) -> Result<(), CredentialsError> {
        let file = || sources.cert.clone();
        let not_issued = |error: webpki::Error| CredentialsError::NotIssued {
            file: file(),
            ca: sources.ca.clone(),
            reason: error.to_string(),
        };
        let cert = EndEntityCert::try_from(&self.inner.chain[0]).map_err(not_issued)?;
        let mut usages = vec![KeyUsage::client_auth()];
        if self.inner.identity.node_id().is_some() {
            usages.push(KeyUsage::server_auth());
        }
        for usage in usages {
            cert.verify_for_usage(
                tls::provider().signature_verification_algorithms.all,
                &self.inner.roots.roots,
                &self.inner.chain[1..],
                now,
                usage,
                None,
                None,
            )
            .map_err(|error| match error {
                webpki::Error::CertExpired { not_after, .. } => CredentialsError::Expired {
                    file: file(),
                    not_after: day(not_after),
                    now: day(now),
                },
                webpki::Error::CertNotValidYet { not_before, .. } => {
                    CredentialsError::NotYetValid {
                        file: file(),
                        not_before: day(not_before),
                        now: day(now),
                    }
                }
                other => not_issued(other),
            })?;
        }
        Ok(())
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        self.inner.roots.clone()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.inner.chain.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.inner.key.clone_key()
    }

    /// Credentials that would not pass the checks of validity, to be refused by the other side.
    #[cfg(test)]
    pub(crate) fn unverified(ca: &str, cert: &str, key: &str) -> Credentials {
        let sources = Sources {
            ca: String::new(),
            cert: String::new(),
            key: String::new(),
        };
        Credentials::assemble(ca.as_bytes(), cert.as_bytes(), key.as_bytes(), &sources).unwrap()
    }
}

/// Says whose they are; never shows the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.inner.identity)
    }
}

/// All certificates of a PEM file; at least one.
fn certificates(pem: &[u8], file: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let not_pem = |reason: String| CredentialsError::NotPem {
        file: file.to_owned(),
        expected: "a certificate",
        reason,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| not_pem(error.to_string()))?;
    if found.is_empty() {
        return Err(not_pem("no CERTIFICATE section in it".to_owned()));
    }
    Ok(found)
}

/// The minute a time falls in, as people write it.
fn day(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(t) => format!("{} {:02}:{:02} UTC", t.date(), t.hour(), t.minute()),
        Err(_) => format!("second {seconds} since 1970"),
    }
}

/// Why credentials are of no use. Names the file, and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{file} does not hold {expected} in PEM form: {reason}")]
    NotPem {
        /// The file.
        file: String,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The key is of another certificate, or of a kind that cannot be used.
    #[error("the key in {key} does not fit the certificate in {cert}: {reason}")]
    WrongKey {
        /// The certificate's file.
        cert: String,
        /// The key's file.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate names nobody of ours, or more than one.
    #[error("the certificate in {file} does not say whom it is for: {reason}")]
    NoIdentity {
        /// The certificate's file.
        file: String,
        /// What it names.
        reason: String,
    },
    /// The certificate's time is over.
    #[error("the certificate in {file} expired on {not_after} (it is {now}): issue a new one")]
    Expired {
        /// The certificate's file.
        file: String,
        /// Its last moment.
        not_after: String,
        /// The time here.
        now: String,
    },
    /// The certificate's time has not come.
    #[error(
        "the certificate in {file} is valid from {not_before} on (it is {now}): check the clock, or issue a new one"
    )]
    NotYetValid {
        /// The certificate's file.
        file: String,
        /// Its first moment.
        not_before: String,
        /// The time here.
        now: String,
    },
    /// The CA did not issue it, or not for this purpose.
    #[error("the certificate in {file} is not good under the CA in {ca}: {reason}")]
    NotIssued {
        /// The certificate's file.
        file: String,
        /// The CA's file.
        ca: String,
        /// What is wrong.
        reason: String,
    },
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
