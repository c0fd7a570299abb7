//! Headless services have no address of their own: bytes go to that of a pod, so
//! each pod has a listener. HTTP is told apart by its host, behind one for all.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;

use super::entries::{Kind, Wish};
use crate::mesh::MemoKey;
use crate::model::{Labels, Provider, Resolution, Service};
use crate::xds::client::Client;
use crate::xds::egress;

/// The pods to listen for; none where the service has one listener.
pub(super) fn pods(client: &Client, wish: &Wish<'_>) -> Option<Vec<IpAddr>> {
    let service = wish.service;
    let is_headless = service.resolution == Resolution::Passthrough && wish.addresses.is_empty();
    if wish.bind.is_some() || Kind::of(wish.protocol) == Kind::Http || !is_headless {
        return None;
    }
    let name = &service.port(wish.port)?.name;
    let all = addresses(client, service, Some(name));
    // istiod: an entry that names nobody is called at any address.
    let mut selectors = service.registrations.values().map(|r| &r.selector);
    let is_open = service.provider == Provider::External && selectors.all(Labels::is_empty);
    (!all.is_empty() || !is_open).then_some(all)
}

/// Addresses of the pods behind headless services, by scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pods(Arc<str>);

impl MemoKey for Pods {
    type Value = HashSet<IpAddr, FixedState>;
}

/// The client's address, where a headless service that it sees leads to it.
pub(super) fn own_pod(client: &Client) -> Option<IpAddr> {
    let key = Pods(Arc::clone(client.scope.key()));
    let all = client.snapshot.memo().get_or_make(key, |_| {
        let listeners = egress::listeners(client);
        let services = listeners.iter().flat_map(|egress| &egress.services);
        let headless = services.filter(|s| s.resolution == Resolution::Passthrough);
        headless
            .flat_map(|service| addresses(client, service, None))
            .collect()
    });
    let own = client.proxy.ips.0.first().copied();
    own.filter(|ip| all.contains(ip))
}

/// The first address of each endpoint, in order.
fn addresses(client: &Client, service: &Service, port: Option<&str>) -> Vec<IpAddr> {
    let states = client.snapshot.host(&service.key.hostname);
    let state = states.iter().find(|state| state.service.key == service.key);
    let endpoints = state.into_iter().flat_map(|state| state.all_endpoints());
    let wanted = endpoints.filter(|(_, e)| port.is_none_or(|name| *e.port_name == *name));
    wanted
        .filter_map(|(_, e)| e.address.ips().first().copied())
        .collect()
}
