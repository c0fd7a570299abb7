use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use prost::Message;

use crate::mesh::{ChangeSet, Snapshot, Update};
use crate::model::{
    ClusterId, NetworkId, Protocol, Proxy, ProxyIps, Registration, Resolution, TypeUrl, Workload,
    WorkloadTemplate,
};
use crate::proto::nds::NameTable;
use crate::testing::snapshot::{ServiceBuilder, external, service, sidecar, snapshot};
use crate::xds::tests::resources;

type Table = BTreeMap<String, Vec<String>>;

/// The one resource of a proxy, which has no name.
fn resource(snapshot: &Arc<Snapshot>, proxy: Proxy) -> NameTable {
    let list = resources(snapshot, proxy).all(TypeUrl::NameTable);
    let [one] = &*list else {
        panic!("one resource: {list:?}");
    };
    let response = DeltaDiscoveryResponse::decode(one.delta_frame()).expect("a frame");
    let [Resource { name, resource, .. }] = response.resources.as_slice() else {
        panic!("{response:?}");
    };
    assert_eq!(name, "");
    let body = resource.as_ref().expect("a body");
    assert_eq!(body.type_url, TypeUrl::NameTable.as_str());
    NameTable::decode(body.value.as_slice()).expect("a name table")
}

fn table(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Table {
    let table = resource(snapshot, proxy).table;
    table
        .into_iter()
        .map(|(host, info)| (host, info.ips))
        .collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn web() -> ServiceBuilder {
    service("web", "ns").port("http", 80, Protocol::Http)
}

fn headless(name: &str) -> ServiceBuilder {
    let headless = service(name, "ns").port("tcp", 3306, Protocol::Tcp);
    headless
        .with(|s| s.resolution = Resolution::Passthrough)
        .vip(ip("0.0.0.0"))
}

fn pod(dns_name: &str, network: &str, cluster: &str) -> Workload {
    Workload {
        dns_name: Arc::from(dns_name),
        template: Arc::new(WorkloadTemplate {
            network: NetworkId::from_text(network),
            cluster: ClusterId::from(cluster),
            ..WorkloadTemplate::default()
        }),
        ..Workload::default()
    }
}

fn on(network: &str) -> Proxy {
    Proxy {
        network: NetworkId::from_text(network),
        ..sidecar("ns")
    }
}

fn entry(list: &[(&str, &[&str])]) -> Table {
    let texts = |ips: &[&str]| ips.iter().map(|ip| (*ip).to_owned()).collect();
    list.iter()
        .map(|(host, ips)| ((*host).to_owned(), texts(ips)))
        .collect()
}

#[test]
fn services_resolve_to_the_address_of_the_proxys_own_cluster() {
    let elsewhere = Registration {
        vips: vec![ip("10.2.0.1")],
        ..Registration::default()
    };
    let both = web().vip(ip("10.1.0.1")).with(|s| {
        s.registrations.insert(ClusterId::from("c2"), elsewhere);
        s.addresses = vec![ip("10.1.0.1").into()];
    });
    let snapshot = snapshot([both]);
    let host = "web.ns.svc.cluster.local";
    assert_eq!(
        table(&snapshot, sidecar("ns")),
        entry(&[(host, &["10.1.0.1"])])
    );
    let other = Proxy {
        cluster: ClusterId::from("c2"),
        ..sidecar("ns")
    };
    assert_eq!(table(&snapshot, other), entry(&[(host, &["10.2.0.1"])]));
}

#[test]
fn a_service_that_only_another_cluster_has_resolves_to_the_address_there() {
    let remote = web().with(|s| {
        let there = Registration {
            vips: vec![ip("10.2.0.1")],
            ..Registration::default()
        };
        s.registrations.insert(ClusterId::from("c2"), there);
        s.addresses = vec![ip("10.2.0.1").into()];
    });
    let snapshot = snapshot([remote]);
    let info = &resource(&snapshot, sidecar("ns")).table["web.ns.svc.cluster.local"];
    assert_eq!(info.ips, ["10.2.0.1"]);
    assert_eq!(info.registry, "Kubernetes");
    assert_eq!((&*info.shortname, &*info.namespace), ("web", "ns"));
    let v6 = Proxy {
        ips: ProxyIps(vec![ip("fd00::9")]),
        ..sidecar("ns")
    };
    assert!(table(&snapshot, v6).is_empty(), "no address it can dial");
}

#[test]
fn headless_services_resolve_to_endpoints_of_the_own_network_in_any_cluster() {
    let db = headless("db")
        .endpoint_of("10.0.0.1", 3306, "tcp", pod("db-0.db", "n1", "c1"))
        .endpoint_of("10.0.0.2", 3306, "tcp", pod("db-1.db", "n1", "c2"))
        .endpoint_of("10.0.0.2", 3307, "admin", pod("db-1.db", "n1", "c2"))
        .endpoint_of("10.9.0.3", 3306, "tcp", pod("db-2.db", "n2", "c2"))
        .endpoint_of("10.9.0.4", 3306, "tcp", pod("", "", "c2"));
    let snapshot = snapshot([db]);
    let expected = entry(&[
        (
            "db.ns.svc.cluster.local",
            &["10.0.0.1", "10.0.0.2", "10.9.0.4"],
        ),
        ("db-0.db.ns.svc.cluster.local", &["10.0.0.1"]),
        ("db-1.db.ns.svc.cluster.local", &["10.0.0.2"]),
    ]);
    assert_eq!(table(&snapshot, on("n1")), expected);
    let there = table(&snapshot, on("n2"));
    assert_eq!(there["db.ns.svc.cluster.local"], ["10.9.0.3", "10.9.0.4"]);
    let info = &resource(&snapshot, on("n1")).table["db-0.db.ns.svc.cluster.local"];
    assert_eq!((&*info.shortname, &*info.namespace), ("db-0.db", "ns"));
}

#[test]
fn of_two_pods_of_one_name_the_own_clusters_is_meant() {
    let db = headless("db")
        .endpoint_of("10.0.0.1", 3306, "tcp", pod("db-0.db", "", "c2"))
        .endpoint_of("10.0.0.2", 3306, "tcp", pod("db-0.db", "", "c1"));
    let found = table(&snapshot([db]), sidecar("ns"));
    assert_eq!(found["db-0.db.ns.svc.cluster.local"], ["10.0.0.2"]);
}

#[test]
fn entries_resolve_to_their_addresses_and_ranges_do_not() {
    let addresses = |host: &str, list: &[&str]| {
        let list: Vec<_> = list
            .iter()
            .map(|net| net.parse().expect("a range"))
            .collect();
        external(host, "ns", Resolution::Dns).with(|s| s.addresses = list)
    };
    let snapshot = snapshot([
        addresses("a.example", &["240.1.1.1/32", "10.5.0.0/16"]),
        addresses("*.b.example", &["240.1.1.2/32"]),
        addresses("none.example", &[]),
        addresses("range.example", &["10.6.0.0/16"]),
    ]);
    let expected = entry(&[
        ("*.b.example", &["240.1.1.2"]),
        ("a.example", &["240.1.1.1"]),
    ]);
    assert_eq!(table(&snapshot, sidecar("ns")), expected);
    let info = &resource(&snapshot, sidecar("ns")).table["a.example"];
    assert_eq!(info.registry, "External");
    assert_eq!((&*info.shortname, &*info.namespace), ("", ""));
}

#[test]
fn a_cluster_set_name_has_no_short_forms() {
    let imported = web().vip(ip("10.1.0.1")).with(|s| {
        s.key.hostname = "web.ns.svc.clusterset.local".into();
    });
    let table = resource(&snapshot([imported]), sidecar("ns")).table;
    let info = &table["web.ns.svc.clusterset.local"];
    assert_eq!((&*info.shortname, &*info.namespace), ("", ""));
}

#[test]
fn a_mesh_without_names_has_an_empty_table() {
    assert_eq!(table(&snapshot([]), sidecar("ns")), Table::new());
}

#[test]
fn tables_are_shared_and_made_again_when_names_change() {
    let before = snapshot([web().vip(ip("10.1.0.1"))]);
    let first = |snapshot: &Arc<Snapshot>| {
        let list = resources(snapshot, sidecar("ns")).all(TypeUrl::NameTable);
        Arc::clone(&list[0])
    };
    let endpoints = Arc::new(before.next(Update::default()));
    assert!(Arc::ptr_eq(&first(&before), &first(&endpoints)));
    let changes = ChangeSet {
        names: true,
        ..ChangeSet::default()
    };
    let renamed = Arc::new(before.next(Update {
        changes,
        ..Update::default()
    }));
    assert!(!Arc::ptr_eq(&first(&before), &first(&renamed)));
}
