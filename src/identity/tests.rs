//! Signing: what stands in a certificate, and what is refused.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::certificate::{Facts, certificates, seconds, uri_sans};
use super::*;
use crate::testing::identity::{TestCa, TestCaOptions, now};

const ALICE: &str = "spiffe://cluster.local/ns/default/sa/alice";

fn ask(
    authority: &CertificateAuthority,
    csr: &str,
    change: impl FnOnce(&mut IssueRequest<'_>),
) -> Result<Vec<String>, IssueError> {
    let identities = [ALICE.to_owned()];
    let mut request = IssueRequest {
        csr_pem: csr,
        identities: &identities,
        validity_seconds: 3600,
        now: now(),
    };
    change(&mut request);
    authority.issue(&request)
}

fn csr() -> String {
    new_key_and_csr(ALICE, KeyKind::P256)
        .expect("a request")
        .csr_pem
}

fn root() -> TestCa {
    TestCa::root(TestCaOptions::new("root"))
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

fn csr_of(
    algorithm: &'static SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> String {
    let key = KeyPair::generate_for(algorithm).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    params
        .serialize_request(&key)
        .expect("a request")
        .pem()
        .expect("PEM")
}

#[test]
fn an_answer_is_leaf_then_intermediates_then_the_whole_root_bundle() {
    let root = root();
    let other = TestCa::root(TestCaOptions::new("other root"));
    let upper = root.intermediate(TestCaOptions::new("upper"));
    let lower = upper.intermediate(TestCaOptions::new("lower"));
    let mut pems = lower.pems();
    pems.roots = format!("{}{}", root.certificate(), other.certificate().trim_end()).into();
    let authority = CertificateAuthority::new(Lifetimes::default());
    authority.install(SigningCa::from_pem(&pems, now()).expect("a CA"));

    let answer = ask(&authority, &csr(), |_| ()).expect("an answer");
    assert_eq!(answer.len(), 4, "leaf, two intermediates, roots");
    assert!(answer.iter().all(|part| part.ends_with("-----\n")));
    assert_eq!(der(&answer[1]), der(&lower.certificate()));
    assert_eq!(der(&answer[2]), der(&upper.certificate()));
    let roots = certificates(answer[3].as_bytes()).expect("certificates");
    assert_eq!(roots, [der(&root.certificate()), der(&other.certificate())]);
    for part in &answer[..3] {
        assert_eq!(part.matches("BEGIN CERTIFICATE").count(), 1);
    }
}

#[test]
fn a_certificate_names_the_caller_and_nothing_of_its_request() {
    let authority = root().authority();
    let csr = csr_of(&PKCS_ECDSA_P256_SHA256, |params| {
        params.subject_alt_names = vec![
            SanType::URI(
                "spiffe://cluster.local/ns/kube-system/sa/admin"
                    .try_into()
                    .unwrap(),
            ),
            SanType::DnsName("istiod.istio-system.svc".try_into().unwrap()),
        ];
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:masters");
    });
    let now = now();
    let answer = ask(&authority, &csr, |request| request.now = now).expect("an answer");
    let leaf = der(&answer[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
    let names = leaf.subject_alternative_name().unwrap().expect("names");
    assert!(names.critical);
    assert_eq!(names.value.general_names, [GeneralName::URI(ALICE)]);
    assert_eq!(leaf.subject().iter().count(), 0);
    let constraints = leaf.basic_constraints().unwrap().expect("constraints");
    assert!(constraints.critical && !constraints.value.ca);
    let usage = leaf.key_usage().unwrap().expect("usage").value;
    assert_eq!(usage.flags, 0b101, "digitalSignature and keyEncipherment");
    let extended = leaf.extended_key_usage().unwrap().expect("usage").value;
    assert!(extended.server_auth && extended.client_auth && extended.other.is_empty());
    let validity = leaf.validity();
    assert_eq!(validity.not_before.timestamp(), seconds(now) - 120);
    assert_eq!(validity.not_after.timestamp(), seconds(now) + 3600);
}
