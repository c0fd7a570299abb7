//! What registries tell the index.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::model::{
    ClusterId, DestinationRule, EndpointSlice, Gateway, KubeGateway, KubeNamespace, KubeNode,
    KubeService, MeshConfig, MeshNetworks, Namespace, ObjectMeta, PeerAuthentication, Pod,
    ServiceEntry, ServiceExport, ServiceImport, Sidecar, WorkloadEntry,
};

/// One change in one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The cluster that reports it.
    pub cluster: ClusterId,
    /// What changed.
    pub change: Change,
}

/// A change.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "events live in batches, moved once"
)]
pub enum Change {
    /// An object is new or different.
    Upsert(Object),
    /// An object is gone.
    Delete(ObjectKey),
    /// A list is complete: these and no others exist. Compared with what is
    /// held, so a relist of an unchanged cluster changes nothing.
    Reset(ObjectKind, Vec<Object>),
    /// The cluster's Secret is gone: everything it reported goes in one step.
    ClusterRemoved,
    /// Mesh settings of the config cluster.
    MeshConfig(Arc<MeshConfig>),
    /// Networks of the config cluster.
    MeshNetworks(Arc<MeshNetworks>),
    /// The trust domain in the cluster's own mesh settings; none where it has none.
    TrustDomain(Option<Arc<str>>),
    /// A gateway's host name was resolved; empty when it has no address (any more).
    Resolved(Arc<str>, Vec<IpAddr>),
}

macro_rules! objects {
    ($($(#[$doc:meta])* $kind:ident($type:ty)),* $(,)?) => {
        /// An object that the index understands.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "events live in batches, moved once")]
        pub enum Object { $($(#[$doc])* $kind($type)),* }

        /// Kind of an [`Object`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ObjectKind { $($(#[$doc])* $kind),* }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> ObjectKind {
                match self { $(Self::$kind(_) => ObjectKind::$kind),* }
            }
            /// Its name, namespace and age.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => &object.meta),* }
            }
        }

        impl ObjectKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];
        }
    };
}

objects! {
    /// A Namespace.
    Namespace(KubeNamespace),
    /// A Node.
    Node(KubeNode),
    /// A Service.
    Service(KubeService),
    /// An `EndpointSlice`.
    EndpointSlice(EndpointSlice),
    /// A Pod.
    Pod(Pod),
    /// A Gateway API Gateway.
    KubeGateway(KubeGateway),
    /// A `WorkloadEntry`.
    WorkloadEntry(WorkloadEntry),
    /// An MCS `ServiceExport`.
    ServiceExport(ServiceExport),
    /// An MCS `ServiceImport`.
    ServiceImport(ServiceImport),
    /// A `ServiceEntry`.
    ServiceEntry(ServiceEntry),
    /// A `DestinationRule`.
    DestinationRule(DestinationRule),
    /// A `PeerAuthentication`.
    PeerAuthentication(PeerAuthentication),
    /// A `Sidecar`.
    Sidecar(Sidecar),
    /// An Istio `Gateway`.
    Gateway(Gateway),
}

/// Names one object of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Kind.
    pub kind: ObjectKind,
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Namespace,
    /// Name.
    pub name: Arc<str>,
}

impl Object {
    /// Its key.
    pub fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey {
            kind: self.kind(),
            namespace: meta.namespace.clone(),
            name: Arc::clone(&meta.name),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        if namespace.is_empty() {
            return write!(f, "{kind:?} {name}");
        }
        write!(f, "{kind:?} {namespace}/{name}")
    }
}
