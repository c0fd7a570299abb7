//! The form in which answers compare.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

/// What a proxy was told about where its outbound traffic goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// The discovery type of each cluster.
    pub clusters: BTreeMap<String, String>,
    /// The endpoints of each EDS cluster, sorted.
    pub endpoints: BTreeMap<String, Vec<Group>>,
}

/// The endpoints of one locality at one priority. Order and equality are those
/// of the fields, so the field order is the sort order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// 0 is tried first.
    pub priority: u32,
    /// `region/zone/sub_zone`.
    pub locality: String,
    /// Weight among the localities of the same priority.
    pub weight: Option<u32>,
    /// Sorted.
    pub targets: Vec<Target>,
}

/// One address that traffic may go to: an endpoint or a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `address:port`.
    pub address: String,
    /// Share of the group's traffic.
    pub weight: Option<u32>,
    /// Name of the health status; `UNKNOWN` is healthy.
    pub health: String,
    /// `envoy.transport_socket_match` metadata: which transport socket is taken.
    pub tls_mode: Option<String>,
    /// `istio` metadata: `name;namespace;canonical name;revision;cluster`.
    pub workload: Option<String>,
}

impl Answers {
    /// Only what outbound traffic is sent by: clusters of a sidecar
    /// (`outbound|…`) and of an SNI gateway (`outbound_.…`).
    #[must_use]
    pub fn outbound(mut self) -> Self {
        let is_outbound = |name: &str| name.starts_with("outbound");
        self.clusters.retain(|name, _| is_outbound(name));
        self.endpoints.retain(|name, _| is_outbound(name));
        self
    }

    /// Takes istiod's answer to what isthmus answers on purpose: an address that
    /// stands in several groups of one answer stands once, in the best of them
    /// and with all the weight (COMPATIBILITY.md: Envoy keeps only the first
    /// copy of an address, so the rest of the weight is lost with istiod).
    #[must_use]
    pub fn with_each_address_once(mut self) -> Self {
        for groups in self.endpoints.values_mut() {
            *groups = each_address_once(std::mem::take(groups));
        }
        self
    }

    /// Sorts what has no order in Envoy.
    #[must_use]
    pub(super) fn sorted(mut self) -> Self {
        for groups in self.endpoints.values_mut() {
            for group in groups.iter_mut() {
                group.targets.sort();
            }
            groups.sort();
        }
        self
    }

    /// What only one of the two has, a line each: `-` is expected and missing,
    /// `+` is there and not expected. Empty if they are equal.
    pub fn differences(expected: &Self, actual: &Self) -> Vec<String> {
        let mut counts = BTreeMap::<String, i32>::new();
        for line in expected.lines() {
            *counts.entry(line).or_default() -= 1;
        }
        for line in actual.lines() {
            *counts.entry(line).or_default() += 1;
        }
        let differing = counts.into_iter().filter(|(_, count)| *count != 0);
        differing
            .map(|(line, count)| format!("{} {line}", if count < 0 { '-' } else { '+' }))
            .collect()
    }

    fn lines(&self) -> Vec<String> {
        let clusters = self.clusters.iter();
        let mut lines: Vec<_> = clusters
            .map(|(name, kind)| format!("cds {name} {kind}"))
            .collect();
        for (name, groups) in &self.endpoints {
            lines.push(format!("eds {name}"));
            for group in groups {
                lines.push(format!("eds {name} {group}"));
                let targets = group.targets.iter();
                lines.extend(targets.map(|target| format!("eds {name} {group}: {target}")));
            }
        }
        lines
    }
}

fn each_address_once(mut groups: Vec<Group>) -> Vec<Group> {
    // Best first: priority, then the weight behind it, then the name.
    groups.sort_by_key(|g| (g.priority, Reverse(g.weight), g.locality.clone()));
    let mut kept: Vec<Group> = Vec::new();
    for mut group in groups {
        let had = group.targets.len();
        group.targets.retain(|target| !merge(&mut kept, target));
        let left = group.targets.len();
        if left < had {
            group.weight = Some(group.targets.iter().filter_map(|t| t.weight).sum());
        }
        if left > 0 || left == had {
            kept.push(group);
        }
    }
    kept.sort();
    kept
}

/// Adds the weight of `target` to the group that has its address already.
fn merge(kept: &mut [Group], target: &Target) -> bool {
    for group in kept {
        let same = group
            .targets
            .iter_mut()
            .find(|t| t.address == target.address);
        if let Some(same) = same {
            add(&mut same.weight, target.weight);
            add(&mut group.weight, target.weight);
            return true;
        }
    }
    false
}

fn add(to: &mut Option<u32>, weight: Option<u32>) {
    *to = Some(to.unwrap_or(0).saturating_add(weight.unwrap_or(0)));
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "priority {} {}", self.priority, self.locality)?;
        self.weight
            .map_or(Ok(()), |weight| write!(f, " weight {weight}"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            weight,
            health,
            tls_mode,
            workload,
        } = self;
        write!(f, "{address} weight {} {health}", weight.unwrap_or(0))?;
        write!(f, " tlsMode={}", tls_mode.as_deref().unwrap_or("none"))?;
        write!(f, " workload={}", workload.as_deref().unwrap_or("none"))
    }
}
