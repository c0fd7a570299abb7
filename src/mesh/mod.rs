//! The single-writer index: events in, immutable snapshots and change sets out.
//!
//! [`Index`] is the only mutable state of the program. It joins what the
//! registries of all clusters report and publishes [`Snapshot`]s, which every
//! reader shares.

mod changes;
mod event;
mod gateways;
mod index;
mod intern;
mod kube_endpoints;
mod kube_services;
mod kube_state;
mod networks;
mod news;
pub mod peer_authentication;
mod peers;
mod publish;
pub mod rules;
pub mod scope;
pub mod service_entry;
mod service_state;
mod shard;
mod snapshot;
mod tables;
mod trie;
mod virtual_services;
mod watchers;
mod workloads;

pub use changes::ChangeSet;
pub use event::{Change, Event};
pub use index::{Ignored, Index, Pending};
pub use news::News;
pub use peer_authentication::PeerAuthentications;
pub use peers::Peers;
pub use publish::{Read, SnapshotReader, Writer};
pub use rules::{RuleClient, Rules};
pub use scope::{EgressScope, Scope};
pub use service_state::{ClusterKey, EdsKey, ServiceState};
pub use shard::Shard;
pub use snapshot::{
    ConfigMemo, Generation, HostServices, MemoKey, MeshState, PodKey, Snapshot, Update,
};
pub use virtual_services::VirtualServices;
pub use watchers::{Lens, Watcher};
