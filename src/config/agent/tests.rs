use clap::{Args, Command, FromArgMatches};

use super::*;
use serde_json::json;

/// The configuration of these arguments and variables.
fn configure(
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<AgentConfig, AgentConfigError> {
    let root = tempfile::NamedTempFile::new().expect("a file");
    let root = root.path().display().to_string();
    let base = ["agent", "--xds-root-ca", &root, "--ca-root-ca", &root];
    let base = base
        .iter()
        .chain(["--name", "web-1", "--namespace", "shop"].iter());
    let all = base.chain(arguments.iter());
    // The variables of the test's own process must not count.
    let command = AgentArgs::augment_args(Command::new("agent"))
        .args_override_self(true)
        .mut_args(|a| a.env(None::<&str>));
    let matches = command.try_get_matches_from(all).expect("arguments");
    let args = AgentArgs::from_arg_matches(&matches).expect("arguments");
    let variables = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    args.with_environment(variables.collect())
}

/// As [`configure`], of settings that are right.
pub(crate) fn read(arguments: &[&str], variables: &[(&str, &str)]) -> AgentConfig {
    configure(arguments, variables).expect("a configuration")
}

#[test]
fn a_router_asks_for_its_own_network_by_default() {
    let arguments = ["router", "--ip", "10.0.0.1", "--network", "n1"];
    let view = |config: AgentConfig| config.node.metadata.get("REQUESTED_NETWORK_VIEW").cloned();
    assert_eq!(view(read(&arguments, &[])), Some(json!("n1")));
    let asked = [("ISTIO_META_REQUESTED_NETWORK_VIEW", "n1,n2")];
    assert_eq!(view(read(&arguments, &asked)), Some(json!("n1,n2")));
    let all = [("ISTIO_META_REQUESTED_NETWORK_VIEW", "")];
    assert_eq!(view(read(&arguments, &all)), Some(json!("")));
    let sidecar = ["sidecar", "--ip", "10.0.0.1", "--network", "n1"];
    assert_eq!(view(read(&sidecar, &[])), None);
}

#[test]
fn the_node_says_who_the_pod_is() {
    let config = read(
        &[
            "proxy",
            "sidecar",
            "--ip",
            "10.0.0.1,fd00::1",
            "--service-account",
            "web",
            "--cluster-id",
            "c1",
        ],
        &[
            ("ISTIO_META_WORKLOAD_NAME", "web"),
            (
                "ISTIO_METAJSON_LABELS",
                r#"{"app":"web","istio-locality":"eu.a.b"}"#,
            ),
            ("ISTIO_METAJSON_EXTRA", r#"{"TEAM":{"name":"x"}}"#),
            ("OTHER", "unseen"),
        ],
    );
    let node = &config.node;
    assert_eq!(
        node.id(),
        "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local"
    );
    assert_eq!(
        node.identity.to_string(),
        "spiffe://cluster.local/ns/shop/sa/web"
    );
    assert_eq!(node.locality, Locality::parse("eu/a/b"));
    let labels = json!({"app": "web", "istio-locality": "eu.a.b"});
    let expected = json!({
        "CLUSTER_ID": "c1",
        "ENVOY_PROMETHEUS_PORT": 15090,
        "ENVOY_STATUS_PORT": 15021,
        "INSTANCE_IPS": "10.0.0.1,fd00::1",
        "LABELS": labels,
        "NAME": "web-1",
        "NAMESPACE": "shop",
        "PROXY_CONFIG": {},
        "SERVICE_ACCOUNT": "web",
        "STATIC_LABELS": labels,
        "TEAM": {"name": "x"},
        "WORKLOAD_NAME": "web",
    });
    assert_eq!(serde_json::Value::Object(node.metadata.clone()), expected);
}

#[test]
fn settings_come_from_the_proxy_config_and_flags_win() {
    let proxy_config = "
        discoveryAddress: istiod.example:15012
        binaryPath: /opt/envoy
        configPath: /run/proxy
        proxyAdminPort: 15100
        statusPort: 15120
        concurrency: 3
        drainDuration: 20s
        terminationDrainDuration: 1.5s
        proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true', ISTIO_META_NETWORK: n1}
        proxyStatsMatcher: {inclusionRegexps: ['.*']}
        tracing: {sampling: 5}";
    let arguments = ["--ip", "10.0.0.1", "--proxy-config", proxy_config];
    let config = read(&arguments, &[]);
    assert_eq!(config.discovery.host, "istiod.example");
    let check = config.discovery.tls.as_ref().expect("TLS");
    assert_eq!(check.name, "istiod.example");
    let envoy = &config.envoy;
    assert_eq!(envoy.binary, PathBuf::from("/opt/envoy"));
    assert_eq!(envoy.folder, PathBuf::from("/run/proxy"));
    assert_eq!((envoy.admin_port, envoy.status_port), (15100, 15120));
    assert_eq!(envoy.concurrency, Some(3));
    assert_eq!(envoy.stats.regexps, [".*"]);
    assert_eq!(config.drain.duration, Duration::from_secs(20));
    assert_eq!(config.drain.termination, Duration::from_millis(1500));
    assert_eq!(config.node.metadata["NETWORK"], "n1");
    assert_eq!(
        config.node.metadata["PROXY_CONFIG"]["tracing"]["sampling"],
        5
    );
    assert!(config.dns.is_some());

    let more = [
        &arguments[..],
        &["--concurrency", "1", "--admin-port", "15200"],
    ]
    .concat();
    let config = read(&more, &[]);
    assert_eq!(config.envoy.concurrency, Some(1));
    assert_eq!(config.envoy.admin_port, 15200);
}

#[test]
fn a_control_plane_at_localhost_has_istiods_name() {
    let base = ["--ip", "10.0.0.1"];
    let at = |more: &[&'static str]| read(&[&base[..], more].concat(), &[]);
    let name = |config: &AgentConfig| config.discovery.tls.as_ref().map(|t| t.name.clone());
    let config = at(&["--discovery-address", "localhost:15012"]);
    assert_eq!(name(&config).as_deref(), Some("istiod.istio-system.svc"));
    let config = at(&[
        "--discovery-address",
        "[::1]:15012",
        "--istiod-san",
        "istiod.x",
    ]);
    assert_eq!(config.discovery.host, "::1");
    assert_eq!(name(&config).as_deref(), Some("istiod.x"));
    let plain = ["--proxy-config", "controlPlaneAuthPolicy: NONE"];
    assert_eq!(name(&at(&plain)), None);
}

fn authority(config: &AgentConfig) -> &Authority {
    match &config.certificates {
        CertificateSource::Authority(authority) => authority,
        CertificateSource::Files(_) => panic!("certificates are asked for"),
    }
}

#[test]
fn the_certificate_service_is_the_control_plane_unless_it_is_named() {
    let base = ["--ip", "10.0.0.1", "--discovery-address", "10.9.9.9:15012"];
    let at = |more: &[&'static str]| read(&[&base[..], more].concat(), &[]);
    let config = at(&["--istiod-san", "istiod.x"]);
    assert_eq!(
        authority(&config).upstream,
        config.discovery_with_ca_roots(&config)
    );
    // istiod: the name is overridden for the control plane only.
    let config = at(&["--istiod-san", "istiod.x", "--ca-addr", "ca.example:15012"]);
    let tls = authority(&config).upstream.tls.clone().expect("TLS");
    assert_eq!(tls.name, "ca.example");
    let config = at(&["--ca-addr", "10.9.9.9:15010"]);
    assert_eq!(authority(&config).upstream.tls, None);
}

impl AgentConfig {
    /// The server of discovery, checked with what certificates' server is.
    fn discovery_with_ca_roots(&self, of: &Self) -> Upstream {
        let mut upstream = self.discovery.clone();
        let roots = authority(of).upstream.tls.as_ref().map(|t| t.roots.clone());
        if let (Some(tls), Some(roots)) = (&mut upstream.tls, roots) {
            tls.roots = roots;
        }
        upstream
    }
}

#[test]
fn keys_are_ecdsa_unless_rsa_is_asked_for() {
    let key = |more: &[&'static str]| {
        let config = configure(&[&["--ip", "10.0.0.1"], more].concat(), &[])?;
        Ok::<_, AgentConfigError>(authority(&config).key)
    };
    assert_eq!(key(&[]).unwrap(), KeyKind::P256);
    assert_eq!(key(&["--ecc-curve", "P384"]).unwrap(), KeyKind::P384);
    assert_eq!(
        key(&["--ecc-signature-algorithm", "RSA"]).unwrap(),
        KeyKind::Rsa(2048)
    );
    assert_eq!(
        key(&["--workload-rsa-key-size", "4096"]).unwrap(),
        KeyKind::Rsa(4096)
    );
    assert!(key(&["--workload-rsa-key-size", "1024"]).is_err());
    assert!(key(&["--ecc-curve", "P521"]).is_err());
}

#[test]
fn wrong_settings_are_named() {
    let problem = |arguments: &[&str]| configure(arguments, &[]).unwrap_err().to_string();
    assert!(problem(&["waypoint"]).contains("\"waypoint\" is no role"));
    let twice = problem(&["--ip", "10.0.0.1", "--admin-port", "15020"]);
    assert!(twice.contains("\"15020\""), "{twice}");
    let broken = problem(&["--ip", "10.0.0.1", "--proxy-config", "concurrency: many"]);
    assert!(broken.contains("no ProxyConfig"), "{broken}");
    let roots = problem(&["--ip", "10.0.0.1", "--xds-root-ca", "/none"]);
    assert!(roots.contains("XDS_ROOT_CA"), "{roots}");
    let address = problem(&["--ip", "10.0.0.1", "--discovery-address", "istiod"]);
    assert!(address.contains("HOST:PORT"), "{address}");
}

#[test]
fn headers_come_from_variables() {
    let config = read(
        &["--ip", "10.0.0.1", "--cluster-id", "c1"],
        &[("XDS_HEADER_TENANT", "a"), ("CA_HEADER_TENANT", "b")],
    );
    let pairs = |value: &str| {
        let pairs = [("clusterid", "c1"), ("tenant", value)];
        Headers(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    };
    assert_eq!(config.discovery_headers, pairs("a"));
    assert_eq!(authority(&config).headers, pairs("b"));
    let printed = format!("{:?}", pairs("hidden"));
    assert!(printed.contains("tenant") && !printed.contains("hidden"));
}
