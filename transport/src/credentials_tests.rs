//! Each way in which credentials can be of no use, and what is said of it.

use super::*;
use crate::pki::{Authority, leaf_params};
use time::Duration;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    /// A good set of files for node 1 of cluster "blue".
    fn good() -> (Files, Authority) {
        let authority = Authority::create("blue").unwrap();
        let issued = authority.issue_node(1).unwrap();
        let files = Files {
            dir: tempfile::tempdir().unwrap(),
        };
        files.write("ca.pem", authority.cert_pem());
        files.write("cert.pem", &issued.cert_pem);
        files.write("key.pem", &issued.key_pem);
        (files, authority)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn load(&self) -> Result<Credentials, CredentialsError> {
        let path = |name| self.dir.path().join(name);
        Credentials::load(&path("ca.pem"), &path("cert.pem"), &path("key.pem"))
    }

    /// What is said when loading fails.
    fn complaint(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

#[test]
fn good_files_load_and_say_whose_they_are() {
    let (files, _) = Files::good();
    let credentials = files.load().unwrap();
    assert_eq!(credentials.identity(), &Identity::node("blue", 1).unwrap());
    assert_eq!(
        format!("{credentials:?}"),
        "Credentials(node 1 of cluster \"blue\")"
    );
}

#[test]
fn a_missing_file_is_named() {
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        let (files, _) = Files::good();
        std::fs::remove_file(files.dir.path().join(name)).unwrap();
        let complaint = files.complaint();
        assert!(
            complaint.starts_with("cannot read") && complaint.contains(name),
            "{complaint}"
        );
    }
}

#[test]
fn a_file_that_is_not_pem_is_named() {
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        for content in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        ] {
            let (files, _) = Files::good();
            files.write(name, content);
            let complaint = files.complaint();
            assert!(
                complaint.contains(name) && complaint.contains("PEM"),
                "{complaint}"
            );
        }
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (files, authority) = Files::good();
    files.write("key.pem", &authority.issue_node(1).unwrap().key_pem);
    assert!(matches!(
        files.load(),
        Err(CredentialsError::WrongKey { .. })
    ));
}

#[test]
fn a_certificate_under_another_ca_is_refused() {
    let (files, _) = Files::good();
    files.write("ca.pem", Authority::create("blue").unwrap().cert_pem());
    assert!(matches!(
        files.load(),
        Err(CredentialsError::NotIssued { .. })
    ));
}

#[test]
fn an_expired_or_future_certificate_is_refused_with_its_dates() {
    let (files, authority) = Files::good();
    let identity = Identity::node("blue", 1).unwrap();
    let now = OffsetDateTime::now_utc();
    let issue = |from, to| {
        let mut params = leaf_params(&identity, now).unwrap();
        params.not_before = now + from;
        params.not_after = now + to;
        let issued = authority.sign(&params).unwrap();
        files.write("cert.pem", &issued.cert_pem);
        files.write("key.pem", &issued.key_pem);
        files.complaint()
    };
    let yesterday = (now - Duration::days(1)).date().to_string();
    let complaint = issue(Duration::days(-9), Duration::days(-1));
    assert!(
        complaint.contains("expired on") && complaint.contains(&yesterday),
        "{complaint}"
    );
    let tomorrow = (now + Duration::days(1)).date().to_string();
    let complaint = issue(Duration::days(1), Duration::days(9));
    assert!(
        complaint.contains("valid from") && complaint.contains(&tomorrow),
        "{complaint}"
    );
}

#[test]
fn a_certificate_with_no_identity_or_with_two_is_refused() {
    let (files, authority) = Files::good();
    let name = |name: &str| rcgen::SanType::DnsName(name.try_into().unwrap());
    for names in [
        vec![],
        vec![name("www.blue.plimsoll")],
        vec![name("*.blue.plimsoll")],
        vec![name("node-1.blue.plimsoll"), name("node-2.blue.plimsoll")],
    ] {
        let identity = Identity::node("blue", 1).unwrap();
        let mut params = leaf_params(&identity, OffsetDateTime::now_utc()).unwrap();
        params.subject_alt_names = names;
        let issued = authority.sign(&params).unwrap();
        files.write("cert.pem", &issued.cert_pem);
        files.write("key.pem", &issued.key_pem);
        assert!(matches!(
            files.load(),
            Err(CredentialsError::NoIdentity { .. })
        ));
    }
}

#[test]
fn a_node_certificate_that_may_not_serve_is_refused() {
    let (files, authority) = Files::good();
    let identity = Identity::node("blue", 1).unwrap();
    let mut params = leaf_params(&identity, OffsetDateTime::now_utc()).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let issued = authority.sign(&params).unwrap();
    files.write("cert.pem", &issued.cert_pem);
    files.write("key.pem", &issued.key_pem);
    assert!(matches!(
        files.load(),
        Err(CredentialsError::NotIssued { .. })
    ));
}
