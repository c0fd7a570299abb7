//! The single-writer index: events in, immutable snapshots and change sets out.
//!
//! [`Index`] is the only mutable state of the program. It joins what the
//! registries of all clusters report and publishes [`Snapshot`]s, which every
//! reader shares.

mod changes;
mod event;
pub mod peer_authentication;
pub mod rules;
pub mod scope;
pub mod service_entry;
mod service_state;
mod snapshot;

pub use crate::model::{Object, ObjectKey, ObjectKind};
pub use changes::{ChangeLog, ChangeSet, Changes};
pub use event::{Change, Event};
pub use peer_authentication::PeerAuthentications;
pub use rules::{RuleClient, Rules};
pub use scope::{EgressScope, Scope};
pub use service_state::{EdsKey, ServiceState};
pub use snapshot::{ConfigMemo, Generation, HostServices, MeshState, PodKey, Snapshot, Update};
