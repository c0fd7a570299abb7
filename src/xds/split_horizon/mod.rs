//! The horizon: which endpoints a class of proxies gets for one Envoy cluster,
//! those of other networks as the gateways that lead to them.
//!
//! [`assign`] is the whole of it, before any encoding. It follows istiod
//! (`endpoint_builder.go`, `ep_filters.go`) step by step; where it differs, the
//! code says so and `COMPATIBILITY.md` names the test.

mod filter;
mod gateways;
mod route;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, collections::HashMap, net::IpAddr};

use foldhash::fast::FixedState;

use crate::mesh::{EdsKey, ServiceState};
use crate::model::{Address, Direction, Endpoint, Health, Locality, NetworkGateway};
use crate::xds::endpoint_policy::EndpointPolicy;
use crate::xds::locality_lb;
use crate::xds::mtls;
use filter::Filter;
use route::{Route, Routes};

/// The endpoints of one locality and priority.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalityGroup<'a> {
    /// Where they run; for a gateway, where the workloads behind it run.
    pub locality: &'a Locality,
    /// Priority, 0 first.
    pub priority: u32,
    /// Weight among the groups of its priority; none for a group that the
    /// filters left empty, which istiod sends too.
    pub weight: Option<u32>,
    /// Workloads by address, then gateways by address.
    pub members: Vec<Member<'a>>,
}

/// One address of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'a> {
    /// What is dialled.
    pub host: Host<'a>,
    /// Weight, at least 1.
    pub weight: u32,
    /// State to send; `Unknown` is not written.
    pub health: Health,
    /// `tlsMode` to match a transport socket by.
    pub tls_mode: Option<&'a str>,
}

/// What an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Host<'a> {
    /// A workload that is reached directly.
    Workload(&'a Endpoint),
    /// A gateway, standing for workloads of another network.
    Gateway(&'a NetworkGateway),
}

impl Member<'_> {
    /// The weight that takes traffic in normal operation.
    pub fn ready_weight(&self) -> u32 {
        if self.health.is_ready() {
            self.weight
        } else {
            0
        }
    }
}

impl LocalityGroup<'_> {
    /// Sets the weight to the sum of its members'.
    pub(crate) fn sum_weights(&mut self) {
        let weights = self.members.iter().map(|m| m.weight);
        let sum = weights.fold(0, u32::saturating_add);
        self.weight = (!self.members.is_empty()).then_some(sum);
    }
}

/// The groups of one Envoy cluster for one view, in order of locality.
///
/// For DNS-type services they hold host names, those of gateways included: CDS
/// sends them. Everything else has IP addresses only.
pub fn assign<'a>(state: &'a ServiceState, key: &EdsKey) -> Vec<LocalityGroup<'a>> {
    let rule = state.rule(&key.view).map(AsRef::as_ref);
    let policy = EndpointPolicy::new(state, rule, &key.cluster);
    let Some(filter) = Filter::new(state, key, &policy) else {
        return Vec::new();
    };
    let mut routes = Routes::new(state, key, filter::is_dns(&state.service));
    let mut drafts = collect(state, &filter, &policy, &mut routes);
    fit_weights(&mut drafts);
    let mut groups: Vec<_> = drafts
        .into_iter()
        .map(|draft| draft.finish(&routes, &policy))
        .collect();
    if key.cluster.direction == Direction::SniDnat {
        // What an AUTO_PASSTHROUGH gateway forwards is mesh mTLS.
        for group in &mut groups {
            group.members.retain(|m| mtls::is_mesh_mtls(m.tls_mode));
            group.sum_weights();
        }
    }
    locality_lb::apply(&mut groups, &policy.balance, &key.view);
    gateways::send_once(groups)
}

/// A group before its gateways share their weight.
struct Draft<'a> {
    locality: &'a Locality,
    /// With their place in the order.
    workloads: Vec<(u64, Member<'a>)>,
    /// Route number → ready weight that goes there.
    crossing: Vec<(usize, u64)>,
}

/// Filters, converts and groups the endpoints.
fn collect<'a>(
    state: &'a ServiceState,
    filter: &Filter<'_>,
    policy: &EndpointPolicy,
    routes: &mut Routes<'a, '_>,
) -> Vec<Draft<'a>> {
    let scale = routes.scale();
    let mut drafts: Vec<Draft<'a>> = Vec::new();
    let mut by_locality: HashMap<&Locality, usize, FixedState> = HashMap::default();
    let mut last = usize::MAX;
    let shards = state.endpoints.iter();
    let kept = shards.filter(|(shard, _)| filter.keeps_shard(shard));
    for endpoint in kept.flat_map(|(_, endpoints)| endpoints.iter()) {
        let Some(health) = filter.health(endpoint) else {
            continue;
        };
        let locality = &endpoint.workload.locality;
        // Neighbours mostly share their locality.
        if drafts.get(last).is_none_or(|d| d.locality != locality) {
            last = *by_locality.entry(locality).or_insert_with(|| {
                drafts.push(Draft::new(locality));
                drafts.len() - 1
            });
        }
        let member = Member {
            host: Host::Workload(endpoint),
            weight: endpoint.weight.max(1).saturating_mul(scale),
            health,
            tls_mode: mtls::tls_mode(policy.tls, endpoint),
        };
        if let Some(draft) = drafts.get_mut(last) {
            draft.add(endpoint, member, routes);
        }
    }
    drafts.sort_unstable_by_key(|draft| draft.locality);
    drafts
}

/// Divides all weights by one number where their sum is more than Envoy takes:
/// it would refuse the answer (istiod's sums wrap to small numbers).
fn fit_weights(drafts: &mut [Draft<'_>]) {
    const MOST: u64 = u32::MAX as u64;
    let total: u64 = drafts.iter().map(Draft::weight).sum();
    if total <= MOST {
        return;
    }
    // Half of the room is for what is rounded up to 1.
    let divisor = total.div_ceil(MOST / 2);
    for draft in drafts {
        for (_, member) in &mut draft.workloads {
            let weight = u64::from(member.weight) / divisor;
            member.weight = u32::try_from(weight).unwrap_or(u32::MAX).max(1);
        }
        for (_, ready) in &mut draft.crossing {
            *ready = ready.div_ceil(divisor);
        }
    }
}

impl<'a> Draft<'a> {
    fn new(locality: &'a Locality) -> Self {
        Self {
            locality,
            workloads: Vec::new(),
            crossing: Vec::new(),
        }
    }

    fn weight(&self) -> u64 {
        let own = self.workloads.iter().map(|(_, m)| u64::from(m.weight));
        own.chain(self.crossing.iter().map(|(_, ready)| *ready))
            .sum()
    }

    fn add(&mut self, endpoint: &'a Endpoint, member: Member<'a>, routes: &mut Routes<'a, '_>) {
        let number = routes.find(endpoint);
        match routes.get(number) {
            // An address that is not known can only be behind a gateway.
            Route::Direct if endpoint.address == Address::Unknown => {}
            Route::Direct => self.workloads.push((place(endpoint), member)),
            Route::Unreachable => {}
            // Gateways route by the SNI of mesh mTLS.
            Route::Gateways(_) if !mtls::is_mesh_mtls(member.tls_mode) => {}
            Route::Gateways(_) => {
                // What is not ready is behind its gateway, but weighs nothing.
                let ready = u64::from(member.ready_weight());
                match self.crossing.iter_mut().find(|(n, _)| *n == number) {
                    Some((_, sum)) => *sum += ready,
                    None => self.crossing.push((number, ready)),
                }
            }
        }
    }

    fn finish(self, routes: &Routes<'a, '_>, policy: &EndpointPolicy) -> LocalityGroup<'a> {
        let mut workloads = self.workloads;
        workloads.sort_unstable_by(|(at, a), (bt, b)| at.cmp(bt).then_with(|| compare(a, b)));
        let mut members: Vec<_> = workloads.into_iter().map(|(_, member)| member).collect();
        let crossing = self.crossing.iter();
        members.extend(gateways::share(
            crossing.filter_map(|(number, ready)| match routes.get(*number) {
                Route::Gateways(gateways) => Some((gateways.as_slice(), *ready)),
                _ => None,
            }),
            policy.send_unready,
        ));
        let mut group = LocalityGroup {
            locality: self.locality,
            priority: 0,
            weight: None,
            members,
        };
        group.sum_weights();
        group
    }
}

/// Address and port of most endpoints as one number in their order: sorting
/// need not look behind a pointer.
fn place(endpoint: &Endpoint) -> u64 {
    match endpoint.address.ips().first() {
        Some(IpAddr::V4(ip)) => u64::from(ip.to_bits()) << 16 | u64::from(endpoint.port),
        _ => u64::MAX,
    }
}

/// An order that does not depend on how the registries listed them: by all
/// that is sent.
fn compare(a: &Member<'_>, b: &Member<'_>) -> Ordering {
    let (Host::Workload(x), Host::Workload(y)) = (a.host, b.host) else {
        return Ordering::Equal;
    };
    let rest = |m: &Member<'_>| (m.weight, m.health as u8);
    compare_address(&x.address, &y.address)
        .then_with(|| x.port.cmp(&y.port))
        .then_with(|| {
            x.workload
                .template
                .metadata
                .cmp(&y.workload.template.metadata)
        })
        .then_with(|| a.tls_mode.cmp(&b.tls_mode))
        .then_with(|| rest(a).cmp(&rest(b)))
}

fn compare_address(a: &Address, b: &Address) -> Ordering {
    let rank = |address: &Address| match address {
        Address::Ip(_) | Address::Ips(_) => 0,
        Address::Hostname(_) => 1,
        Address::Unix(_) => 2,
        Address::Unknown => 3,
    };
    match (a, b) {
        (Address::Ip(_) | Address::Ips(_), Address::Ip(_) | Address::Ips(_)) => {
            a.ips().cmp(b.ips())
        }
        (Address::Hostname(a), Address::Hostname(b)) | (Address::Unix(a), Address::Unix(b)) => {
            a.cmp(b)
        }
        _ => rank(a).cmp(&rank(b)),
    }
}
