//! Every object that registries report, as one type.

use std::{fmt, sync::Arc};

use super::{
    DestinationRule, EndpointSlice, Gateway, KubeGateway, KubeNamespace, KubeNode, KubeService,
    Namespace, ObjectMeta, PeerAuthentication, Pod, ServiceEntry, ServiceExport, ServiceImport,
    Sidecar, VirtualService, WorkloadEntry,
};

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

        $(impl From<$type> for Object {
            fn from(object: $type) -> Self {
                Self::$kind(object)
            }
        })*

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
    /// A `VirtualService`.
    VirtualService(VirtualService),
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
