//! Watches the API server of one cluster.
//!
//! One task per (cluster, kind) lists and follows it, reads each object into
//! the model and sends [`crate::mesh::Event`]s in batches: a complete list as
//! one `Reset`, then every change. An API server that stops answering changes
//! nothing: what it said last stays until its credentials are withdrawn.
//!
//! A note on logs: the `kube_client` and `kube_runtime` targets write whole
//! answers at WARN and DEBUG; keep them at `error` or below in any filter.

mod api;
mod backoff;
mod cluster;
mod config_map;
mod connect;
mod crds;
mod kinds;
mod metrics;
mod objects;
mod status;
mod watch;

pub use config_map::ParseSettings;
pub use connect::ConnectError;
pub use kinds::McsApi;
pub use metrics::KubeMetrics;
pub use status::{ClusterReport, ClusterStatus, SyncState, WatchReport, WatchState};

pub(in crate::registry) use api::Resource;
pub(in crate::registry) use cluster::{ClusterScope, ClusterWatch, follow};
pub(in crate::registry) use config_map::MeshRole;
pub(in crate::registry) use connect::{client_for, in_cluster_client, own_client};
pub(in crate::registry) use kinds::watched;
pub(in crate::registry) use metrics::{EventLabel, RoleLabel, SyncLabels};
pub(in crate::registry) use status::{ClusterOrigin, Progress};
pub(in crate::registry) use watch::{Closed, Sink};

use crate::mesh::{Object, ObjectKind};

/// Reads one object of a kind from its JSON; the error says what is wrong.
pub type ParseObject = fn(ObjectKind, &str) -> Result<Object, String>;
