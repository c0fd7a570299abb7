//! Signing: what stands in a certificate, and what is refused.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, SanType, SignatureAlgorithm,
};
use rustls::{
    pki_types::{CertificateDer, CertificateSigningRequestDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::certificate::{certificates, seconds};
use super::csr::Request;
use super::*;
use crate::testing::identity::{TestCa, TestCaOptions, now};

const ALICE: &str = "spiffe://cluster.local/ns/default/sa/alice";

static CALLER: LazyLock<[String; 1]> = LazyLock::new(|| [ALICE.to_owned()]);

fn ask<'a>(
    authority: &CertificateAuthority,
    csr: &'a str,
    change: impl FnOnce(&mut IssueRequest<'a>),
) -> Result<Vec<String>, IssueError> {
    let mut request = IssueRequest {
        csr_pem: csr,
        identities: &*CALLER,
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

/// openssl is not needed for it: webpki is what verifies here and in rustls
/// clients, and the handshakes of `serving` use it too.
fn chain_of(answer: &[String]) -> Vec<CertificateDer<'static>> {
    let all = answer.concat();
    certificates(all.as_bytes()).expect("certificates")
}

fn verifies(answer: &[String], at: SystemTime) -> Result<(), rustls::Error> {
    let roots = answer.last().expect("roots");
    let roots = TrustBundle::from_pem(roots.as_bytes())
        .expect("roots")
        .store();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier.build().expect("a verifier");
    let chain = chain_of(answer);
    let (own, others) = chain.split_first().expect("a certificate");
    let at = Duration::from_secs(u64::try_from(seconds(at)).expect("a time"));
    verifier
        .verify_client_cert(own, others, UnixTime::since_unix_epoch(at))
        .map(drop)
}

#[test]
fn every_kind_of_signing_key_signs_every_kind_of_request() {
    let kinds = [
        &PKCS_RSA_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
    ];
    let requests = [
        &PKCS_RSA_SHA256,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ];
    let requests = requests.map(|kind| csr_of(kind, |_| ()));
    for algorithm in kinds {
        let root = TestCa::root(TestCaOptions {
            algorithm,
            ..TestCaOptions::new("root")
        });
        let ca = root.intermediate(TestCaOptions {
            algorithm,
            ..TestCaOptions::new("intermediate")
        });
        let authority = ca.authority();
        for request in &requests {
            let answer = ask(&authority, request, |_| ()).expect("an answer");
            verifies(&answer, now()).expect("a certificate that peers take");
        }
    }
}

#[test]
fn a_common_name_in_the_request_gives_the_caller_as_common_name() {
    let authority = root().authority();
    let csr = csr_of(&PKCS_ECDSA_P256_SHA256, |params| {
        params.distinguished_name.push(DnType::CommonName, "admin");
    });
    let answer = ask(&authority, &csr, |_| ()).expect("an answer");
    let leaf = der(&answer[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
    assert_eq!(leaf.subject().to_string(), format!("CN={ALICE}"));
    let names = leaf.subject_alternative_name().unwrap().expect("names");
    assert!(names.critical, "although the subject is not empty");
    assert_eq!(names.value.general_names, [GeneralName::URI(ALICE)]);
    verifies(&answer, now()).expect("a certificate that peers take");

    let long = [format!("{ALICE}-{}", "x".repeat(64))];
    let answer = ask(&authority, &csr, |request| request.identities = &long).expect("an answer");
    let leaf = der(&answer[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
    assert_eq!(
        leaf.subject().iter().count(),
        0,
        "too long for a common name"
    );
}

#[test]
fn addresses_and_host_names_of_forwarded_callers_keep_their_kind() {
    let authority = root().authority();
    let identities = [ALICE, "10.0.0.1", "2001:db8::1", "gateway.example"].map(str::to_owned);
    let csr = csr();
    let answer = ask(&authority, &csr, |request| request.identities = &identities);
    let leaf = der(&answer.expect("an answer")[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
    let names = leaf.subject_alternative_name().unwrap().expect("names");
    let [
        GeneralName::URI(_),
        GeneralName::IPAddress(four),
        GeneralName::IPAddress(six),
        GeneralName::DNSName(host),
    ] = names.value.general_names.as_slice()
    else {
        panic!("{:?}", names.value.general_names);
    };
    assert_eq!(
        (*four, six.len(), *host),
        (&[10, 0, 0, 1][..], 16, "gateway.example")
    );
}

#[test]
fn serial_numbers_are_positive_and_never_the_same() {
    let authority = root().authority();
    let csr = csr();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = ask(&authority, &csr, |_| ()).expect("an answer");
        let leaf = der(&answer[0]);
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("a certificate");
        assert!(leaf.raw_serial()[0] < 0x80 && leaf.raw_serial().len() <= 20);
        assert!(seen.insert(leaf.raw_serial().to_vec()));
    }
}

#[test]
fn a_lifetime_is_the_default_the_wanted_one_or_refused() {
    let lifetimes = Lifetimes {
        default: Duration::from_mins(10),
        max: Duration::from_hours(1),
    };
    let authority = CertificateAuthority::new(lifetimes);
    authority.install(SigningCa::from_pem(&root().pems(), now()).expect("a CA"));
    let csr = csr();
    let now = now();
    let lifetime = |wanted| {
        let answer = ask(&authority, &csr, |request| {
            (request.validity_seconds, request.now) = (wanted, now);
        })?;
        let facts = certificate::Facts::of(&der(&answer[0])).expect("a certificate");
        Ok::<_, IssueError>(facts.validity.not_after - seconds(now))
    };
    for (wanted, given) in [(0, 600), (-1, 600), (i64::MIN, 600), (1, 1), (3600, 3600)] {
        assert_eq!(lifetime(wanted), Ok(given), "{wanted}");
    }
    for wanted in [3601, i64::MAX] {
        let refused = lifetime(wanted).expect_err("too long");
        assert_eq!(refused.label(), "TTL_ERROR");
        assert!(
            matches!(refused, IssueError::InvalidRequest(_)),
            "{refused}"
        );
    }
}

#[test]
fn a_certificate_ends_with_what_signs_it_at_the_latest() {
    let minute = Duration::from_mins(1);
    let now = now();
    let root = TestCa::root(TestCaOptions {
        not_after: now + 5 * minute,
        ..TestCaOptions::new("root")
    });
    let ca = root.intermediate(TestCaOptions {
        not_after: now + 10 * minute,
        ..TestCaOptions::new("intermediate")
    });
    for (ca, end) in [(&root, 5), (&ca, 5)] {
        let answer = ask(&ca.authority(), &csr(), |_| ()).expect("an answer");
        let facts = certificate::Facts::of(&der(&answer[0])).expect("a certificate");
        assert_eq!(facts.validity.not_after, seconds(now + end * minute));
    }
}

#[test]
fn nothing_is_signed_before_or_after_the_signing_certificate_counts() {
    let hour = Duration::from_hours(1);
    let root = root();
    let ca = root.intermediate(TestCaOptions {
        not_before: now() + 2 * hour,
        not_after: now() + 4 * hour,
        ..TestCaOptions::new("intermediate")
    });
    let authority = ca.authority();
    for (hours, inside) in [(0, false), (3, true), (5, false)] {
        let at = now() + hours * hour;
        let answer = ask(&authority, &csr(), |request| request.now = at);
        match answer {
            Ok(answer) => {
                assert!(inside);
                verifies(&answer, at).expect("a certificate that peers take");
            }
            Err(error) => {
                assert!(!inside);
                assert!(matches!(
                    error,
                    IssueError::Internal(Unable::OutOfTime { .. })
                ));
                let text = error.to_string();
                assert!(
                    text.contains("CN=intermediate") && text.contains("clock"),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn an_authority_without_certificate_says_so() {
    let authority = CertificateAuthority::new(Lifetimes::default());
    let error = ask(&authority, &csr(), |_| ()).expect_err("no certificate");
    assert_eq!(error, IssueError::Internal(Unable::NotReady));
    assert_eq!(error.label(), "CA_NOT_READY");
}

#[test]
fn a_change_wakes_who_follows_and_the_same_again_does_not() {
    let (one, two) = (root(), root());
    let authority = CertificateAuthority::new(Lifetimes::default());
    let mut changes = authority.subscribe();
    let read = |ca: &TestCa| SigningCa::from_pem(&ca.pems(), now()).expect("a CA");
    assert!(authority.install(read(&one)));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert!(!authority.install(read(&one)));
    assert!(!changes.has_changed().unwrap());
    assert!(authority.install(read(&two)));
    assert!(changes.has_changed().unwrap());
    let before = ask(&authority, &csr(), |_| ()).expect("an answer");
    assert_eq!(chain_of(&before)[1], der(two.root_pem()));
}

mod requests {
    //! What is no request.

    use proptest::prelude::*;

    use super::*;

    fn refused(csr: &str) -> RefusedRequest {
        let answer = ask(&root().authority(), csr, |_| ());
        let Err(IssueError::InvalidRequest(refused)) = answer else {
            panic!("{answer:?}");
        };
        refused
    }

    /// The request with one byte of its DER changed.
    fn changed(csr: &str, place: usize) -> String {
        let mut der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
            .unwrap()
            .to_vec();
        let place = if place < der.len() {
            place
        } else {
            der.len() - 1
        };
        der[place] ^= 1;
        pem_of(&der)
    }

    fn pem_of(der: &[u8]) -> String {
        let text = BASE64_STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    #[test]
    fn a_request_that_another_key_signed_is_refused() {
        let csr = csr();
        assert_eq!(
            refused(&changed(&csr, usize::MAX)),
            RefusedRequest::Signature
        );
        let names = csr_of(&PKCS_ECDSA_P256_SHA256, |params| {
            params
                .distinguished_name
                .push(DnType::OrganizationName, "organisation");
        });
        let der = CertificateSigningRequestDer::from_pem_slice(names.as_bytes()).unwrap();
        let place = der.windows(12).position(|w| w == b"organisation").unwrap();
        assert_eq!(refused(&changed(&names, place)), RefusedRequest::Signature);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let certificate = root().certificate();
        let key = new_key_and_csr(ALICE, KeyKind::P256).unwrap().key_pem;
        for text in ["", "hello", &certificate, &key] {
            assert_eq!(refused(text), RefusedRequest::NotPem, "{text}");
        }
        assert_eq!(refused(&pem_of(b"hello")), RefusedRequest::NotARequest);
        let mut longer = CertificateSigningRequestDer::from_pem_slice(csr().as_bytes())
            .unwrap()
            .to_vec();
        longer.push(0);
        assert_eq!(refused(&pem_of(&longer)), RefusedRequest::NotARequest);
    }

    #[test]
    fn a_request_that_is_too_large_is_refused_unread() {
        let long = format!("{}{}", "#".repeat(16 << 10), csr());
        assert!(matches!(refused(&long), RefusedRequest::TooLarge(_)));
        let many = csr_of(&PKCS_ECDSA_P256_SHA256, |params| {
            let name =
                |n| SanType::URI(format!("spiffe://td/ns/a/sa/{n:0100}").try_into().unwrap());
            params.subject_alt_names = (0..500).map(name).collect();
        });
        assert!(matches!(refused(&many), RefusedRequest::TooLarge(_)));
    }

    #[test]
    fn a_caller_without_usable_identity_gets_nothing() {
        let authority = root().authority();
        let nobody = ask(&authority, &csr(), |request| request.identities = &[]);
        assert_eq!(nobody, Err(RefusedRequest::NoIdentity.into()));
        for name in ["", "spiffe://cluster.local/ns/ä/sa/b"] {
            let identities = [name.to_owned()];
            let csr = csr();
            let odd = ask(&authority, &csr, |request| request.identities = &identities);
            assert_eq!(odd, Err(RefusedRequest::Identity(name.to_owned()).into()));
        }
    }

    #[test]
    fn requests_of_the_agent_are_taken() {
        let authority = root().authority();
        for kind in [KeyKind::P256, KeyKind::Rsa2048] {
            let own = new_key_and_csr(ALICE, kind).expect("a request");
            let answer = ask(&authority, &own.csr_pem, |_| ()).expect("an answer");
            let key = KeyPair::from_pem(&own.key_pem).expect("a key");
            let leaf = certificate::Facts::of(&der(&answer[0])).expect("a certificate");
            assert_eq!(leaf.public_key, key.public_key_raw());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// What is signed cannot be changed. Around it some bits mean nothing;
        /// then the key is the one that was proven.
        #[test]
        fn a_damaged_request_never_gets_a_certificate(place in 0usize..400, bit in 0u8..8) {
            let csr = csr();
            let mut der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).unwrap().to_vec();
            let place = place % der.len();
            der[place] ^= 1 << bit;
            if let Ok(read) = Request::from_pem(&pem_of(&der)) {
                let original = Request::from_pem(&csr).expect("a request");
                prop_assert_eq!(read.key, original.key);
            }
        }

        #[test]
        fn arbitrary_bytes_are_no_request(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Request::from_pem(&pem_of(&bytes)).is_err());
            prop_assert!(certificate::Facts::of(&bytes).is_none());
            prop_assert!(TrustBundle::from_pem(&bytes).is_err());
        }
    }
}
