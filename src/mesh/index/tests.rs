use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::mesh::{Change, ChangeSet, Generation, PodKey};
use crate::model::{
    Discoverability, Health, MeshNetwork, NetworkId, NetworkMember, Object, ObjectKind,
    PersistentSession, Resolution, ServiceType, TlsMode, TrafficDistribution,
};
use crate::testing::world::{self, World, contents, labels, namespace, node, pod, service, slice};

mod config;
mod events;
mod gateways;
mod joins;
mod properties;

const WEB: &str = "web.default.svc.cluster.local";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

/// Web in two clusters, one pod each, every cluster a network.
fn two_clusters() -> World {
    let mut world = World::new("c1");
    for (cluster, address) in [("c1", "10.1.0.1"), ("c2", "10.2.0.1")] {
        let network = [("topology.istio.io/network", &*format!("n-{cluster}"))];
        world.put(cluster, namespace("istio-system", &network));
        world.put(cluster, service("web", &[("http", 80, 8080)]));
        world.put(cluster, pod("web-1", address, &[("app", "web")]));
        world.put(
            cluster,
            slice("web", &[("http", 8080)], &[("web-1", address)]),
        );
    }
    world
}

/// What a change tells streams.
fn told(world: &mut World, cluster: &str, change: Change) -> ChangeSet {
    let Some(next) = world.apply(cluster, change) else {
        return ChangeSet::default();
    };
    next.changes().clone()
}

fn put(object: impl Into<Object>) -> Change {
    Change::Upsert(object.into())
}
