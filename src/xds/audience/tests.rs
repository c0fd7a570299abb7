use std::sync::Arc;

use super::Audiences;
use crate::mesh::{Lens, Snapshot};
use crate::model::{KubeService, Proxy, ServiceType};
use crate::testing::state::proxy;
use crate::testing::world::{self, World, labels, namespace, pod, service, slice};

const WEB: &str = "outbound|80||web.default.svc.cluster.local";

/// Web with two pods in each of two networks that have gateways.
fn two_networks() -> World {
    let mut world = World::new("c1");
    for (cluster, network) in [("c1", "1"), ("c2", "2")] {
        let label = [("topology.istio.io/network", &*format!("n{network}"))];
        world.put(cluster, namespace("istio-system", &label));
        world.put(cluster, gateway(network));
        world.put(cluster, service("web", &[("http", 80, 8080)]));
        for n in 1..4 {
            let (name, ip) = (format!("web-{n}"), format!("10.{network}.0.{n}"));
            let mtls = [("security.istio.io/tlsMode", "istio")];
            world.put(cluster, pod(&name, &ip, &mtls));
        }
        endpoints(&mut world, cluster, &[1, 2]);
    }
    world
}

fn endpoints(world: &mut World, cluster: &str, pods: &[u8]) {
    let network = &cluster[1..];
    let named: Vec<_> = pods
        .iter()
        .map(|n| (format!("web-{n}"), format!("10.{network}.0.{n}")))
        .collect();
    let pods: Vec<_> = named.iter().map(|(name, ip)| (&**name, &**ip)).collect();
    world.put(cluster, slice("web", &[("http", 8080)], &pods));
}

fn gateway(network: &str) -> KubeService {
    let mut gateway = service("istio-eastwestgateway", &[("tls", 15443, 15443)]);
    gateway.meta = world::meta("istio-eastwestgateway", "istio-system");
    gateway.labels = labels(&[("topology.istio.io/network", &format!("n{network}"))]);
    gateway.kind = ServiceType::LoadBalancer;
    gateway.load_balancer = vec![format!("172.18.{network}.1").into()];
    gateway
}

fn differs(old: &Arc<Snapshot>, world: &World) -> [bool; 2] {
    let audiences = Audiences::default();
    [("n1", "c1"), ("n2", "c2")].map(|(network, cluster)| {
        let audience = audiences.of(old, &proxy(network, cluster));
        audience.differs(&Arc::from(WEB), old, &world.snapshot())
    })
}

#[test]
fn a_pod_that_is_replaced_in_one_network_is_not_news_in_the_other() {
    let mut world = two_networks();
    let old = world.snapshot();
    endpoints(&mut world, "c2", &[1, 3]);
    assert_eq!(differs(&old, &world), [false, true]);
}

#[test]
fn a_pod_more_is_news_everywhere() {
    let mut world = two_networks();
    let old = world.snapshot();
    endpoints(&mut world, "c2", &[1, 2, 3]);
    assert_eq!(differs(&old, &world), [true, true]);
}

#[test]
fn what_a_publish_changed_is_answered_for_its_own_snapshot_only() {
    let mut world = two_networks();
    let audience = Audiences::default().of(&world.snapshot(), &proxy("n1", "c1"));
    let version = |of: &Arc<Snapshot>| audience.endpoints(of, WEB).map(|a| a.version());
    let old = world.snapshot();
    let before = version(&old);
    endpoints(&mut world, "c1", &[1, 3]);
    let new = world.snapshot();
    assert!(audience.differs(&Arc::from(WEB), &old, &new));
    assert_eq!(version(&old), before);
    assert_ne!(version(&new), before);
    endpoints(&mut world, "c1", &[1, 2]);
    assert_eq!(version(&world.snapshot()), before);
}

#[test]
fn proxies_share_an_audience_where_all_that_counts_is_equal() {
    let world = two_networks();
    let snapshot = world.snapshot();
    let audiences = Audiences::default();
    let one = audiences.of(&snapshot, &proxy("n1", "c1"));
    let same = Proxy {
        id: "another".into(),
        name: "another".into(),
        ..proxy("n1", "c1")
    };
    assert!(Arc::ptr_eq(&one, &audiences.of(&snapshot, &same)));
    let elsewhere = audiences.of(&snapshot, &proxy("n2", "c1"));
    assert!(!Arc::ptr_eq(&one, &elsewhere));
}

#[test]
fn audiences_of_nobody_are_forgotten() {
    let snapshot = two_networks().snapshot();
    let audiences = Audiences::default();
    for n in 0..1000 {
        audiences.of(&snapshot, &proxy(&format!("n{n}"), "c1"));
    }
    assert!(audiences.0.lock().known.len() <= 64);
}

#[test]
fn the_scope_follows_the_configuration() {
    let mut world = two_networks();
    let audiences = Audiences::default();
    let audience = audiences.of(&world.snapshot(), &proxy("n1", "c1"));
    let before = world.snapshot();
    let name = Arc::from("outbound|80||new.default.svc.cluster.local");
    assert!(!audience.differs(&name, &before, &before));
    world.put("c1", service("new", &[("http", 80, 8080)]));
    world.put(
        "c1",
        slice("new", &[("http", 8080)], &[("web-1", "10.1.0.1")]),
    );
    let after = world.snapshot();
    assert!(audience.differs(&name, &before, &after));
}
