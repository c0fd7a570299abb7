//! The single-writer index: events in, immutable snapshots and change sets out.
//!
//! [`Index`] is the only mutable state of the program. It joins what the
//! registries of all clusters report and publishes [`Snapshot`]s, which every
//! reader shares.

mod changes;
mod event;
mod reader;
mod service_state;
mod snapshot;

pub use changes::{ChangeLog, ChangeSet, Changes};
pub use event::{Change, Event, Object, ObjectKey, ObjectKind};
pub use reader::{SnapshotReader, Writer};
pub use service_state::{EdsKey, ServiceState};
pub use snapshot::{ConfigMemo, Generation, HostServices, MeshState, PodKey, Snapshot, Update};
