//! `DestinationRule`s: merged, found by host, and chosen for one client.
//!
//! What depends only on the host is done once per change ([`Rules`]); what
//! depends on the client is a choice among few candidates ([`select`]).

mod merge;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use crate::model::{DestinationRule, ExportTo, Hostname, Labels};

/// Rules of one host pattern, merged.
type Candidates = Arc<[Arc<DestinationRule>]>;

/// All `DestinationRule`s of the mesh, merged per namespace and host.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    exact: HashMap<Arc<str>, Candidates, FixedState>,
    /// Keyed by what stands behind the `*`.
    wildcard: HashMap<Arc<str>, Candidates, FixedState>,
}

impl Rules {
    /// Merges `rules`; those that name no `exportTo` get `default_export`.
    pub fn new(
        rules: impl IntoIterator<Item = Arc<DestinationRule>>,
        default_export: &ExportTo,
    ) -> Self {
        let mut by_pattern: HashMap<Arc<str>, Vec<_>, FixedState> = HashMap::default();
        for rule in rules {
            let of_pattern = by_pattern.entry(Arc::clone(&rule.host)).or_default();
            of_pattern.push(rule);
        }
        let mut all = Self::default();
        for (pattern, rules) in by_pattern {
            all.set(&pattern, rules, default_export);
        }
        all
    }

    /// Replaces the rules whose `host` is `pattern`: the cheap way to follow
    /// one changed object.
    pub fn set(
        &mut self,
        pattern: &str,
        rules: Vec<Arc<DestinationRule>>,
        default_export: &ExportTo,
    ) {
        let merged: Candidates = merge::merge(rules, default_export).into();
        let (index, key) = match pattern.strip_prefix('*') {
            Some(suffix) => (&mut self.wildcard, suffix),
            None => (&mut self.exact, pattern),
        };
        if merged.is_empty() {
            index.remove(key);
        } else {
            index.insert(Arc::from(key), merged);
        }
    }

    /// All rules that some proxy may use for `host`: most specific pattern
    /// first, then by namespace.
    pub fn for_host(&self, host: &Hostname) -> Candidates {
        let (exact, text) = match host.strip_prefix('*') {
            // istiod: a wildcard host is matched without its star, and only by wildcards.
            Some(suffix) => (None, suffix),
            None => (self.exact.get(&**host), &**host),
        };
        let mut found: Vec<&Candidates> = exact.into_iter().collect();
        if !self.wildcard.is_empty() {
            // Longest suffix first: the most specific pattern.
            let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let suffixes = starts.filter_map(|at| text.get(at..));
            found.extend(suffixes.filter_map(|suffix| self.wildcard.get(suffix)));
        }
        match found.as_slice() {
            [only] => Arc::clone(only),
            several => several
                .iter()
                .flat_map(|list| list.iter())
                .cloned()
                .collect(),
        }
    }
}

/// Whether a rule with the host `pattern` counts for `host`.
pub fn applies_to(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix('*'), host.strip_prefix('*')) {
        (None, _) => pattern == host,
        (Some(suffix), None) => host.ends_with(suffix),
        (Some(suffix), Some(rest)) => rest.ends_with(suffix),
    }
}

/// What of a proxy decides which rule it uses.
#[derive(Debug, Clone, Copy)]
pub struct RuleClient<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Namespace of mesh-wide rules.
    pub root_namespace: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
}

/// Which of `candidates` (of [`Rules::for_host`]) the client uses for a
/// service of `service_namespace`: an index into them.
///
/// istiod: `push_context.go` `destinationRule` looks in the client's
/// namespace, then the service's, then the root namespace; the most specific
/// host of a namespace wins. Rules that the client may not use (not exported
/// to it, or for other workloads) are no rules to it, where istiod lets them
/// hide less specific ones.
pub fn select(
    candidates: &[Arc<DestinationRule>],
    client: &RuleClient<'_>,
    service_namespace: &str,
) -> Option<u16> {
    let in_client = |rule: &DestinationRule| {
        // istiod: rules for everybody in the root namespace must not come
        // before the service's own for gateways that live there.
        let private = || exports(rule).is_private_to(client.namespace);
        *rule.meta.namespace == *client.namespace
            && (client.namespace != client.root_namespace || private())
    };
    let in_service = |rule: &DestinationRule| *rule.meta.namespace == *service_namespace;
    let in_root = |rule: &DestinationRule| *rule.meta.namespace == *client.root_namespace;
    let levels: [&dyn Fn(&DestinationRule) -> bool; 3] = [&in_client, &in_service, &in_root];
    let at = levels.iter().find_map(|level| {
        let usable = |rule: &DestinationRule| level(rule) && usable_by(rule, client);
        let first = candidates.iter().find(|rule| usable(rule))?;
        let same_host = candidates.iter().enumerate();
        best(same_host.filter(|(_, rule)| rule.host == first.host && usable(rule)))
    })?;
    u16::try_from(at).ok()
}

/// The first rule for chosen workloads, else the last one for all.
fn best<'a>(usable: impl Iterator<Item = (usize, &'a Arc<DestinationRule>)>) -> Option<usize> {
    let mut last = None;
    for (at, rule) in usable {
        last = Some(at);
        if !rule.workload_selector.is_empty() {
            break;
        }
    }
    last
}

fn usable_by(rule: &DestinationRule, client: &RuleClient<'_>) -> bool {
    exports(rule).includes(client.namespace) && client.labels.contains_all(&rule.workload_selector)
}

/// Candidates carry a resolved `exportTo`.
fn exports(rule: &DestinationRule) -> &ExportTo {
    static EVERYONE: ExportTo = ExportTo::Everyone;
    rule.export_to.as_ref().unwrap_or(&EVERYONE)
}
