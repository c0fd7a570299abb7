//! Istio's objects.

mod client_tls;
pub(super) mod destination_rule;
pub(super) mod gateway;
pub(super) mod peer_authentication;
pub(super) mod service_entry;
pub(super) mod sidecar;
pub(super) mod traffic_policy;
pub(super) mod virtual_service;
pub(super) mod workload_entry;

use std::{net::IpAddr, sync::Arc};

use serde::Deserialize;

use crate::manifest::{
    Problem,
    json::{Int, List, Map, Text},
    meta,
};
use crate::model::{ExportTo, Labels, Namespace};

/// `exportTo`; none means the mesh's default.
fn export_to(names: &List<Text<'_>>, own: &Namespace) -> Option<ExportTo> {
    ExportTo::parse(names.iter().map(|n| &**n), own)
}

/// A name without dots is a Service of the object's own namespace (istio:
/// `ResolveShortnameToFQDN`); an IPv6 address has no dots either.
fn full_name(host: &str, namespace: &Namespace, domain: &str) -> Arc<str> {
    if host == "*" || host.contains('.') || host.parse::<IpAddr>().is_ok() {
        return Arc::from(host);
    }
    Arc::from(format!("{host}.{namespace}.svc.{domain}"))
}

/// Looks a word up, or says which ones there are.
pub(super) fn one_of<T: Copy>(field: &str, text: &str, words: &[(&str, T)]) -> Result<T, Problem> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known = words.iter().map(|(word, _)| *word);
        let known: Vec<&str> = known.filter(|word| !word.is_empty()).collect();
        Problem::word(field, text, &known)
    })
}

/// `port` of a `Gateway` server or a `Sidecar` listener.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Port<'a> {
    number: Int,
    protocol: Text<'a>,
    name: Text<'a>,
}

/// `workloadSelector` and `selector` with `labels` or `matchLabels`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Selector<'a> {
    labels: Map<'a, Text<'a>>,
    match_labels: Map<'a, Text<'a>>,
}

impl Selector<'_> {
    fn labels(&self) -> Labels {
        meta::labels(&self.labels)
    }

    fn match_labels(&self) -> Labels {
        meta::labels(&self.match_labels)
    }
}
