//! Balancing over localities: weights, or priorities (istio: `loadbalancer.go`,
//! split-horizon §1.6).

mod distribute;
mod priority;
#[cfg(test)]
mod tests;

pub(crate) use priority::{entry, overriding};

use crate::model::{Locality, NetworkView};
use crate::xds::endpoint_policy::{Balance, Distance};
use crate::xds::split_horizon::LocalityGroup;

/// Applies the balance of one Envoy cluster to its groups, as seen from a view.
pub(crate) fn apply(groups: &mut Vec<LocalityGroup<'_>>, balance: &Balance, view: &NetworkView) {
    let nowhere = Locality::default();
    let from = view.locality.as_ref().unwrap_or(&nowhere);
    match balance {
        Balance::Even => {}
        Balance::Distribute(rules) => distribute::apply(groups, rules, from),
        Balance::Priorities { labels, distance } => {
            // istio: a proxy without any label leaves the groups as they are.
            if !labels.is_empty() && !view.labels.is_empty() {
                *groups = priority::split_by_labels(std::mem::take(groups), labels, &view.labels);
                priority::close_gaps(groups);
            }
            match distance {
                Distance::Ignored => {}
                Distance::Locality(failover) => {
                    priority::by_distance(groups, 5, |to| {
                        priority::by_locality(from, to, failover)
                    });
                }
                Distance::Region(failover) => {
                    priority::by_distance(groups, 3, |to| priority::by_region(from, to, failover));
                }
            }
        }
    }
}
