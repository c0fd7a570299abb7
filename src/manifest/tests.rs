use std::{fs, net::IpAddr, path::Path, sync::LazyLock, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    ExportTo, Hostname, Location, MtlsMode, Namespace, NetworkId, OutboundPolicy, Protocol,
    ServerTlsMode, ServiceEntryResolution, ServiceType, TargetPort, TlsSetting, TlsVersion,
};

/// Reads a manifest written as YAML.
fn parse_yaml(kind: ObjectKind, yaml: &str) -> Result<Parsed, ManifestError> {
    let value = yaml_to_json(yaml).expect("a test's YAML");
    parse(kind, value.to_string().as_bytes(), &Defaults::default())
}

macro_rules! read {
    ($kind:ident, $yaml:expr) => {
        match parse_yaml(ObjectKind::$kind, $yaml) {
            Ok(Parsed {
                object: Object::$kind(object),
                ..
            }) => object,
            other => panic!("{other:?}"),
        }
    };
}

fn error(kind: ObjectKind, yaml: &str) -> String {
    parse_yaml(kind, yaml).expect_err("refused").to_string()
}

/// Every manifest of the recorded scenarios.
fn scenario_manifests() -> &'static [Value] {
    static ALL: LazyLock<Vec<Value>> = LazyLock::new(read_scenarios);
    &ALL
}

fn read_scenarios() -> Vec<Value> {
    let mut all = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut folders: Vec<_> = fs::read_dir(root).expect("scenarios").collect();
    folders.sort_by_key(|f| f.as_ref().map(fs::DirEntry::path).ok());
    for folder in folders {
        let clusters = folder.expect("entry").path().join("clusters");
        for file in fs::read_dir(clusters).expect("clusters") {
            let text = fs::read_to_string(file.expect("entry").path()).expect("text");
            let values = yaml_documents(&text).map(|d| yaml_to_json(d.text).expect("YAML"));
            all.extend(values);
        }
    }
    all
}

fn kind_of(manifest: &Value) -> Option<ObjectKind> {
    let kinds = Kind::all((MCS_GROUP, MCS_VERSION));
    let api_version = manifest.get("apiVersion")?.as_str()?;
    let kind = manifest.get("kind")?.as_str()?;
    Kind::find(&kinds, api_version, kind).map(|k| k.object)
}

#[test]
fn every_object_of_the_scenarios_is_read_whole() {
    let mut read = 0;
    for manifest in scenario_manifests() {
        let Some(kind) = kind_of(manifest) else {
            let kind = manifest["kind"].as_str();
            assert_eq!(kind, Some("ServiceAccount"));
            continue;
        };
        let json = manifest.to_string();
        let parsed = parse(kind, json.as_bytes(), &Defaults::default()).expect("readable");
        assert_eq!(parsed.left_out, []);
        assert_eq!(parsed.object.kind(), kind);
        assert_eq!(
            &*parsed.object.meta().name,
            manifest["metadata"]["name"].as_str().expect("name")
        );
        read += 1;
    }
    assert_eq!(read, 180);
}

#[test]
fn a_service_keeps_what_the_mesh_needs() {
    let service = read!(
        Service,
        "
metadata:
  name: web
  namespace: shop
  creationTimestamp: 2024-01-01T00:00:00Z
  labels: {topology.istio.io/network: n1}
  annotations: {networking.istio.io/exportTo: '.,db', kubectl.kubernetes.io/x: '{\"a\": 1}'}
spec:
  type: LoadBalancer
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1, 'fd00::1']
  externalIPs: [192.0.2.9]
  internalTrafficPolicy: Local
  trafficDistribution: PreferClose
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080}
  - {name: grpc-api, port: 81}
  - {name: dns, port: 53, protocol: UDP, targetPort: 5353}
status:
  loadBalancer:
    ingress: [{ip: 203.0.113.1, hostname: x}, {hostname: lb.example.com}, {}]
"
    );
    assert_eq!(service.kind, ServiceType::LoadBalancer);
    assert_eq!(&*service.meta.created, "2024-01-01T00:00:00Z");
    let annotations: Vec<_> = service
        .annotations
        .iter()
        .map(|(k, v)| (&**k, &**v))
        .collect();
    assert_eq!(annotations, [("networking.istio.io/exportTo", ".,db")]);
    assert_eq!(service.cluster_ips.len(), 2);
    assert!(service.node_local && !service.publish_not_ready);
    assert_eq!(service.traffic_distribution.as_deref(), Some("PreferClose"));
    let addresses: Vec<&str> = service.load_balancer.iter().map(|a| &**a).collect();
    assert_eq!(addresses, ["203.0.113.1", "lb.example.com"]);
    let protocols: Vec<_> = service.ports.iter().map(|p| p.protocol).collect();
    assert_eq!(protocols, [Protocol::Http, Protocol::Grpc, Protocol::Udp]);
    assert_eq!(service.ports[0].target_port, TargetPort::Name("web".into()));
    assert_eq!(service.ports[0].node_port, Some(30080));
    assert_eq!(service.ports[1].target_port, TargetPort::Number(81));
    assert_eq!(service.ports[2].target_port, TargetPort::Number(5353));
}

#[test]
fn only_a_service_without_addresses_by_choice_is_headless() {
    let ips = |spec: &str| {
        let yaml = format!("{{metadata: {{name: a}}, spec: {{{spec}}}}}");
        read!(Service, &yaml).cluster_ips
    };
    assert!(ips("clusterIP: None").is_empty());
    assert!(ips("clusterIP: None, clusterIPs: [None]").is_empty());
    assert!(ips("type: ExternalName, externalName: example.com").is_empty());
    assert_eq!(ips("ports: []"), ["0.0.0.0".parse::<IpAddr>().expect("IP")]);
    assert_eq!(
        ips("clusterIPs: [10.0.0.2]"),
        ["10.0.0.2".parse::<IpAddr>().expect("IP")]
    );
}

#[test]
fn a_slice_without_endpoints_is_read() {
    let slice = read!(
        EndpointSlice,
        "
metadata: {name: web-1, namespace: a, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: null
endpoints: null
"
    );
    assert_eq!(
        (&*slice.service, slice.endpoints.len(), slice.mcs),
        ("web", 0, false)
    );
}

#[test]
fn a_bad_address_of_a_slice_costs_itself_only() {
    let parsed = parse_yaml(
        ObjectKind::EndpointSlice,
        "
metadata: {name: web-1, namespace: a}
addressType: IPv4
ports: [{name: http, port: 80}, {name: all}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: false, serving: true}, targetRef: {kind: Pod, name: p}}
- {addresses: [10.0.0]}
",
    );
    let parsed = parsed.expect("read");
    let Object::EndpointSlice(slice) = parsed.object else {
        panic!("not a slice")
    };
    assert_eq!(slice.ports.len(), 1);
    assert_eq!(
        (slice.endpoints[0].ready, slice.endpoints[0].serving),
        (Some(false), Some(true))
    );
    assert_eq!(slice.endpoints[0].pod.as_deref(), Some("p"));
    assert_eq!(
        parsed.left_out[0].to_string(),
        "EndpointSlice a/web-1: endpoints[1].addresses[0]: \"10.0.0\" is not an IP address"
    );
}

#[test]
fn the_workload_of_a_pod_is_told_by_its_owner() {
    let name = |generated: &str, owner: &str, labels: &str| {
        let yaml = format!(
            "{{metadata: {{name: web-1-x, generateName: {generated}, labels: {{{labels}}}, \
             ownerReferences: [{{kind: Node, name: n}}, {owner}]}}}}"
        );
        read!(Pod, &yaml).workload_name.to_string()
    };
    let set = "{kind: ReplicaSet, name: web-7d9, controller: true}";
    assert_eq!(name("web-7d9-", set, "pod-template-hash: 7d9"), "web");
    assert_eq!(
        name("web-7d9-", set, "rollouts-pod-template-hash: 7d9"),
        "web"
    );
    assert_eq!(name("web-7d9-", set, ""), "web-7d9");
    assert_eq!(name("null", set, "pod-template-hash: 7d9"), "web-1-x");
    let labelled = "service.istio.io/workload-name: shop";
    assert_eq!(name("web-7d9-", set, labelled), "shop");
    let job = "{kind: Job, name: backup-28123456, controller: true}";
    assert_eq!(name("backup-", job, ""), "backup");
    let job = "{kind: Job, name: backup-1, controller: true}";
    assert_eq!(name("backup-", job, ""), "backup-1");
    let other = "{kind: DaemonSet, name: agent, controller: true}";
    assert_eq!(name("agent-", other, ""), "agent");
    let not_controller = "{kind: DaemonSet, name: agent}";
    assert_eq!(name("agent-", not_controller, ""), "web-1-x");
}

#[test]
fn a_pod_keeps_its_named_ports_and_state() {
    let pod = read!(
        Pod,
        "
metadata: {name: p, namespace: a, deletionTimestamp: 2024-01-01T00:00:00Z}
spec:
  nodeName: n
  serviceAccountName: sa
  containers:
  - ports: [{name: http, containerPort: 80}, {containerPort: 81}, {name: d, containerPort: 53, protocol: UDP}]
  - ports: [{name: http, containerPort: 90}]
  initContainers:
  - {restartPolicy: Always, ports: [{name: proxy, containerPort: 15090}]}
  - ports: [{name: setup, containerPort: 1}]
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
  conditions: [{type: Ready, status: 'True'}]
"
    );
    let ports: Vec<_> = pod
        .container_ports
        .iter()
        .map(|(n, p)| (&**n, *p))
        .collect();
    assert_eq!(ports, [("http", 80), ("proxy", 15090)]);
    assert_eq!(
        (pod.ready, pod.terminating, pod.finished),
        (true, true, false)
    );
    assert_eq!(
        (&*pod.node, &*pod.service_account, pod.ips.len()),
        ("n", "sa", 2)
    );
}

#[test]
fn a_node_has_its_external_address() {
    let node = read!(
        Node,
        "
metadata: {name: n, namespace: ignored}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 192.0.2.1}]}
"
    );
    assert_eq!(
        node.external_ip.map(|ip| ip.to_string()).as_deref(),
        Some("192.0.2.1")
    );
    assert!(node.meta.namespace.is_empty());
}

#[test]
fn a_gateway_of_gateway_api_keeps_addresses_and_listeners() {
    let gateway = read!(
        KubeGateway,
        "
metadata: {name: g, namespace: a}
spec:
  gatewayClassName: istio-remote
  addresses: [{value: 192.0.2.1}, {type: Hostname, value: gw.example.com}, {type: Other, value: x}]
  listeners:
  - {name: a, port: 15443, protocol: TLS, tls: {options: {gateway.istio.io/listener-protocol: auto-passthrough}}}
  - {name: b, port: 15008, protocol: HBONE}
"
    );
    assert_eq!(gateway.addresses.len(), 2);
    assert_eq!(
        gateway.listeners[0].listener_protocol.as_deref(),
        Some("auto-passthrough")
    );
    assert!(gateway.listeners[0].tls && !gateway.listeners[1].tls);
}

#[test]
fn a_service_entry_is_read() {
    let entry = read!(
        ServiceEntry,
        "
metadata:
  name: ext
  namespace: a
  annotations: {istio.io/connect-strategy: race_first_tcp_connect}
spec:
  hosts: [api.example.com]
  addresses: [192.0.2.0/24, 198.51.100.7]
  location: MESH_INTERNAL
  resolution: DNS
  exportTo: ['.', b]
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]
  endpoints: [{address: 10.1.1.1, ports: {tls: 9443}, locality: r/z, weight: 5, network: n2, serviceAccount: sa}]
"
    );
    assert_eq!(
        (entry.location, entry.resolution),
        (Location::Internal, ServiceEntryResolution::Dns)
    );
    assert_eq!(entry.addresses[1].prefix_len(), 32);
    assert_eq!(entry.ports[0].target_port, Some(8443));
    assert_eq!(entry.endpoints[0].weight, 5);
    assert_eq!(entry.endpoints[0].network, Some(NetworkId::from("n2")));
    let seen_by = entry.export_to.expect("set");
    assert!(seen_by.includes("a") && seen_by.includes("b") && !seen_by.includes("c"));
    assert!(entry.logical_dns && entry.workload_selector.is_none());
}

#[test]
fn a_workload_entry_is_healthy_unless_its_agent_must_say_so() {
    let healthy = |annotations: &str, condition: &str| {
        let yaml = format!(
            "{{metadata: {{name: w, annotations: {{{annotations}}}}}, spec: {{network: n}}, \
             status: {{conditions: [{{type: Healthy, status: '{condition}'}}]}}}}"
        );
        read!(WorkloadEntry, &yaml).healthy
    };
    let checked = "proxy.istio.io/health-checks-enabled: 'true'";
    assert!(healthy("", "False"));
    assert!(healthy(checked, "True"));
    assert!(!healthy(checked, "False"));
    assert!(!healthy(checked, "Unknown"));
}

#[test]
fn a_destination_rule_is_read() {
    let rule = read!(
        DestinationRule,
        "
metadata: {name: r, namespace: a}
spec:
  host: web
  trafficPolicy:
    loadBalancer:
      simple: LEAST_REQUEST
      localityLbSetting: {enabled: true, distribute: [{from: r1/*, to: {r2/*: 20, r1/*: 80}}], failoverPriority: [x]}
    outlierDetection: {consecutive5xxErrors: 0, interval: 1m, minHealthPercent: 10}
    connectionPool: {tcp: {maxConnections: 100, connectTimeout: 30ms}, http: {maxRetries: 0}}
    portLevelSettings: [{port: {number: 80}, tls: {}}]
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}]
"
    );
    assert_eq!(&*rule.host, "web.a.svc.cluster.local");
    assert_eq!(rule.export_to, None);
    let settings = &rule.policy.base;
    let balancer = settings.load_balancer.as_ref().expect("set");
    assert_eq!(balancer.simple.as_deref(), Some("LEAST_REQUEST"));
    let to = &balancer.locality.as_ref().expect("set").distribute[0].to;
    assert_eq!(to[..], [("r1/*".into(), 80), ("r2/*".into(), 20)]);
    let outlier = settings.outlier_detection.as_ref().expect("set");
    assert_eq!(
        (outlier.consecutive_5xx, outlier.min_health_percent),
        (Some(0), 10)
    );
    assert_eq!(outlier.interval, Some(Duration::from_mins(1)));
    let pool = settings.connection_pool.as_ref().expect("set");
    assert_eq!((pool.max_connections, pool.max_retries), (Some(100), None));
    assert_eq!(pool.connect_timeout, Some(Duration::from_millis(30)));
    assert_eq!(rule.tls_mode("", 80), Some(TlsSetting::Disable));
    let name = &rule.subsets[0].name;
    assert_eq!(rule.tls_mode(name, 90), Some(TlsSetting::IstioMutual));
}

#[test]
fn mutual_tls_needs_a_certificate() {
    let rule = |tls: &str| {
        format!(
            "{{metadata: {{name: r, namespace: a}}, spec: {{host: x, trafficPolicy: {{tls: {tls}}}}}}}"
        )
    };
    let bare = rule("{mode: MUTUAL, clientCertificate: /c.pem}");
    assert_eq!(
        error(ObjectKind::DestinationRule, &bare),
        "DestinationRule a/r: spec.trafficPolicy.tls.mode: MUTUAL needs clientCertificate and \
         privateKey, or credentialName"
    );
    let whole = rule(
        "{mode: MUTUAL, clientCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, \
         sni: s, subjectAltNames: [a, b], insecureSkipVerify: true, caCrl: /crl.pem}",
    );
    let whole = read!(DestinationRule, &whole);
    let tls = whole.policy.base.tls.expect("set");
    assert_eq!(
        (&*tls.client_certificate, &*tls.private_key),
        ("/c.pem", "/k.pem")
    );
    assert_eq!(
        (&*tls.ca_certificates, &*tls.ca_crl),
        ("/ca.pem", "/crl.pem")
    );
    assert_eq!((&*tls.sni, tls.subject_alt_names.len()), ("s", 2));
    assert!(tls.insecure_skip_verify);
    let named = rule("{mode: MUTUAL, credentialName: cert}");
    let named = read!(DestinationRule, &named);
    assert_eq!(
        &*named.policy.base.tls.expect("set").credential_name,
        "cert"
    );
}

#[test]
fn a_rule_for_some_workloads_stays_in_its_namespace() {
    let rule = read!(
        DestinationRule,
        "{metadata: {name: r, namespace: a}, spec: {host: '*.example.com', exportTo: ['*'], \
         workloadSelector: {matchLabels: {app: x}}}}"
    );
    assert_eq!(
        rule.export_to,
        Some(ExportTo::Namespaces([Namespace::from("a")].into()))
    );
    assert_eq!(rule.workload_selector.get("app"), Some("x"));
    assert_eq!(&*rule.host, "*.example.com");
}

#[test]
fn a_peer_authentication_is_read_with_numbers_as_keys() {
    let peer = read!(
        PeerAuthentication,
        "{metadata: {name: p, namespace: a}, spec: {selector: {matchLabels: {app: x}}, \
         mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}, 80: null}}}"
    );
    assert_eq!(peer.mode, MtlsMode::Strict);
    assert_eq!(
        peer.ports,
        [(80, MtlsMode::Unset), (8080, MtlsMode::Disable)]
    );
}

#[test]
fn a_sidecar_is_read_and_a_bad_host_costs_itself_only() {
    let yaml = "
metadata: {name: s, namespace: a}
spec:
  workloadSelector: {labels: {app: x}}
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress:
  - {port: {number: 8080, protocol: HTTP_PROXY, name: h}, bind: 127.0.0.1, captureMode: NONE, hosts: [./*, db/x.example.com, bad]}
  - hosts: ['~/*']
  ingress: [{port: {number: 9080, protocol: HTTP, name: i}, defaultEndpoint: 127.0.0.1:8080}]
";
    let sidecar = read!(Sidecar, yaml);
    assert_eq!(sidecar.outbound_policy, Some(OutboundPolicy::RegistryOnly));
    assert_eq!(sidecar.egress[0].hosts.len(), 2);
    assert!(sidecar.egress[0].http_proxy && !sidecar.egress[1].http_proxy);
    assert_eq!(&*sidecar.egress[1].hosts[0].namespace, "~");
    assert_eq!(sidecar.ingress[0].port.0, 9080);
    let left_out = parse_yaml(ObjectKind::Sidecar, yaml)
        .expect("read")
        .left_out;
    assert!(
        left_out[0]
            .to_string()
            .starts_with("Sidecar a/s: spec.egress[0].hosts[2]: \"bad\"")
    );
}

#[test]
fn an_istio_gateway_is_read() {
    let gateway = read!(
        Gateway,
        "
metadata: {name: g, namespace: a}
spec:
  selector: {istio: eastwestgateway}
  servers:
  - {port: {number: 15443, protocol: TLS, name: tls}, hosts: ['*.local'], tls: {mode: AUTO_PASSTHROUGH}}
  - {port: {number: 80, protocol: HTTP, name: http}, hosts: ['*']}
"
    );
    assert!(gateway.servers[0].is_auto_passthrough());
    assert_eq!(gateway.servers[1].tls, None);
    assert_eq!(gateway.servers[1].protocol, Protocol::Http);
}

#[test]
fn tls_settings_of_a_gateway_server_are_read() {
    let gateway = read!(
        Gateway,
        "
metadata: {name: g, namespace: a}
spec:
  servers:
  - port: {number: 443, protocol: HTTPS, name: https}
    name: public
    hosts: [./a.example.com]
    tls:
      mode: MUTUAL
      httpsRedirect: true
      serverCertificate: /etc/tls.crt
      privateKey: /etc/tls.key
      caCertificates: /etc/ca.crt
      subjectAltNames: [client]
      minProtocolVersion: TLSV1_2
      cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]
"
    );
    let [server] = gateway.servers.as_slice() else {
        panic!("{gateway:?}");
    };
    assert!(server.is_https() && !server.is_passthrough());
    assert_eq!(&*server.stat_prefix, "public");
    let tls = server.tls.as_ref().expect("TLS settings");
    assert_eq!(tls.mode, ServerTlsMode::Mutual);
    assert!(tls.https_redirect);
    let paths = [&tls.certificate, &tls.private_key, &tls.roots];
    let paths = paths.map(|path| &**path);
    assert_eq!(paths, ["/etc/tls.crt", "/etc/tls.key", "/etc/ca.crt"]);
    assert_eq!(tls.client_names, [Arc::from("client")]);
    assert_eq!(
        (tls.min_version, tls.max_version),
        (Some(TlsVersion::V1_2), None)
    );
}

#[test]
fn errors_name_the_object_the_field_and_what_to_do() {
    let rule =
        "{metadata: {name: r, namespace: a}, spec: {host: x, trafficPolicy: {tls: {mode: MUTAL}}}}";
    assert_eq!(
        error(ObjectKind::DestinationRule, rule),
        "DestinationRule a/r: spec.trafficPolicy.tls.mode: \"MUTAL\" is unknown; use one of \
         DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL"
    );
    let service = "{metadata: {name: s, namespace: a}, spec: {ports: [{port: 80}, {port: 70000}]}}";
    assert_eq!(
        error(ObjectKind::Service, service),
        "Service a/s: spec.ports[1].port: 70000 is not a port; use 1 to 65535"
    );
    let wrong_type = "{metadata: {name: s, namespace: a}, spec: {selector: {app: {}}}}";
    let told = error(ObjectKind::Service, wrong_type);
    assert!(
        told.starts_with("Service a/s: spec.selector.app: invalid type: map"),
        "{told}"
    );
    let number = "{metadata: {name: p, labels: {version: 1}}}";
    let told = error(ObjectKind::Pod, number);
    assert!(
        told.starts_with("Pod default/p: metadata.labels.version: "),
        "{told}"
    );
    assert_eq!(
        error(ObjectKind::Sidecar, "{metadata: {}}"),
        "a Sidecar has no metadata.name; give it one"
    );
    let told = error(ObjectKind::Gateway, "text");
    assert!(told.starts_with("a Gateway cannot be read: "), "{told}");
}

#[test]
fn the_name_of_an_object_that_cannot_be_read_is_known() {
    let json =
        br#"{"metadata":{"name":"r","namespace":"a","resourceVersion":"7","labels":3},"spec":[]}"#;
    let identity = identify(ObjectKind::DestinationRule, json).expect("named");
    assert_eq!(
        (&*identity.meta.name, &*identity.resource_version),
        ("r", "7")
    );
}

#[test]
fn imports_keep_their_valid_addresses_sorted() {
    let import = read!(
        ServiceImport,
        "{metadata: {name: i, namespace: a}, spec: {ips: [10.0.0.2, x, 10.0.0.1]}}"
    );
    assert_eq!(import.ips.len(), 2);
    assert!(import.ips.is_sorted());
}

/// A JSON value of any shape, with names that manifests use among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("metadata".to_owned()),
        Just("spec".to_owned()),
        Just("status".to_owned()),
        Just("name".to_owned()),
        Just("ports".to_owned()),
        Just("endpoints".to_owned()),
        Just("trafficPolicy".to_owned()),
        "[a-zA-Z/.]{0,8}",
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Replaces the value at a random path.
fn graft(value: &mut Value, path: &[prop::sample::Index], graft_in: Value) {
    let Some((step, rest)) = path.split_first() else {
        *value = graft_in;
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = step.index(map.len());
            if let Some(inner) = map.values_mut().nth(at) {
                graft(inner, rest, graft_in);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = step.index(list.len());
            graft(&mut list[at], rest, graft_in);
        }
        other => *other = graft_in,
    }
}

proptest! {
    #[test]
    fn no_json_panics(value in any_json()) {
        let json = value.to_string();
        for kind in ObjectKind::ALL {
            let _ = parse(*kind, json.as_bytes(), &Defaults::default());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        for kind in ObjectKind::ALL {
            prop_assert!(parse(*kind, &bytes, &Defaults::default()).is_err());
        }
    }

    #[test]
    fn no_change_of_a_real_manifest_panics(
        pick in any::<prop::sample::Index>(),
        path in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        other in any_json(),
    ) {
        let manifests = scenario_manifests();
        let mut manifest = pick.get(manifests).clone();
        if let Some(kind) = kind_of(&manifest) {
            graft(&mut manifest, &path, other);
            let json = manifest.to_string();
            if let Err(error) = parse(kind, json.as_bytes(), &Defaults::default()) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }

    #[test]
    fn a_cut_manifest_is_refused(pick in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>()) {
        let manifests = scenario_manifests();
        let manifest = pick.get(manifests);
        if let Some(kind) = kind_of(manifest) {
            let json = manifest.to_string();
            let cut = cut.index(json.len());
            prop_assert!(parse(kind, &json.as_bytes()[..cut], &Defaults::default()).is_err());
        }
    }

    #[test]
    fn no_mesh_yaml_panics(text in "[ -~\n]{0,120}", value in any_json()) {
        for yaml in [text, value.to_string()] {
            let _ = mesh_config::parse(&yaml, "cluster.local");
            let _ = mesh_networks::parse(&yaml);
        }
    }

    #[test]
    fn documents_hold_every_line_of_their_text(lines in prop::collection::vec("(---|--- a|# c|a: 1|  b|)", 0..12)) {
        let text = lines.join("\n");
        for document in yaml_documents(&text) {
            let begin = text.lines().nth(document.line - 1);
            prop_assert_eq!(document.text.lines().next(), begin);
        }
    }
}

#[test]
fn a_host_name_from_the_mesh_is_a_service_of_the_domain() {
    let defaults = Defaults {
        domain: "mesh.example".into(),
    };
    let json = json!({"metadata": {"name": "r", "namespace": "a"}, "spec": {"host": "web"}});
    let parsed = parse(
        ObjectKind::DestinationRule,
        json.to_string().as_bytes(),
        &defaults,
    );
    let Ok(Parsed {
        object: Object::DestinationRule(rule),
        ..
    }) = parsed
    else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        Hostname::from(&*rule.host),
        Hostname::from("web.a.svc.mesh.example")
    );
}

#[test]
fn a_pod_below_a_headless_service_has_a_name_there() {
    let name = |spec: &str| {
        let yaml = format!("{{metadata: {{name: db-0, namespace: a}}, spec: {{{spec}}}}}");
        read!(Pod, &yaml).dns_name.to_string()
    };
    assert_eq!(name("subdomain: db"), "db-0.db");
    assert_eq!(name("hostname: first, subdomain: db"), "first.db");
    assert_eq!(name("hostname: first"), "");
}
