//! How a view reaches the endpoints of one network and cluster
//! (split-horizon §1.3).

use crate::mesh::{EdsKey, ServiceState};
use crate::model::{
    ClusterId, Endpoint, GatewayAddress, IpFamily, NetworkGateway, NetworkId, NetworkTable,
    NetworkView,
};

/// The way to endpoints of one network and cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// By their own addresses.
    Direct,
    /// Through these gateways, never none.
    Gateways(Vec<&'a NetworkGateway>),
    /// There is a gateway, but none that this view can dial now.
    Unreachable,
}

/// The routes of one view, found once per network and cluster.
pub(super) struct Routes<'a, 'k> {
    table: &'a NetworkTable,
    view: &'k NetworkView,
    declared: bool,
    found: Vec<Found<'a>>,
    last: usize,
}

struct Found<'a> {
    network: &'a NetworkId,
    cluster: &'a ClusterId,
    route: Route<'a>,
}

/// Index of the route that needs no gateway table: endpoints without a network.
pub(super) const DIRECT: usize = usize::MAX;

impl<'a, 'k> Routes<'a, 'k> {
    /// With `declared`, host names of gateways stay unresolved (DNS clusters).
    pub(super) fn new(state: &'a ServiceState, key: &'k EdsKey, declared: bool) -> Self {
        Self {
            table: &state.networks,
            view: &key.view,
            declared,
            found: Vec::new(),
            last: 0,
        }
    }

    /// What endpoint weights are multiplied by.
    pub(super) fn scale(&self) -> u32 {
        match (self.table.is_multi_network(), self.declared) {
            (false, _) => 1,
            (true, false) => self.table.scale(),
            (true, true) => self.table.declared_scale(),
        }
    }

    /// Number of the route to `endpoint`.
    pub(super) fn find(&mut self, endpoint: &'a Endpoint) -> usize {
        let workload = &endpoint.workload;
        let Some(network) = &workload.template.network else {
            return DIRECT;
        };
        let cluster = &workload.template.cluster;
        let is_it = |f: &Found<'_>| f.network == network && f.cluster == cluster;
        // Endpoints of one shard mostly share both.
        if self.found.get(self.last).is_some_and(is_it) {
            return self.last;
        }
        let known = self.found.iter().position(is_it);
        self.last = known.unwrap_or_else(|| {
            let route = self.make(network, cluster);
            self.found.push(Found {
                network,
                cluster,
                route,
            });
            self.found.len() - 1
        });
        self.last
    }

    /// The route with this number.
    pub(super) fn get(&self, number: usize) -> &Route<'a> {
        self.found
            .get(number)
            .map_or(&Route::Direct, |found| &found.route)
    }

    fn make(&self, network: &NetworkId, cluster: &ClusterId) -> Route<'a> {
        // A proxy that does not say where it is goes through the gateways.
        if self.view.network.as_ref() == Some(network) || !self.table.is_multi_network() {
            return Route::Direct;
        }
        let resolved = self.table.gateways(network, cluster);
        let declared = self.table.declared_gateways(network, cluster);
        let takes_mtls = |gateway: &&NetworkGateway| gateway.port != 0;
        let known = declared.iter().chain(&resolved).any(takes_mtls);
        let candidates = if self.declared { declared } else { resolved };
        // istiod keeps port 0 (HBONE only) for routers, where nobody listens.
        let reachable: Vec<_> = candidates
            .into_iter()
            .filter(takes_mtls)
            .filter(|gateway| can_dial(self.view.family, &gateway.address))
            .collect();
        match (reachable.is_empty(), known) {
            (false, _) => Route::Gateways(reachable),
            // istiod sends the raw pod addresses of a network whose gateway
            // does not resolve; nobody can reach them.
            (true, true) => Route::Unreachable,
            (true, false) => Route::Direct,
        }
    }
}

/// What a host name resolves to is up to Envoy.
fn can_dial(family: IpFamily, address: &GatewayAddress) -> bool {
    let GatewayAddress::Ip(ip) = address else {
        return true;
    };
    match family {
        IpFamily::Any => true,
        IpFamily::V4 => ip.to_canonical().is_ipv4(),
        IpFamily::V6 => ip.to_canonical().is_ipv6(),
    }
}
