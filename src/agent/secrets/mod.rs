//! The secrets that Envoy asks the agent for, under the names that istiod's
//! configuration refers to.

mod files;
mod server;
mod stream;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret as EnvoySecret, TlsCertificate, secret,
};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, watch};
use xxhash_rust::xxh3::xxh3_64;

use self::files::FileSecret;
pub(super) use self::server::{ServeError, listen, serve};
use super::certificate::WorkloadCertificate;
use crate::config::CertificateFiles;

/// The certificate of the workload.
const OWN: &str = "default";
/// What peers are trusted by.
const ROOTS: &str = "ROOTCA";

/// An encoded secret. It may hold a key: nothing of it is ever printed.
#[derive(Clone, PartialEq, Eq)]
struct Secret {
    body: Bytes,
    /// Hash of the body.
    version: u64,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// A certificate with its key, both PEM.
    fn certificate(name: &str, chain: &[u8], key: &[u8]) -> Self {
        let certificate = TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..Default::default()
        };
        Self::encode(name, secret::Type::TlsCertificate(certificate))
    }

    /// Certificates to trust, PEM.
    fn roots(name: &str, roots: &[u8]) -> Self {
        let context = CertificateValidationContext {
            trusted_ca: Some(inline(roots)),
            ..Default::default()
        };
        Self::encode(name, secret::Type::ValidationContext(context))
    }

    fn encode(name: &str, value: secret::Type) -> Self {
        let secret = EnvoySecret {
            name: name.to_owned(),
            r#type: Some(value),
        };
        let body = Bytes::from(secret.encode_to_vec());
        let version = xxh3_64(&body);
        Self { body, version }
    }
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.to_vec())),
        ..Default::default()
    }
}

/// All secrets that there are now. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the streams when a secret is new or another.
    generation: watch::Sender<u64>,
    /// Wakes the reader of files when there is one more to read.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, Secret>,
    /// What is read from files, because it was asked for.
    files: BTreeMap<String, FileSecret>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                generation: watch::Sender::new(0),
                wanted: Notify::new(),
            }),
        }
    }
}

impl Secrets {
    /// Takes the certificate of the workload from files.
    pub(super) fn take_from(&self, files: &CertificateFiles) {
        let mut state = self.shared.state.lock();
        let own = FileSecret::Certificate {
            chain: files.chain.clone(),
            key: files.key.clone(),
        };
        let roots = FileSecret::Roots(files.roots.clone());
        state
            .files
            .extend([(OWN.to_owned(), own), (ROOTS.to_owned(), roots)]);
    }

    /// Takes a new certificate of the workload, and its roots.
    pub(super) fn put(&self, certificate: &WorkloadCertificate) {
        let WorkloadCertificate {
            chain, key, roots, ..
        } = certificate;
        let own = Secret::certificate(OWN, chain.as_bytes(), key.as_bytes());
        let roots = Secret::roots(ROOTS, roots.as_bytes());
        self.hold([(OWN.to_owned(), own), (ROOTS.to_owned(), roots)]);
    }

    fn hold(&self, new: impl IntoIterator<Item = (String, Secret)>) {
        let mut state = self.shared.state.lock();
        let mut changed = false;
        for (name, secret) in new {
            changed |= state.held.get(&name) != Some(&secret);
            state.held.insert(name, secret);
        }
        drop(state);
        if changed {
            self.shared
                .generation
                .send_modify(|generation| *generation += 1);
        }
    }

    fn get(&self, name: &str) -> Option<Secret> {
        self.shared.state.lock().held.get(name).cloned()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }
}
