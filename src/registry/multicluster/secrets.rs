//! Remote Secrets → claims.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    claims::{ClaimChange, Credentials, Source},
    kubeconfig::KubeconfigBytes,
};
use crate::manifest::Raw;
use crate::model::ClusterId;
use crate::registry::kube::{Closed, Progress, Resource, Sink};

/// The Secrets that hold kubeconfigs (istiod: `MultiClusterSecretLabel`).
pub(super) fn resource(namespace: &str) -> Resource {
    Resource {
        version: "v1".to_owned(),
        plural: "secrets".to_owned(),
        namespace: Some(namespace.to_owned()),
        labels: Some("istio/multiCluster=true".to_owned()),
        ..Resource::default()
    }
}

#[derive(Deserialize)]
struct Secret<'a> {
    #[serde(borrow)]
    metadata: SecretMeta<'a>,
    /// Base64 by key.
    #[serde(borrow, default)]
    data: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretMeta<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    creation_timestamp: Cow<'a, str>,
}

/// Every key of a Secret is a cluster, its value that cluster's kubeconfig.
fn read(json: &str) -> Option<(Source, Credentials)> {
    // The error would quote the Secret.
    let Ok(secret) = serde_json::from_str::<Secret<'_>>(json) else {
        warn!("ignored a Secret with label istio/multiCluster=true that is no Secret");
        return None;
    };
    let name = format!("{}/{}", secret.metadata.namespace, secret.metadata.name);
    let mut credentials = Credentials::default();
    for (cluster, value) in secret.data.unwrap_or_default() {
        // The API server checks the base64; an empty value is refused later, by name.
        let bytes = BASE64_STANDARD.decode(value.as_bytes()).unwrap_or_default();
        credentials.insert(ClusterId::from(&*cluster), KubeconfigBytes::new(&bytes));
    }
    let source = Source {
        created: Arc::from(&*secret.metadata.creation_timestamp),
        name: Arc::from(name),
    };
    Some((source, credentials))
}

/// Sends what Secrets claim.
pub(super) struct SecretSink {
    changes: mpsc::Sender<ClaimChange>,
    list: Vec<(Source, Credentials)>,
    pending: Vec<ClaimChange>,
    listed: bool,
    progress: Progress,
}

impl SecretSink {
    pub(super) fn new(changes: mpsc::Sender<ClaimChange>, progress: Progress) -> Self {
        Self {
            changes,
            list: Vec::new(),
            pending: Vec::new(),
            listed: false,
            progress,
        }
    }
}

impl Sink for SecretSink {
    fn begin(&mut self) {
        self.list.clear();
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.list.extend(read(object.json()));
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        self.listed = true;
        let list = std::mem::take(&mut self.list);
        self.progress.listed(list.len());
        self.pending.push(ClaimChange::All(list));
        self.flush().await
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        let claim =
            read(object.json()).map(|(source, credentials)| ClaimChange::Set(source, credentials));
        self.pending.extend(claim);
    }

    fn deleted(&mut self, object: Raw<'_>) {
        let gone = read(object.json()).map(|(source, _)| ClaimChange::Gone(source.name));
        self.pending.extend(gone);
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        for change in std::mem::take(&mut self.pending) {
            self.changes.send(change).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    fn forbidden(&mut self) {
        // No remote clusters then, unless there were some: those stay. A full
        // channel means that somebody is listed already.
        if !self.listed {
            let _ = self.changes.try_send(ClaimChange::All(Vec::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_a_cluster() {
        let json = r#"{"metadata": {"name": "s", "namespace": "istio-system",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
            "data": {"a": "aGk=", "b": "not base64"}}"#;
        let (source, credentials) = read(json).expect("a Secret");
        assert_eq!(&*source.name, "istio-system/s");
        let hi = KubeconfigBytes::new(b"hi");
        assert_eq!(credentials.get("a"), Some(&hi));
        assert_eq!(credentials.get("b"), Some(&KubeconfigBytes::new(b"")));
        assert_eq!(read("[]"), None);
    }
}
