use std::path::PathBuf;

use super::*;
use crate::config::{Authority, Headers, KeyKind, Upstream};

/// An authority that is asked in plain text.
pub(super) fn authority(address: &str) -> Authority {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    Authority {
        upstream: Upstream {
            host: host.to_owned(),
            port: port.parse().expect("a port"),
            tls: None,
        },
        headers: Headers::default(),
        token: PathBuf::from("/none"),
        client: None,
        lifetime: Duration::from_hours(24),
        grace_ratio: 0.5,
        grace_jitter: 0.01,
        key: KeyKind::P256,
        answer_timeout: Duration::from_secs(30),
        output: None,
        signer: String::new(),
    }
}

#[test]
fn debug_output_has_no_key() {
    let certificate = WorkloadCertificate {
        chain: "chain".into(),
        key: "hidden key".into(),
        roots: "roots".into(),
        not_after: SystemTime::UNIX_EPOCH,
    };
    assert!(!format!("{certificate:?}").contains("hidden"));
}
