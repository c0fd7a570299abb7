use std::time::{Duration, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;

use super::*;
use crate::identity::{Lifetimes, SigningCa};
use crate::testing::identity::{TestCa, TestCaOptions};

fn lines(authority: &CertificateAuthority) -> String {
    let mut registry = Registry::default();
    register_expiry(&mut registry, authority, || {
        UNIX_EPOCH + Duration::from_secs(1000)
    });
    let mut text = String::new();
    encode(&mut text, &registry).expect("encodes");
    text
}

#[test]
fn the_ends_of_root_and_signing_certificate_are_shown() {
    let authority = CertificateAuthority::new(Lifetimes::default());
    assert!(!lines(&authority).contains("expiry"));
    let second = |n| UNIX_EPOCH + Duration::from_secs(n);
    let options = |name, not_after| TestCaOptions {
        not_before: second(0),
        not_after: second(not_after),
        ..TestCaOptions::new(name)
    };
    let root = TestCa::root(options("root", 5000));
    let install = |ca: &TestCa| {
        let ca = SigningCa::from_pem(&ca.pems(), second(1000));
        authority.install(ca.expect("a CA"));
    };
    install(&root);
    let text = lines(&authority);
    assert!(
        text.contains("citadel_server_root_cert_expiry_timestamp 5000\n"),
        "{text}"
    );
    assert!(
        text.contains("citadel_server_root_cert_expiry_seconds 4000\n"),
        "{text}"
    );
    assert!(!text.contains("cert_chain"), "{text}");
    install(&root.intermediate(options("intermediate", 900)));
    let text = lines(&authority);
    assert!(
        text.contains("citadel_server_cert_chain_expiry_timestamp 900\n"),
        "{text}"
    );
    assert!(
        text.contains("citadel_server_cert_chain_expiry_seconds -100\n"),
        "{text}"
    );
}
