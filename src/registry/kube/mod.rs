//! Watches the API server of one cluster.
//!
//! One task per (cluster, kind) lists and follows it, reads each object into
//! the model and sends [`crate::mesh::Event`]s in batches: a complete list as
//! one `Reset`, then every change. An API server that stops answering changes
//! nothing: what it said last stays until its credentials are withdrawn.
//!
//! A note on logs: the `kube_client` target may write whole answers. Nothing
//! here asks it to for objects, but keep it at `error` in any filter.

mod api;
mod backoff;
mod clients;
mod cluster;
mod config_map;
mod connect;
mod crds;
mod frames;
mod head;
mod lines;
mod metrics;
mod objects;
mod status;
mod watch;

pub use clients::{ApiClient, ApiClients, ClientTable};
pub use connect::{ConnectError, check_client};
pub use metrics::KubeMetrics;
pub use status::{ClusterReport, ClusterStatus, SyncState, WatchReport, WatchState};

pub(crate) use api::{Failure, Resource};
pub(crate) use cluster::follow;
pub(in crate::registry) use cluster::{ClusterScope, ClusterWatch};
pub(in crate::registry) use config_map::MeshRole;
pub(in crate::registry) use connect::{client_for, in_cluster_client, own_client};
pub(in crate::registry) use metrics::{EventLabel, RoleLabel, SyncLabels};
pub(in crate::registry) use status::ClusterOrigin;
pub(crate) use status::Progress;
pub(crate) use watch::{Closed, Sink};
