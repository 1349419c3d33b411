//! Makes certificates: a cluster's authority, and what it issues to nodes and clients.
//!
//! Owns names, purposes and validity of certificates. Knows nothing of files (whoever writes a key to one makes it readable by its owner
//! alone, 0600) nor of connections. On no walk: `init`, `dev` and tests call it once.
//!
//! The authority is constrained to its cluster: its certificate permits names under `CLUSTER.plimsoll` only (RFC 5280, 4.2.1.10), so that it
//! cannot make a node of another cluster even where both are trusted.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::credentials::{Credentials, CredentialsError};
use crate::identity::{Identity, IdentityError, check_name};

/// How long an authority is valid, in days: ten years.
const AUTHORITY_DAYS: i64 = 3_652;
/// How long what it issues is valid, in days: two years.
const LEAF_DAYS: i64 = 730;
/// How far the start of validity lies back: clocks of different machines differ.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// A certificate and its private key, both PEM. Whoever writes the key to a file makes that file readable by its owner alone (0600).
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The private key (PKCS#8). Secret.
    pub key_pem: String,
}

/// A cluster's certificate authority.
pub struct Authority {
    cluster: String,
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority for `cluster`, valid for ten years.
    pub fn create(cluster: &str) -> Result<Authority, PkiError> {
        check_name(cluster)?;
        let key = KeyPair::generate()?;
        let params = authority_params(cluster, &key, OffsetDateTime::now_utc());
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Authority {
            cluster: cluster.to_owned(),
            cert_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority of `cluster` whose certificate and key these are, as [`Authority::cert_pem`] and [`Authority::key_pem`] gave them.
    /// Fails unless key, certificate and cluster belong together.
    pub fn load(cluster: &str, cert_pem: &str, key_pem: &str) -> Result<Authority, PkiError> {
        check_name(cluster)?;
        let key = KeyPair::from_pem(key_pem)?;
        let params = authority_params(cluster, &key, OffsetDateTime::now_utc());
        let authority = Authority {
            cluster: cluster.to_owned(),
            cert_pem: cert_pem.to_owned(),
            issuer: Issuer::new(params, key),
        };
        // The proof is in the using: what it issues must verify under the certificate given.
        let probe = authority.issue_client("probe")?;
        Credentials::from_pem(cert_pem, &probe.cert_pem, &probe.key_pem).map_err(|source| {
            PkiError::NotThatAuthority {
                cluster: cluster.to_owned(),
                source: Box::new(source),
            }
        })?;
        Ok(authority)
    }

    /// The authority's certificate: what everyone in the cluster trusts (`ca.pem`).
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key. Whoever has it can make nodes.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for node `node` (from 1), to serve and to dial with, valid for two years.
    pub fn issue_node(&self, node: u64) -> Result<Issued, PkiError> {
        self.issue(&Identity::node(&self.cluster, node)?)
    }

    /// A certificate for the client `name`, to dial with, valid for two years.
    pub fn issue_client(&self, name: &str) -> Result<Issued, PkiError> {
        self.issue(&Identity::client(&self.cluster, name)?)
    }

    fn issue(&self, identity: &Identity) -> Result<Issued, PkiError> {
        self.sign(&leaf_params(identity, OffsetDateTime::now_utc())?)
    }

    /// Signs any certificate; tests use it for those that must be refused.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn authority_params(cluster: &str, key: &KeyPair, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The name tells authorities apart that were made for the same cluster's name, so that a stranger's certificate is refused as issued by an
    // unknown authority, not as badly signed by ours. It follows from cluster and key, so that `load` finds it again.
    let id = params.key_identifier(key);
    let id: String = id.iter().take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name = common_name(&format!("plimsoll CA of {cluster}, key {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(Identity::domain(cluster))],
        excluded_subtrees: Vec::new(),
    });
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(AUTHORITY_DAYS);
    params
}

pub(crate) fn leaf_params(
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let name = identity.dns_name();
    params.distinguished_name = common_name(&name);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if identity.node_id().is_some() {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(LEAF_DAYS);
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
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
    /// Certificate, key and cluster of an authority do not belong together.
    #[error("this is not the authority of cluster \"{cluster}\" with its own key: {source}")]
    NotThatAuthority {
        /// The cluster named.
        cluster: String,
        /// What went wrong with a certificate issued for a trial.
        source: Box<CredentialsError>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_issued(ca: &str, issued: &Issued) -> Result<Credentials, CredentialsError> {
        Credentials::from_pem(ca, &issued.cert_pem, &issued.key_pem)
    }

    #[test]
    fn what_an_authority_issues_is_good_for_whom_it_names() {
        let authority = Authority::create("blue").unwrap();
        let node = load_issued(authority.cert_pem(), &authority.issue_node(7).unwrap()).unwrap();
        assert_eq!(node.identity(), &Identity::node("blue", 7).unwrap());
        let client = authority.issue_client("cli").unwrap();
        let client = load_issued(authority.cert_pem(), &client).unwrap();
        assert_eq!(client.identity(), &Identity::client("blue", "cli").unwrap());
    }

    #[test]
    fn a_loaded_authority_issues_under_the_same_root() {
        let authority = Authority::create("blue").unwrap();
        let again = Authority::load("blue", authority.cert_pem(), &authority.key_pem()).unwrap();
        assert!(load_issued(authority.cert_pem(), &again.issue_node(1).unwrap()).is_ok());
    }

    #[test]
    fn an_authority_is_not_loaded_with_a_key_or_cluster_of_another() {
        let blue = Authority::create("blue").unwrap();
        let other = Authority::create("blue").unwrap();
        let load = |cluster, key: String| Authority::load(cluster, blue.cert_pem(), &key);
        assert!(matches!(
            load("blue", other.key_pem()),
            Err(PkiError::NotThatAuthority { .. })
        ));
        assert!(matches!(
            load("red", blue.key_pem()),
            Err(PkiError::NotThatAuthority { .. })
        ));
        assert!(matches!(
            load("blue", "no key".to_owned()),
            Err(PkiError::Certificate(_))
        ));
    }

    #[test]
    fn an_authority_cannot_issue_outside_its_cluster() {
        let blue = Authority::create("blue").unwrap();
        let foreign = Identity::node("red", 1).unwrap();
        let issued = blue.issue(&foreign).unwrap();
        let refused = load_issued(blue.cert_pem(), &issued);
        assert!(matches!(refused, Err(CredentialsError::NotIssued { .. })));
    }

    #[test]
    fn names_that_are_no_identity_get_no_certificate() {
        assert!(Authority::create("Blue").is_err());
        let blue = Authority::create("blue").unwrap();
        assert!(matches!(blue.issue_node(0), Err(PkiError::Identity(_))));
        assert!(matches!(
            blue.issue_client("../x"),
            Err(PkiError::Identity(_))
        ));
    }
}
