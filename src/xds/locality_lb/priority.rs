//! Failover: priorities by label and by distance.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{Failover, Labels, Locality};
use crate::xds::endpoint_policy::{CLUSTER_LABEL, NETWORK_LABEL};
use crate::xds::split_horizon::{Host, LocalityGroup, Member};

/// One entry of `failoverPriority`: a label and the value to compare with.
struct Wanted<'a> {
    label: &'a str,
    value: &'a str,
}

/// Name and overriding value of a `failoverPriority` entry. istio: with more
/// than one `=` there is no value.
pub(crate) fn entry(text: &str) -> (&str, Option<&str>) {
    let mut parts = text.split('=');
    let label = parts.next().unwrap_or_default();
    match (parts.next(), parts.next()) {
        (Some(value), None) => (label, Some(value)),
        _ => (label, None),
    }
}

/// The value that an entry of `labels` gives to `label`, whatever the proxy's
/// own is; the last entry wins.
pub(crate) fn overriding<'a>(labels: &'a [Arc<str>], label: &str) -> Option<&'a str> {
    let entries = labels.iter().rev().map(|text| entry(text));
    entries
        .filter(|(name, _)| *name == label)
        .find_map(|(_, value)| value)
}

/// Splits every group by how well the labels of its members match, the best
/// first.
pub(super) fn split_by_labels<'a>(
    groups: Vec<LocalityGroup<'a>>,
    labels: &[Arc<str>],
    proxy: &Labels,
) -> Vec<LocalityGroup<'a>> {
    let wanted = labels.iter().map(|text| {
        let (label, _) = entry(text);
        let own = || proxy.get(label).unwrap_or_default();
        let value = overriding(labels, label).unwrap_or_else(own);
        Wanted { label, value }
    });
    let wanted: Vec<_> = wanted.collect();
    let mut split = Vec::with_capacity(groups.len());
    for group in groups {
        let mut by_priority: BTreeMap<u32, Vec<Member<'a>>> = BTreeMap::new();
        for member in group.members {
            by_priority
                .entry(mismatch(&wanted, &member))
                .or_default()
                .push(member);
        }
        for (priority, members) in by_priority {
            let mut part = LocalityGroup {
                locality: group.locality,
                priority,
                weight: None,
                members,
            };
            part.sum_weights();
            split.push(part);
        }
    }
    split
}

/// 0 where all labels match, more the earlier the first mismatch stands. A
/// mismatch in a leading network label sends the member behind all others of
/// its own network; the rest is still compared.
fn mismatch(wanted: &[Wanted<'_>], member: &Member<'_>) -> u32 {
    let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let mut behind = 0;
    for (at, Wanted { label, value }) in (0..).zip(wanted) {
        if label_of(member, label) == *value {
            continue;
        }
        if at == 0 && *label == NETWORK_LABEL {
            behind = count;
            continue;
        }
        return behind + count - at;
    }
    behind
}

/// A gateway has only its network and cluster, as in istiod: it says nothing of
/// the workloads behind it.
fn label_of<'a>(member: &Member<'a>, label: &str) -> &'a str {
    match member.host {
        Host::Workload(endpoint) => endpoint.workload.labels.get(label).unwrap_or_default(),
        Host::Gateway(gateway) => match label {
            NETWORK_LABEL => &gateway.network,
            CLUSTER_LABEL => gateway.cluster.as_deref().unwrap_or_default(),
            _ => "",
        },
    }
}

/// Adds the distance as the finer of two orders; it is less than `steps`.
pub(super) fn by_distance(
    groups: &mut [LocalityGroup<'_>],
    steps: u32,
    distance: impl Fn(&Locality) -> u32,
) {
    for group in groups.iter_mut() {
        group.priority = group.priority * steps + distance(group.locality);
    }
    close_gaps(groups);
}

/// 0 for the same subzone, 1 zone, 2 region, 3 others; 4 for regions that are
/// not the one to fail over to, where one is named.
pub(super) fn by_locality(from: &Locality, to: &Locality, failover: &[Failover]) -> u32 {
    if from.region() != to.region() {
        let target = failover_target(from, failover);
        return 3 + u32::from(target.is_some_and(|region| region != to.region()));
    }
    if from.zone() != to.zone() {
        return 2;
    }
    u32::from(from.subzone() != to.subzone())
}

/// 0 for the same region, 1 for the one to fail over to, 2 for others.
pub(super) fn by_region(from: &Locality, to: &Locality, failover: &[Failover]) -> u32 {
    if from.region() == to.region() {
        return 0;
    }
    let is_target = failover_target(from, failover) == Some(to.region());
    2 - u32::from(is_target)
}

/// istio: only the first entry for a region counts.
fn failover_target<'a>(from: &Locality, failover: &'a [Failover]) -> Option<&'a str> {
    let entry = failover.iter().find(|f| *f.from == *from.region());
    entry.map(|f| &*f.to)
}

/// Numbers the priorities from 0 on, as Envoy asks.
pub(super) fn close_gaps(groups: &mut [LocalityGroup<'_>]) {
    let mut used: Vec<u32> = groups.iter().map(|g| g.priority).collect();
    used.sort_unstable();
    used.dedup();
    for group in groups {
        let at = used.partition_point(|p| *p < group.priority);
        group.priority = u32::try_from(at).unwrap_or(u32::MAX);
    }
}
