//! TLS 1.3, mutual, with one crypto provider (ring).
//!
//! Owns the settings of rustls and reads the identity out of a certificate that rustls has verified. Knows nothing of QUIC's own limits.
//! On every walk, at its very start: the handshake.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::crypto::{CryptoError, HmacKey};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::{Hkdf, OkmBlock};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use webpki::EndEntityCert;

use crate::credentials::Credentials;
use crate::identity::{Alpn, Identity};

/// The one crypto provider, passed by hand wherever one is needed: no process-wide default is installed or relied upon.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// For the accepting side: shows our certificate, demands one under our CA, speaks both protocols.
pub(crate) fn server_config(credentials: &Credentials) -> Result<QuicServerConfig, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(credentials.roots(), provider()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain(), credentials.key())?;
    config.alpn_protocols = [Alpn::Peer, Alpn::Client]
        .map(|alpn| alpn.as_bytes().to_vec())
        .to_vec();
    // A resumed session would skip the check of the certificate, which may have expired since; 0-RTT data could be replayed. Both are off.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config.try_into()?)
}

/// For the dialing side: shows our certificate, trusts our CA alone, speaks one protocol. The name of the node dialed is given per connection.
pub(crate) fn client_config(
    credentials: &Credentials,
    alpn: Alpn,
) -> Result<QuicClientConfig, TlsError> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(credentials.roots())
        .with_client_auth_cert(credentials.chain(), credentials.key())?;
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config.try_into()?)
}

/// The one identity among a certificate's DNS names. The certificate must have been verified by rustls before, or be our own.
pub(crate) fn identity_of(cert: &CertificateDer<'_>) -> Result<Identity, String> {
    let cert = EndEntityCert::try_from(cert).map_err(|error| error.to_string())?;
    let mut identities = cert
        .valid_dns_names()
        .filter_map(|name| name.parse::<Identity>().ok());
    match (identities.next(), identities.next()) {
        (Some(identity), None) => Ok(identity),
        (Some(one), Some(two)) => Err(format!("it names both {one} and {two}")),
        (None, _) => {
            let names: Vec<&str> = cert.valid_dns_names().take(3).collect();
            Err(if names.is_empty() {
                "it has no DNS name among its alternative names".to_owned()
            } else {
                format!("it names {}, none an identity", names.join(", "))
            })
        }
    }
}

/// A key derived from our private key, the same after each restart. A restarted node can thereby tell the other ends of its former
/// connections that these are gone (RFC 9000, 10.3), instead of leaving them to their idle timeout.
pub(crate) struct ResetKey(OkmBlock);

impl ResetKey {
    pub(crate) fn derive(credentials: &Credentials) -> ResetKey {
        let root = OkmBlock::new(b"plimsoll stateless reset");
        let tag = hkdf().hmac_sign(&root, credentials.key().secret_der());
        ResetKey(OkmBlock::new(tag.as_ref()))
    }

    /// A number for the key of connection ids, which must survive a restart as well.
    pub(crate) fn connection_id_key(&self) -> u64 {
        let tag = hkdf().hmac_sign(&self.0, b"plimsoll connection id");
        let bytes = tag.as_ref()[..8]
            .try_into()
            .expect("a SHA-256 tag has 32 bytes");
        u64::from_le_bytes(bytes)
    }
}

fn hkdf() -> &'static dyn Hkdf {
    TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("a suite of TLS 1.3")
        .hkdf_provider
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(hkdf().hmac_sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    /// Reset tokens are made here and compared at the other side; nothing is ever verified with this key, so timing tells nothing.
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if hkdf().hmac_sign(&self.0, data).as_ref() == signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

/// Why rustls or quinn would not take credentials that passed their own checks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] VerifierBuilderError),
    #[error(transparent)]
    Suite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}
