//! Every kind that is watched, as data.

use std::sync::Arc;

use crate::model::{Features, ObjectKind};

/// Default of `MCS_API_GROUP`.
pub const MCS_GROUP: &str = "multicluster.x-k8s.io";
/// Default of `MCS_API_VERSION`.
pub const MCS_VERSION: &str = "v1alpha1";

/// Which clusters a kind is read from (split-horizon §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Every,
    ConfigOnly,
    /// Every cluster, with `PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API`.
    GatewayApi,
    /// The config cluster; remote ones with
    /// `PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY`.
    WorkloadEntries,
    /// Every cluster, with `ENABLE_MCS_SERVICE_DISCOVERY`.
    Exports,
    /// Every cluster, with `ENABLE_MCS_HOST`.
    Imports,
}

/// A kind of object that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// What it is read into.
    pub object: ObjectKind,
    /// API group; empty for the core group.
    pub group: Arc<str>,
    /// API versions, the preferred one first. All of them are read alike.
    pub versions: Vec<Arc<str>>,
    /// Plural, as in API paths.
    pub plural: &'static str,
    /// Kind, as in manifests.
    pub name: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it is a custom resource, which an API server may lack.
    pub crd: bool,
    source: Source,
}

struct Row {
    object: ObjectKind,
    group: &'static str,
    versions: &'static [&'static str],
    plural: &'static str,
    name: &'static str,
    namespaced: bool,
    source: Source,
}

const CORE: &[&str] = &["v1"];
const ISTIO: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const NETWORKING: &str = "networking.istio.io";

const fn row(
    object: ObjectKind,
    (group, versions): (&'static str, &'static [&'static str]),
    (plural, name): (&'static str, &'static str),
    namespaced: bool,
    source: Source,
) -> Row {
    Row {
        object,
        group,
        versions,
        plural,
        name,
        namespaced,
        source,
    }
}

use ObjectKind as K;
use Source::{ConfigOnly, Every, Exports, GatewayApi, Imports, WorkloadEntries};

/// One row per [`ObjectKind`], in its order.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row(K::Namespace, ("", CORE), ("namespaces", "Namespace"), false, Every),
    row(K::Node, ("", CORE), ("nodes", "Node"), false, Every),
    row(K::Service, ("", CORE), ("services", "Service"), true, Every),
    row(K::EndpointSlice, ("discovery.k8s.io", CORE), ("endpointslices", "EndpointSlice"), true, Every),
    row(K::Pod, ("", CORE), ("pods", "Pod"), true, Every),
    row(K::KubeGateway, ("gateway.networking.k8s.io", &["v1", "v1beta1"]), ("gateways", "Gateway"), true, GatewayApi),
    row(K::WorkloadEntry, (NETWORKING, ISTIO), ("workloadentries", "WorkloadEntry"), true, WorkloadEntries),
    row(K::ServiceExport, (MCS_GROUP, &[MCS_VERSION]), ("serviceexports", "ServiceExport"), true, Exports),
    row(K::ServiceImport, (MCS_GROUP, &[MCS_VERSION]), ("serviceimports", "ServiceImport"), true, Imports),
    row(K::ServiceEntry, (NETWORKING, ISTIO), ("serviceentries", "ServiceEntry"), true, ConfigOnly),
    row(K::DestinationRule, (NETWORKING, ISTIO), ("destinationrules", "DestinationRule"), true, ConfigOnly),
    row(K::PeerAuthentication, ("security.istio.io", &["v1", "v1beta1"]), ("peerauthentications", "PeerAuthentication"), true, ConfigOnly),
    row(K::Sidecar, (NETWORKING, ISTIO), ("sidecars", "Sidecar"), true, ConfigOnly),
    row(K::Gateway, (NETWORKING, ISTIO), ("gateways", "Gateway"), true, ConfigOnly),
    row(K::VirtualService, (NETWORKING, ISTIO), ("virtualservices", "VirtualService"), true, ConfigOnly),
];

impl Kind {
    /// All kinds, in the order of [`ObjectKind::ALL`]. `mcs` is the API group
    /// and version of the Multi-Cluster Services kinds (`MCS_API_GROUP`,
    /// `MCS_API_VERSION`).
    pub fn all(mcs: (&str, &str)) -> Vec<Self> {
        TABLE.iter().map(|row| Self::new(row, mcs)).collect()
    }

    /// The kind of a manifest with this `apiVersion` and `kind`, if it is one
    /// of `kinds`.
    pub fn find<'k>(kinds: &'k [Self], api_version: &str, kind: &str) -> Option<&'k Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        kinds.iter().find(|k| {
            k.name == kind && *k.group == *group && k.versions.iter().any(|v| **v == *version)
        })
    }

    /// Whether it is read from a cluster: from the config cluster all kinds
    /// are, from others those that describe what runs there.
    pub fn is_read(&self, from_config_cluster: bool, features: &Features) -> bool {
        match self.source {
            Source::Every => true,
            Source::ConfigOnly => from_config_cluster,
            Source::GatewayApi => features.discover_gateway_api,
            // istiod reads remote ones for Services, entries get them too.
            Source::WorkloadEntries => {
                from_config_cluster
                    || (features.cross_cluster_workload_entry
                        && features.services_select_workload_entries)
            }
            Source::Exports => features.mcs_discovery,
            Source::Imports => features.mcs_host,
        }
    }

    fn new(row: &Row, mcs: (&str, &str)) -> Self {
        let is_mcs = matches!(row.object, K::ServiceExport | K::ServiceImport);
        let (group, versions) = if is_mcs {
            (mcs.0, vec![Arc::from(mcs.1)])
        } else {
            (
                row.group,
                row.versions.iter().map(|v| Arc::from(*v)).collect(),
            )
        };
        Self {
            object: row.object,
            group: Arc::from(group),
            versions,
            plural: row.plural,
            name: row.name,
            namespaced: row.namespaced,
            crd: !matches!(row.group, "" | "discovery.k8s.io"),
            source: row.source,
        }
    }
}

/// Name and scope of a kind, wherever it is served.
pub(super) fn name_and_scope(kind: ObjectKind) -> (&'static str, bool) {
    let row = TABLE.iter().find(|row| row.object == kind);
    row.map_or(("", true), |row| (row.name, row.namespaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_kind_has_its_row_in_order() {
        let objects: Vec<_> = TABLE.iter().map(|row| row.object).collect();
        assert_eq!(objects, ObjectKind::ALL);
    }

    #[test]
    fn gateways_of_istio_and_of_gateway_api_are_told_apart() {
        let kinds = Kind::all((MCS_GROUP, MCS_VERSION));
        let of = |api, kind| Kind::find(&kinds, api, kind).map(|k| k.object);
        assert_eq!(
            of("networking.istio.io/v1beta1", "Gateway"),
            Some(K::Gateway)
        );
        assert_eq!(
            of("gateway.networking.k8s.io/v1", "Gateway"),
            Some(K::KubeGateway)
        );
        assert_eq!(of("v1", "Service"), Some(K::Service));
        assert_eq!(of("serving.knative.dev/v1", "Service"), None);
        assert_eq!(of("v2", "Service"), None);
    }

    #[test]
    fn the_api_of_multi_cluster_services_may_be_another() {
        let kinds = Kind::all(("net.gke.io", "v1"));
        let export = Kind::find(&kinds, "net.gke.io/v1", "ServiceExport").expect("found");
        assert_eq!(export.plural, "serviceexports");
        assert!(Kind::find(&kinds, "multicluster.x-k8s.io/v1alpha1", "ServiceExport").is_none());
    }

    #[test]
    fn istio_config_is_read_from_the_config_cluster_only() {
        let features = Features::default();
        let kinds = Kind::all((MCS_GROUP, MCS_VERSION));
        let remote: Vec<_> = kinds
            .iter()
            .filter(|k| k.is_read(false, &features))
            .map(|k| k.object)
            .collect();
        let expected = [
            K::Namespace,
            K::Node,
            K::Service,
            K::EndpointSlice,
            K::Pod,
            K::KubeGateway,
            K::WorkloadEntry,
        ];
        assert_eq!(remote, expected);
        let entries = |features: &Features| {
            let mut all = kinds.iter();
            all.any(|k| k.object == K::WorkloadEntry && k.is_read(false, features))
        };
        assert!(!entries(&Features {
            services_select_workload_entries: false,
            ..Features::default()
        }));
    }
}
