//! Which kinds are watched, and in which clusters.

use crate::{mesh::ObjectKind, model::Features};

/// The API that serves a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchedKind {
    /// Kind.
    pub kind: ObjectKind,
    /// API group; empty for core.
    pub group: String,
    /// Versions that can be read, best first.
    pub versions: Vec<String>,
    /// Plural name.
    pub plural: &'static str,
    /// Its CRD may be missing.
    pub custom: bool,
    /// What to leave out.
    pub fields: Option<&'static str>,
}

impl WatchedKind {
    fn new(kind: ObjectKind, group: &str, versions: &[&str], plural: &'static str) -> Self {
        Self {
            kind,
            group: group.to_owned(),
            versions: versions.iter().map(|&v| v.to_owned()).collect(),
            plural,
            custom: false,
            fields: None,
        }
    }

    fn custom(kind: ObjectKind, group: &str, versions: &[&str], plural: &'static str) -> Self {
        Self {
            custom: true,
            ..Self::new(kind, group, versions, plural)
        }
    }

    /// `plural.group`: the name of its CRD, and of its watch in reports.
    pub(crate) fn name(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

const ISTIO: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// The MCS API of this mesh (`MCS_API_GROUP`, `MCS_API_VERSION`).
#[derive(Debug, Clone)]
pub struct McsApi {
    /// Group.
    pub group: String,
    /// Version.
    pub version: String,
}

impl Default for McsApi {
    fn default() -> Self {
        Self {
            group: "multicluster.x-k8s.io".to_owned(),
            version: "v1alpha1".to_owned(),
        }
    }
}

/// Kinds to watch in the config cluster or in a remote one (split-horizon §4.2).
pub(crate) fn watched(config: bool, features: &Features, mcs: &McsApi) -> Vec<WatchedKind> {
    use ObjectKind as K;
    let networking = "networking.istio.io";
    let mut kinds = vec![
        WatchedKind::new(K::Namespace, "", &["v1"], "namespaces"),
        WatchedKind::new(K::Node, "", &["v1"], "nodes"),
        WatchedKind::new(K::Service, "", &["v1"], "services"),
        WatchedKind::new(
            K::EndpointSlice,
            "discovery.k8s.io",
            &["v1"],
            "endpointslices",
        ),
        WatchedKind {
            // istiod: a failed pod's address may already be another's.
            fields: Some("status.phase!=Failed"),
            ..WatchedKind::new(K::Pod, "", &["v1"], "pods")
        },
    ];
    if features.discover_gateway_api {
        let group = "gateway.networking.k8s.io";
        kinds.push(WatchedKind::custom(
            K::KubeGateway,
            group,
            &["v1", "v1beta1"],
            "gateways",
        ));
    }
    if config || features.cross_cluster_workload_entry {
        kinds.push(WatchedKind::custom(
            K::WorkloadEntry,
            networking,
            ISTIO,
            "workloadentries",
        ));
    }
    if config {
        kinds.extend([
            WatchedKind::custom(K::ServiceEntry, networking, ISTIO, "serviceentries"),
            WatchedKind::custom(K::DestinationRule, networking, ISTIO, "destinationrules"),
            WatchedKind::custom(K::Sidecar, networking, ISTIO, "sidecars"),
            WatchedKind::custom(K::Gateway, networking, ISTIO, "gateways"),
            WatchedKind::custom(
                K::PeerAuthentication,
                "security.istio.io",
                &["v1", "v1beta1"],
                "peerauthentications",
            ),
        ]);
    }
    let version = [mcs.version.as_str()];
    if features.mcs_discovery {
        kinds.push(WatchedKind::custom(
            K::ServiceExport,
            &mcs.group,
            &version,
            "serviceexports",
        ));
    }
    if features.mcs_host {
        kinds.push(WatchedKind::custom(
            K::ServiceImport,
            &mcs.group,
            &version,
            "serviceimports",
        ));
    }
    kinds
}
