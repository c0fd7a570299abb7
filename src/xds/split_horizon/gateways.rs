//! Gateways as endpoints: their share of the weight, and each address once.
//!
//! istiod sends a gateway once for every locality it stands for. Envoy keeps
//! only the first copy of an address in a cluster, so all other shares are lost
//! there. Here the shares are moved together.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{Host, LocalityGroup, Member};
use crate::model::{GatewayAddress, Health, NetworkGateway};

/// The gateway endpoints of one group: the ready weight of each set of
/// gateways in equal shares.
///
/// The scale makes the division exact while every gateway of a network can be
/// dialled. Where it is not, the first gateways get what is left over, so that
/// no weight is lost (istiod rounds down for each endpoint).
pub(super) fn share<'g, 's>(
    crossing: impl Iterator<Item = (&'s [&'g NetworkGateway], u64)>,
    send_unready: bool,
) -> Vec<Member<'g>>
where
    'g: 's,
{
    let mut shares: BTreeMap<Place<'g>, (&'g NetworkGateway, u64)> = BTreeMap::new();
    for (gateways, ready) in crossing {
        let count = gateways.len().max(1) as u64;
        for (at, gateway) in (0..).zip(gateways) {
            let part = ready / count + u64::from(at < ready % count);
            let entry = shares.entry(place(gateway)).or_insert((gateway, 0));
            entry.1 += part;
        }
    }
    let members = shares
        .into_values()
        .map(|(gateway, ready)| member(gateway, ready));
    members
        .filter(|m| send_unready || m.health.is_ready())
        .collect()
}

/// Order and identity of a gateway within a group. Failover by label looks at
/// its network and cluster, so equal addresses of two networks stay apart here.
type Place<'g> = (&'g GatewayAddress, u16, &'g NetworkGateway);

fn place(gateway: &NetworkGateway) -> Place<'_> {
    (&gateway.address, gateway.port, gateway)
}

fn member(gateway: &NetworkGateway, ready: u64) -> Member<'_> {
    let mut member = Member {
        host: Host::Gateway(gateway),
        weight: 1,
        health: Health::Unknown,
        tls_mode: Some("istio"),
    };
    set_ready(&mut member, ready);
    member
}

/// An address that Envoy would keep only once.
type Address<'g> = (&'g GatewayAddress, u16);

/// Where all shares of one address go.
struct Home {
    group: usize,
    ready: u64,
    copies: usize,
}

/// Moves all shares of a gateway into one group: of those where something is
/// ready behind it, the one with the best priority, then the most ready weight
/// behind it, then the first by name.
///
/// A share takes its part of the group's weight along, so that the balance
/// between localities, a configured distribution included, stays what it was.
/// A group that is left empty goes too, unless a priority would be skipped.
pub(super) fn send_once(mut groups: Vec<LocalityGroup<'_>>) -> Vec<LocalityGroup<'_>> {
    let homes = homes(&groups);
    if homes.values().all(|home| home.copies == 1) {
        return groups;
    }
    let mut gains = vec![0; groups.len()];
    let mut emptied = vec![false; groups.len()];
    let filled = groups.iter_mut().zip(&mut emptied).enumerate();
    for (at, (group, emptied)) in filled.filter(|(_, (g, _))| !g.members.is_empty()) {
        move_out(at, group, &homes, &mut gains);
        *emptied = group.members.is_empty();
    }
    for (group, gain) in groups.iter_mut().zip(gains) {
        group.weight = group.weight.map(|w| clamp(u64::from(w) + gain));
    }
    drop_emptied(&mut groups, &emptied);
    groups
}

fn homes<'g>(groups: &[LocalityGroup<'g>]) -> BTreeMap<Address<'g>, Home> {
    // Address → (group, ready weight behind it there, copies), by group.
    let mut shares: BTreeMap<Address<'g>, Vec<(usize, u64, usize)>> = BTreeMap::new();
    for (at, group) in groups.iter().enumerate() {
        for member in &group.members {
            let Some(address) = address(member) else {
                continue;
            };
            let (ready, of) = (
                u64::from(member.ready_weight()),
                shares.entry(address).or_default(),
            );
            match of.last_mut() {
                Some((group, sum, copies)) if *group == at => {
                    *sum += ready;
                    *copies += 1;
                }
                _ => of.push((at, ready, 1)),
            }
        }
    }
    let priority = |at: usize| groups.get(at).map(|g| g.priority);
    let home = |of: &[(usize, u64, usize)]| {
        // Of equal ones the first: groups stand in order of locality.
        let best = of
            .iter()
            .min_by_key(|(at, ready, _)| (*ready == 0, priority(*at), Reverse(*ready)));
        best.map(|(group, _, _)| Home {
            group: *group,
            ready: of.iter().map(|(_, ready, _)| ready).sum(),
            copies: of.iter().map(|(_, _, copies)| copies).sum(),
        })
    };
    shares
        .into_iter()
        .filter_map(|(address, of)| Some((address, home(&of)?)))
        .collect()
}

/// Takes all copies out of a group that do not belong there and adds their
/// weights to the gains of their homes; gives the one that stays the whole
/// weight.
fn move_out(
    at: usize,
    group: &mut LocalityGroup<'_>,
    homes: &BTreeMap<Address<'_>, Home>,
    gains: &mut [u64],
) {
    let mut total: u64 = group.members.iter().map(|m| u64::from(m.weight)).sum();
    let mut weight = group.weight.map(u64::from);
    let mut kept = None;
    group.members.retain_mut(|member| {
        let Some((address, home)) = address(member).and_then(|a| Some((a, homes.get(&a)?))) else {
            return true;
        };
        // The copy that stays is a ready one, if any: the least weight of an
        // unready one is nobody's.
        let may_stay = home.ready == 0 || member.health.is_ready();
        if may_stay && home.group == at && kept != Some(address) {
            kept = Some(address);
            set_ready(member, home.ready);
            return true;
        }
        let share = u64::from(member.weight);
        let part = weight.map_or(0, |w| w * share / total.max(1));
        total -= share;
        weight = weight.map(|w| w - part);
        if let (true, Some(gain)) = (member.health.is_ready(), gains.get_mut(home.group)) {
            *gain += part;
        }
        false
    });
    group.weight = weight.map(clamp).filter(|_| !group.members.is_empty());
}

fn drop_emptied(groups: &mut Vec<LocalityGroup<'_>>, emptied: &[bool]) {
    let kept = groups.iter().zip(emptied).filter(|(_, emptied)| !**emptied);
    let held: BTreeSet<u32> = kept.map(|(group, _)| group.priority).collect();
    let lowest = held.last().copied().unwrap_or(0);
    let mut skipped: BTreeSet<u32> = (0..lowest).filter(|p| !held.contains(p)).collect();
    let mut emptied = emptied.iter();
    groups.retain(|group| emptied.next() != Some(&true) || skipped.remove(&group.priority));
}

fn address<'g>(member: &Member<'g>) -> Option<Address<'g>> {
    match member.host {
        Host::Gateway(gateway) => Some((&gateway.address, gateway.port)),
        Host::Workload(_) => None,
    }
}

fn set_ready(member: &mut Member<'_>, ready: u64) {
    // Envoy takes no weight under 1; with nothing ready the status keeps
    // traffic away.
    member.weight = clamp(ready.max(1));
    member.health = if ready == 0 {
        Health::Unhealthy
    } else {
        Health::Unknown
    };
}

fn clamp(weight: u64) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}
