use std::{net::IpAddr, sync::Arc};

use super::*;
use crate::mesh::{MeshState, PodKey, Update};
use crate::model::{CaptureMode, Features, PeerAuthentication, Proxy, ProxyIps, Resolution};
use crate::model::{TargetPort, Workload};
use crate::testing::inbound::{ingress, listening, mesh, policy};
use crate::testing::snapshot::{
    CLUSTER, ServiceBuilder, dialled_sidecar, external, service, sidecar, snapshot, snapshot_of,
};
use crate::xds::Audiences;

fn web() -> ServiceBuilder {
    let web = service("web", "ns").port("http", 80, Protocol::Http);
    web.selects(&[("app", "web")], &[(80, TargetPort::Number(8080))])
}

fn labelled(proxy: Proxy, labels: &[(&str, &str)]) -> Proxy {
    Proxy {
        labels: labels.iter().copied().collect(),
        ..proxy
    }
}

fn client(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Client {
    let audience = Audiences::default().of(snapshot, &proxy);
    Client::new(Arc::clone(snapshot), Arc::new(proxy), audience)
}

fn class(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Option<InboundClass> {
    InboundClass::of(&client(snapshot, proxy))
}

fn inbound(snapshot: &Arc<Snapshot>, proxy: Proxy) -> Arc<Inbound> {
    let client = client(snapshot, proxy);
    InboundClass::of(&client).expect("a class").inbound(&client)
}

fn numbers(inbound: &Inbound) -> Vec<u16> {
    inbound.ports.iter().map(|port| port.number).collect()
}

fn with_workload(snapshot: &Snapshot, workload: Workload) -> Arc<Snapshot> {
    let key = PodKey {
        cluster: CLUSTER.into(),
        namespace: "ns".into(),
        name: "client".into(),
    };
    let workload = Workload {
        name: "client".into(),
        namespace: "ns".into(),
        cluster: CLUSTER.into(),
        ..workload
    };
    Arc::new(snapshot.next(Update {
        workloads: vec![(key, Some(Arc::new(workload)))],
        ..Update::default()
    }))
}

#[test]
fn pods_that_no_selector_tells_apart_share_their_inbound_side() {
    let snapshot = snapshot([web()]);
    let of = |labels: &[(&str, &str)]| class(&snapshot, labelled(sidecar("ns"), labels));
    let one = of(&[("app", "web"), ("pod-template-hash", "1")]);
    let two = of(&[("app", "web"), ("kubernetes.io/hostname", "node-2")]);
    assert_eq!(one, two);
    assert_ne!(one, of(&[("app", "api")]));
}

#[test]
fn labels_that_a_policy_selects_by_tell_pods_apart() {
    let strict = PeerAuthentication {
        selector: [("tier", "gold")].into_iter().collect(),
        ports: vec![(9000, MtlsMode::Disable), (8080, MtlsMode::Permissive)],
        ..policy("ns", MtlsMode::Strict)
    };
    let snapshot = snapshot_of(mesh([strict], []), [web()]);
    let of = |tier: &str| {
        let proxy = labelled(sidecar("ns"), &[("app", "web"), ("tier", tier)]);
        inbound(&snapshot, proxy)
    };
    let (gold, other) = (of("gold"), of("tin"));
    assert_eq!(gold.ports[0].mode, MtlsMode::Permissive);
    assert_eq!(
        gold.others,
        [(0, MtlsMode::Strict), (9000, MtlsMode::Disable)]
    );
    assert_eq!(other.ports[0].mode, MtlsMode::Permissive);
    assert_eq!(other.others, [(0, MtlsMode::Permissive)]);
}

#[test]
fn a_pod_that_is_not_known_yet_names_its_ports_itself() {
    let web = service("web", "ns").port("http", 80, Protocol::Http);
    let target = TargetPort::Name(Arc::from("main"));
    let snapshot = snapshot([web.selects(&[("app", "web")], &[(80, target)])]);
    let proxy = Proxy {
        pod_ports: [(Arc::from("main"), 8081)].into(),
        ..labelled(sidecar("ns"), &[("app", "web")])
    };
    assert_eq!(numbers(&inbound(&snapshot, proxy.clone())), [8081]);
    // The pod knows better.
    let pod = Workload {
        node: "node-1".into(),
        labels: [("app", "web")].into_iter().collect(),
        ports: [(Arc::from("main"), 8082)].into(),
        ..Workload::default()
    };
    let known = with_workload(&snapshot, pod);
    assert_eq!(numbers(&inbound(&known, proxy)), [8082]);
}

#[test]
fn a_service_without_selector_leads_to_the_addresses_it_lists() {
    let listed = service("listed", "ns")
        .port("http", 80, Protocol::Http)
        .selects(&[], &[(80, TargetPort::Number(8080))])
        .endpoint("10.0.0.9", 7070, "http")
        .endpoint("10.0.0.10", 7071, "http");
    let snapshot = snapshot([listed, web()]);
    assert_eq!(numbers(&inbound(&snapshot, sidecar("ns"))), [7070]);
    // A selector that leads to the pod comes before.
    let selected = labelled(sidecar("ns"), &[("app", "web")]);
    assert_eq!(numbers(&inbound(&snapshot, selected)), [8080]);
}

#[test]
fn a_workload_entry_says_itself_where_it_serves() {
    let selector = [("app", "vm")];
    let targets = [(80, TargetPort::Number(8080)), (81, TargetPort::Number(81))];
    let web = service("web", "ns").port("http", 80, Protocol::Http);
    let web = web.selects(&selector, &targets);
    let entry = external("vm.example.com", "ns", Resolution::ClientSideLb)
        .port("admin", 81, Protocol::Http)
        .selects(&selector, &targets);
    let headless = service("db", "ns")
        .port("tcp", 90, Protocol::Tcp)
        .selects(&selector, &[(90, TargetPort::Number(90))])
        .with(|s| s.resolution = Resolution::Passthrough);
    let services = [web, entry, headless];
    let of = |by_entry: bool, service_entries_select_pods| {
        let features = Features {
            service_entries_select_pods,
            ..Features::default()
        };
        let mesh = MeshState {
            features: Arc::new(features),
            ..MeshState::default()
        };
        let workload = Workload {
            node: if by_entry { "" } else { "node-1" }.into(),
            labels: selector.into_iter().collect(),
            ports: [("http".into(), 7001), ("admin".into(), 7002)].into(),
            ..Workload::default()
        };
        let snapshot = with_workload(&snapshot_of(mesh, services.clone()), workload);
        numbers(&inbound(&snapshot, sidecar("ns")))
    };
    assert_eq!(of(true, false), [7001, 7002]);
    // A pod serves a Service where the Service says.
    assert_eq!(of(false, true), [90, 7002, 8080]);
    assert_eq!(of(false, false), [90, 8080]);
}

#[test]
fn without_ingress_nothing_leads_into_a_sidecar_that_is_dialled() {
    let snapshot = snapshot([web()]);
    let proxy = labelled(dialled_sidecar("ns"), &[("app", "web")]);
    assert_eq!(class(&snapshot, proxy), None);
}

fn listening_at(proxy: Proxy, ingress: Vec<crate::model::IngressListener>) -> Arc<Inbound> {
    let snapshot = snapshot_of(mesh([], [listening("ns", ingress)]), [web()]);
    inbound(&snapshot, labelled(proxy, &[("app", "web")]))
}

#[test]
fn ingress_says_where_the_application_listens() {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    for (written, expected) in [
        ("127.0.0.1:9090", Application::At(ip("127.0.0.1"), 9090)),
        ("[::1]:9090", Application::At(ip("127.0.0.1"), 9090)),
        ("0.0.0.0:9090", Application::At(ip("10.0.0.9"), 9090)),
        (
            "unix:///run/app",
            Application::Socket("/run/app".to_owned()),
        ),
        ("", Application::Dialled),
        ("10.9.9.9:80", Application::Dialled),
    ] {
        let made = listening_at(dialled_sidecar("ns"), vec![ingress(80, "", written)]);
        assert_eq!(made.ports[0].application, expected, "{written}");
    }
    let v6 = Proxy {
        ips: ProxyIps(vec![ip("fd00::1")]),
        ..dialled_sidecar("ns")
    };
    let made = listening_at(v6, vec![ingress(80, "", "127.0.0.1:9090")]);
    assert_eq!(made.ports[0].application, Application::At(ip("::1"), 9090));
}

#[test]
fn ingress_binds_where_nothing_is_intercepted() {
    let bind = |proxy: Proxy, bind: &str, capture_mode| {
        let listener = crate::model::IngressListener {
            capture_mode,
            ..ingress(80, bind, "127.0.0.1:9090")
        };
        listening_at(proxy, vec![listener]).ports[0].bind.clone()
    };
    let own = Some("10.0.0.9".to_owned());
    assert_eq!(bind(dialled_sidecar("ns"), "", CaptureMode::Default), own);
    let asked = Some("127.0.0.7".to_owned());
    assert_eq!(
        bind(dialled_sidecar("ns"), "127.0.0.7", CaptureMode::Default),
        asked
    );
    assert_eq!(bind(sidecar("ns"), "", CaptureMode::Default), None);
    assert_eq!(bind(sidecar("ns"), "", CaptureMode::None), own);
    assert_eq!(bind(dialled_sidecar("ns"), "", CaptureMode::Iptables), None);
    let loopback = Proxy {
        ips: ProxyIps(vec![[127, 0, 0, 2].into()]),
        ..dialled_sidecar("ns")
    };
    let own = Some("127.0.0.2".to_owned());
    assert_eq!(bind(loopback, "", CaptureMode::Default), own);
}

#[test]
fn ingress_replaces_what_services_say() {
    let listeners = vec![
        ingress(8080, "", "127.0.0.1:1"),
        ingress(9090, "", "127.0.0.1:2"),
        ingress(9090, "127.0.0.7", "127.0.0.1:3"),
    ];
    let made = listening_at(sidecar("ns"), listeners);
    assert_eq!(numbers(&made), [8080, 9090]);
    // The service behind a port is known by its target port.
    let hosts = |port: &InboundPort| port.services.len();
    assert_eq!((hosts(&made.ports[0]), hosts(&made.ports[1])), (1, 0));
    assert_eq!(&*made.ports[0].owner, "default.ns");
}

#[test]
fn sidecars_that_listen_at_their_own_addresses_are_classes_of_their_own() {
    let at = |snapshot: &Arc<Snapshot>, last| {
        let ips = ProxyIps(vec![[10, 0, 0, last].into()]);
        let proxy = Proxy {
            ips,
            ..dialled_sidecar("ns")
        };
        class(snapshot, labelled(proxy, &[("app", "web")]))
    };
    let with = |bind: &str| {
        let sidecar = listening("ns", vec![ingress(80, bind, "127.0.0.1:9")]);
        snapshot_of(mesh([], [sidecar]), [web()])
    };
    let (own, shared) = (with(""), with("0.0.0.0"));
    assert_ne!(at(&own, 1), at(&own, 2));
    assert_eq!(at(&shared, 1), at(&shared, 2));
}
