//! What registries tell the index.

use std::{net::IpAddr, sync::Arc};

use crate::model::{ClusterId, MeshConfig, MeshNetworks, Object, ObjectKey, ObjectKind};

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
