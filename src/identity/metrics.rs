//! When roots and signing certificate end, with istiod's names.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{TypedMetric, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    CertificateAuthority, Clock,
    certificate::{Validity, seconds},
};

/// Shows when the first root and the signing certificate end.
pub fn register_expiry(registry: &mut Registry, authority: &CertificateAuthority, clock: Clock) {
    let authority = authority.clone();
    registry.register_collector(Box::new(Expiry { authority, clock }));
}

struct Expiry {
    authority: CertificateAuthority,
    clock: Clock,
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expiry").field(&self.authority).finish()
    }
}

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(ca) = self.authority.current() else {
            return Ok(());
        };
        let now = seconds((self.clock)());
        let mut show = |name: &str, what: &str, validity: Validity| {
            let mut gauge = |suffix: &str, help: String, value: i64| {
                let name = format!("citadel_server_{name}_expiry_{suffix}");
                let gauge = ConstGauge::new(value);
                let kind = ConstGauge::<i64>::TYPE;
                gauge.encode(encoder.encode_descriptor(&name, &help, None, kind)?)
            };
            let end = validity.not_after;
            let help = format!("The unix timestamp, in seconds, when the {what} will expire");
            gauge("timestamp", help, end)?;
            let help = format!("Seconds before the {what} will expire; negative if it has");
            gauge("seconds", help, end.saturating_sub(now))
        };
        if let Some(root) = ca.trust_bundle().validities().next() {
            show("root_cert", "root cert", root)?;
        }
        // istiod: a root that signs by itself has no chain.
        if !ca.intermediates().is_empty() {
            show("cert_chain", "cert chain", ca.own_validity())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
}
