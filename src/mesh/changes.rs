//! What one publish changed.

use std::collections::BTreeSet;

use super::PodKey;
use crate::model::Hostname;

/// What one publish changed, as streams need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    /// Services, rules, scopes, gateways or mesh settings: CDS, LDS and RDS may
    /// differ.
    pub config: bool,
    /// Endpoints that have names of their own: name tables may differ, beside
    /// what `config` says.
    pub names: bool,
    /// Every endpoint answer may differ.
    pub all_endpoints: bool,
    /// Hosts whose endpoint answers may differ.
    pub hosts: BTreeSet<Hostname>,
    /// Workloads whose own labels or locality differ: their proxies must look
    /// at everything again.
    pub workloads: BTreeSet<PodKey>,
}

impl ChangeSet {
    /// Whether nothing changed: no publish is due.
    pub fn is_empty(&self) -> bool {
        !self.config
            && !self.names
            && !self.all_endpoints
            && self.hosts.is_empty()
            && self.workloads.is_empty()
    }
}
