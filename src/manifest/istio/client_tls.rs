//! `tls` of a traffic policy.

use serde::Deserialize;

use super::one_of;
use crate::manifest::{
    Problem,
    json::{List, Text},
};
use crate::model::{ClientTls, TlsSetting};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Tls<'a> {
    mode: Text<'a>,
    sni: Text<'a>,
    subject_alt_names: List<Text<'a>>,
    client_certificate: Text<'a>,
    private_key: Text<'a>,
    ca_certificates: Text<'a>,
    ca_crl: Text<'a>,
    credential_name: Text<'a>,
    insecure_skip_verify: Option<bool>,
}

const MODES: &[(&str, TlsSetting)] = &[
    // Protobuf's zero value: a `tls` part without mode turns TLS off.
    ("", TlsSetting::Disable),
    ("DISABLE", TlsSetting::Disable),
    ("SIMPLE", TlsSetting::Simple),
    ("MUTUAL", TlsSetting::Mutual),
    ("ISTIO_MUTUAL", TlsSetting::IstioMutual),
];

impl Tls<'_> {
    pub(super) fn read(&self, field: &str) -> Result<ClientTls, Problem> {
        let mode = one_of(&format!("{field}.mode"), &self.mode, MODES)?;
        let has_pair = !self.client_certificate.is_empty() && !self.private_key.is_empty();
        if mode == TlsSetting::Mutual && !has_pair && self.credential_name.is_empty() {
            // istiod refuses it at admission, and would call in plain text.
            let reason = "MUTUAL needs clientCertificate and privateKey, or credentialName";
            return Err(Problem::new(format!("{field}.mode"), reason));
        }
        Ok(ClientTls {
            mode,
            sni: self.sni.arc(),
            subject_alt_names: self.subject_alt_names.iter().map(Text::arc).collect(),
            client_certificate: self.client_certificate.arc(),
            private_key: self.private_key.arc(),
            ca_certificates: self.ca_certificates.arc(),
            ca_crl: self.ca_crl.arc(),
            credential_name: self.credential_name.arc(),
            insecure_skip_verify: self.insecure_skip_verify.unwrap_or_default(),
        })
    }
}
