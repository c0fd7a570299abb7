//! What changed between two generations.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Generation, PodKey};
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

    /// Adds the changes of `other`.
    pub fn merge(&mut self, other: &ChangeSet) {
        self.config |= other.config;
        self.names |= other.names;
        self.all_endpoints |= other.all_endpoints;
        self.hosts.extend(other.hosts.iter().cloned());
        self.workloads.extend(other.workloads.iter().cloned());
    }
}

/// Answer to "what changed since".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Nothing did.
    Nothing,
    /// This did.
    Since(Arc<ChangeSet>),
    /// Too long ago to tell: look at everything.
    Unknown,
}

/// The change sets of the last generations, newest last.
#[derive(Debug, Clone, Default)]
pub struct ChangeLog {
    sets: VecDeque<(Generation, Arc<ChangeSet>)>,
}

impl ChangeLog {
    /// Generations that a slow stream may fall behind before it looks at
    /// everything.
    const KEPT: usize = 64;

    /// A log with one more generation.
    #[must_use]
    pub fn with(&self, generation: Generation, set: ChangeSet) -> Self {
        let skipped = (self.sets.len() + 1).saturating_sub(Self::KEPT);
        let mut sets: VecDeque<_> = self.sets.iter().skip(skipped).cloned().collect();
        sets.push_back((generation, Arc::new(set)));
        Self { sets }
    }

    /// What changed after `seen`, the newest generation of this log being `now`.
    pub fn since(&self, seen: Generation, now: Generation) -> Changes {
        if seen >= now {
            return Changes::Nothing;
        }
        let newer: Vec<_> = self.sets.iter().filter(|(at, _)| *at > seen).collect();
        if newer.len() as u64 != now.0 - seen.0 {
            return Changes::Unknown;
        }
        match newer.as_slice() {
            [(_, only)] => Changes::Since(Arc::clone(only)),
            several => {
                let mut merged = ChangeSet::default();
                for (_, set) in several {
                    merged.merge(set);
                }
                Changes::Since(Arc::new(merged))
            }
        }
    }
}
