//! The kinds of objects that are replayed.

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Collection {
    Namespaces,
    Nodes,
    Services,
    Pods,
    Slices,
    /// Remote Secrets.
    Secrets,
    /// None.
    ConfigMaps,
    /// None: custom resources are absent.
    Crds,
}

use Collection as C;

/// Group, plural and kind.
const TABLE: [(Collection, &str, &str, &str); 8] = [
    (C::Namespaces, "", "namespaces", "Namespace"),
    (C::Nodes, "", "nodes", "Node"),
    (C::Services, "", "services", "Service"),
    (C::Pods, "", "pods", "Pod"),
    (
        C::Slices,
        "discovery.k8s.io",
        "endpointslices",
        "EndpointSlice",
    ),
    (C::Secrets, "", "secrets", "Secret"),
    (C::ConfigMaps, "", "configmaps", "ConfigMap"),
    (
        C::Crds,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    ),
];

impl Collection {
    /// The collection of a group and plural.
    pub(super) fn find(group: &str, plural: &str) -> Option<Self> {
        let mut rows = TABLE.iter();
        rows.find(|row| (row.1, row.2) == (group, plural))
            .map(|row| row.0)
    }

    /// API version and kind of its objects.
    pub(super) fn kind(self) -> (String, &'static str) {
        let mut rows = TABLE.iter();
        let row = rows.find(|row| row.0 == self);
        let (group, kind) = row.map_or(("", ""), |row| (row.1, row.3));
        let version = match group {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        };
        (version, kind)
    }
}
