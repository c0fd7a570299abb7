//! A sidecar that watches endpoints over delta ADS and remembers all it was
//! told.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use envoy_types::pb::envoy::config::{
    core::v3::{address::Address, socket_address::PortSpecifier},
    endpoint::v3::{ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier},
};
use isthmus::{
    client::{AdsClient, ProxySpec, decode},
    model::TypeUrl,
};
use tokio::time::timeout;

/// How long anything may take on two busy cores.
const LIMIT: Duration = Duration::from_mins(1);

/// `address:port` → weight.
pub(crate) type Endpoints = BTreeMap<String, u32>;

pub(crate) struct Watcher {
    client: AdsClient,
    /// Everything it was told, newest last: host and endpoints.
    pub(crate) history: Vec<(String, Endpoints)>,
}

/// A sidecar of a cluster and network.
pub(crate) fn proxy(cluster: &str, network: &str) -> ProxySpec {
    let text = format!(
        "- name: client
  id: sidecar~10.9.9.9~client.shop~shop.svc.cluster.local
  metadata: {{CLUSTER_ID: {cluster}, NAMESPACE: shop, NETWORK: '{network}'}}
"
    );
    let mut proxies = ProxySpec::parse_list(&text).expect("a proxy");
    proxies.remove(0)
}

impl Watcher {
    /// Watches port 80 of `services` (`name`) in namespace `shop`.
    pub(crate) async fn open(ads: &str, proxy: &ProxySpec, services: &[&str]) -> Self {
        let names = services.iter().map(|name| {
            let host = host(name);
            format!("outbound|80||{host}")
        });
        let ty = TypeUrl::ClusterLoadAssignment;
        let client = AdsClient::open(ads, proxy, ty, names.collect()).await;
        let mut watcher = Self {
            client: client.expect("a stream"),
            history: Vec::new(),
        };
        let mut missing: BTreeSet<_> = services.iter().map(|&s| s.to_owned()).collect();
        while !missing.is_empty() {
            for name in watcher.next().await {
                missing.remove(&name);
            }
        }
        watcher
    }

    /// The next response: the services in it.
    async fn next(&mut self) -> Vec<String> {
        let response = self.client.next().await.expect("the stream goes on");
        assert!(response.removed_resources.is_empty(), "{response:?}");
        let resources = decode::<ClusterLoadAssignment>(response).expect("endpoints");
        let mut names = Vec::new();
        for (name, assignment) in resources {
            let host = name.rsplit('|').next().unwrap_or_default();
            let service = host.split('.').next().unwrap_or_default().to_owned();
            self.history.push((service.clone(), endpoints(&assignment)));
            names.push(service);
        }
        names
    }

    /// The last endpoints of a service.
    pub(crate) fn of(&self, service: &str) -> Endpoints {
        let mut newest = self.history.iter().rev();
        let found = newest.find(|(of, _)| of == service);
        found
            .map(|(_, endpoints)| endpoints.clone())
            .unwrap_or_default()
    }

    /// Waits until a service has endpoints as `done` wants them.
    pub(crate) async fn until(&mut self, service: &str, done: impl Fn(&Endpoints) -> bool) {
        let met = timeout(LIMIT, async {
            while !done(&self.of(service)) {
                self.next().await;
            }
        });
        let met = met.await.is_ok();
        assert!(met, "never: {service}: {:#?}", self.history);
    }

    /// Waits until a service has exactly these addresses.
    pub(crate) async fn until_is(&mut self, service: &str, addresses: &[&str]) {
        let wanted: BTreeSet<&str> = addresses.iter().copied().collect();
        let is = |endpoints: &Endpoints| endpoints.keys().map(String::as_str).eq(wanted.clone());
        self.until(service, is).await;
    }

    /// What the services were told to be since `start`.
    pub(crate) fn since(&self, start: usize, service: &str) -> Vec<&Endpoints> {
        let newer = self.history.iter().skip(start);
        newer
            .filter(|(of, _)| of == service)
            .map(|(_, e)| e)
            .collect()
    }
}

fn host(name: &str) -> String {
    format!("{name}.shop.svc.cluster.local")
}

fn endpoints(assignment: &ClusterLoadAssignment) -> Endpoints {
    let all = assignment
        .endpoints
        .iter()
        .flat_map(|group| &group.lb_endpoints);
    all.map(|endpoint| (address(endpoint), weight(endpoint)))
        .collect()
}

fn weight(endpoint: &LbEndpoint) -> u32 {
    endpoint
        .load_balancing_weight
        .as_ref()
        .map_or(1, |w| w.value)
}

fn address(endpoint: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(inner)) = &endpoint.host_identifier else {
        return "no address".to_owned();
    };
    match inner.address.as_ref().and_then(|a| a.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => match &socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            other => format!("{}:{other:?}", socket.address),
        },
        other => format!("{other:?}"),
    }
}
