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
mod tests;
