//! What stands in the lock: istiod's own record, field for field.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Where the record stands in the lock's `ConfigMap`.
pub(super) const ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// istiod: `remoteIstiodPrefix`.
const REMOTE: char = '^';

/// The annotation's JSON. Times are for people only: they are another
/// machine's clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    /// Who holds it; empty where nobody does.
    pub holder_identity: String,
    /// Revision of the holder.
    pub holder_key: String,
    /// For how long after its last renewal.
    pub lease_duration_seconds: u64,
    /// Since when.
    pub acquire_time: Option<String>,
    /// Last renewal.
    pub renew_time: Option<String>,
    /// How often it changed hands.
    pub leader_transitions: u64,
}

/// The revision of a control plane, and whether the cluster is remote to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub revision: String,
    pub remote: bool,
}

impl Key {
    /// Reads `holderKey`.
    pub(super) fn parse(text: &str) -> Self {
        let local = text.strip_prefix(REMOTE);
        Self {
            revision: local.unwrap_or(text).to_owned(),
            remote: local.is_some(),
        }
    }

    /// `holderKey`.
    pub(super) fn text(&self) -> String {
        if self.remote {
            return format!("{REMOTE}{}", self.revision);
        }
        self.revision.clone()
    }

    /// Whether this control plane takes the lock from a live holder: the
    /// default revision from any other, a local one from a remote one of its
    /// own revision (istiod: `LocationPrioritizedComparison`).
    pub(super) fn outranks(&self, holder: &Self, default_revision: Option<&str>) -> bool {
        if self.revision == holder.revision {
            return holder.remote && !self.remote;
        }
        default_revision.is_some_and(|default| default == self.revision)
    }
}

/// As Kubernetes writes times: UTC, whole seconds.
pub(super) fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
