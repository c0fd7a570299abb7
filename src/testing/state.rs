//! Builders of services, endpoints, gateways and proxies, as the registry would
//! have made them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::mesh::{EdsKey, Peers, ServiceState};
use crate::model::{
    Address, ClusterId, ClusterName, DestinationRule, Discoverability, Endpoint, ExportTo,
    Features, GatewayAddress, Health, Hostname, InterceptionMode, Labels, Locality, MeshConfig,
    Namespace, NetworkGateway, NetworkId, NetworkTable, NetworkView, NodeKind, ObjectMeta,
    PersistentSession, Protocol, Provider, Proxy, ProxyIps, Resolution, Service, ServiceKey,
    ServicePort, ShardKey, TlsMode, TrafficDistribution, TrafficPolicy, Workload, WorkloadTemplate,
};
use crate::wire::Memo;

/// Host of the service that [`StateBuilder`] makes.
pub const HOST: &str = "example.ns.svc.cluster.local";

/// Makes an [`Endpoint`] on service port `http`.
#[derive(Debug, Clone)]
pub struct EndpointBuilder {
    endpoint: Endpoint,
    workload: Workload,
    template: WorkloadTemplate,
    labels: Vec<(String, String)>,
}

/// A ready endpoint with a sidecar, on port 8080 of `address` (an IP, several
/// joined by `+`, a path, a host name, or nothing for an unknown address).
pub fn endpoint(address: &str) -> EndpointBuilder {
    let all: Result<Vec<IpAddr>, _> = address.split('+').map(str::parse).collect();
    let address = match all {
        Ok(all) => match all.as_slice() {
            [one] => Address::Ip(*one),
            all => Address::Ips(all.into()),
        },
        Err(_) if address.is_empty() => Address::Unknown,
        Err(_) if address.starts_with('/') => Address::Unix(Arc::from(address)),
        Err(_) => Address::Hostname(Arc::from(address)),
    };
    EndpointBuilder {
        endpoint: Endpoint {
            address,
            port: 8080,
            health: Health::Healthy,
            discoverability: Discoverability::Everywhere,
            mtls_disabled: false,
            weight: 1,
            port_name: Arc::from("http"),
            workload: Arc::default(),
        },
        workload: Workload::default(),
        template: WorkloadTemplate {
            namespace: Namespace::from("ns"),
            tls_mode: TlsMode::Istio,
            ..WorkloadTemplate::default()
        },
        labels: vec![("app".to_owned(), "example".to_owned())],
    }
}

impl EndpointBuilder {
    /// On this network (empty for none), in this cluster.
    #[must_use]
    pub fn on(mut self, network: &str, cluster: &str) -> Self {
        self.template.network = NetworkId::from_text(network);
        self.template.cluster = ClusterId::from(cluster);
        self
    }

    /// In this locality.
    #[must_use]
    pub fn at(mut self, locality: &str) -> Self {
        self.workload.locality = Locality::parse(locality);
        self
    }

    /// On this node.
    #[must_use]
    pub fn node(mut self, node: &str) -> Self {
        self.workload.node = Arc::from(node);
        self
    }

    /// With a further label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// In this state.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.endpoint.health = health;
        self
    }

    /// With this weight.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.endpoint.weight = weight;
        self
    }

    /// On this port; 0 for a unix socket.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.endpoint.port = port;
        self
    }

    /// Serving this service port.
    #[must_use]
    pub fn serving(mut self, port_name: &str) -> Self {
        self.endpoint.port_name = Arc::from(port_name);
        self
    }

    /// With this TLS mode; [`TlsMode::Disabled`] for a pod without sidecar.
    #[must_use]
    pub fn tls(mut self, mode: TlsMode) -> Self {
        self.template.tls_mode = mode;
        self
    }

    /// With mTLS turned off by a `PeerAuthentication`.
    #[must_use]
    pub fn mtls_disabled(mut self) -> Self {
        self.endpoint.mtls_disabled = true;
        self
    }

    /// Only for proxies of its own cluster.
    #[must_use]
    pub fn same_cluster(mut self) -> Self {
        self.endpoint.discoverability = Discoverability::SameCluster;
        self
    }

    /// The endpoint, with the labels that istiod adds.
    pub fn build(&self) -> Endpoint {
        let (mut workload, mut template) = (self.workload.clone(), self.template.clone());
        let here = &workload.locality;
        let network = template.network.as_deref().unwrap_or_default();
        let topology = [
            ("topology.kubernetes.io/region", here.region()),
            ("topology.kubernetes.io/zone", here.zone()),
            ("topology.istio.io/subzone", here.subzone()),
            ("topology.istio.io/cluster", &template.cluster),
            ("topology.istio.io/network", network),
            ("kubernetes.io/hostname", &workload.node),
        ];
        let added = topology.iter().filter(|(_, value)| !value.is_empty());
        let own = self.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        workload.labels = added.copied().chain(own).collect();
        template.draining = Features::default().is_draining(&workload.labels);
        template.metadata = Arc::from(format!(";ns;example;;{}", template.cluster));
        workload.template = Arc::new(template);
        Endpoint {
            workload: Arc::new(workload),
            ..self.endpoint.clone()
        }
    }
}

/// Makes a [`ServiceState`]: service [`HOST`] with port 80 `http`.
#[derive(Debug, Clone)]
pub struct StateBuilder {
    /// Definition.
    pub service: Service,
    /// Mesh settings.
    pub mesh: MeshConfig,
    /// Switches.
    pub features: Features,
    /// Rules, by which views number them.
    pub rules: Vec<DestinationRule>,
    /// Endpoints by shard.
    pub endpoints: BTreeMap<ShardKey, Vec<Endpoint>>,
    /// Gateways with an address.
    pub resolved: Vec<NetworkGateway>,
    /// Gateways as declared.
    pub declared: Vec<NetworkGateway>,
}

/// A service without endpoints.
pub fn state() -> StateBuilder {
    StateBuilder {
        service: service(),
        mesh: MeshConfig::default(),
        features: Features::default(),
        rules: Vec::new(),
        endpoints: BTreeMap::new(),
        resolved: Vec::new(),
        declared: Vec::new(),
    }
}

/// Service [`HOST`]: ports 80 `http` and 53 `dns` (UDP).
pub fn service() -> Service {
    let port = |name: &str, number, protocol| ServicePort {
        name: Arc::from(name),
        number,
        protocol,
    };
    Service {
        key: ServiceKey {
            hostname: Hostname::from(HOST),
            namespace: Namespace::from("ns"),
        },
        meta: ObjectMeta::default(),
        provider: Provider::Kubernetes,
        ports: vec![
            port("dns", 53, Protocol::Udp),
            port("http", 80, Protocol::Http),
        ],
        resolution: Resolution::ClientSideLb,
        mesh_external: false,
        export_to: ExportTo::Everyone,
        labels: Labels::default(),
        addresses: Vec::new(),
        registrations: BTreeMap::new(),
        node_local: false,
        cluster_local: false,
        distribution: TrafficDistribution::Any,
        persistent_session: PersistentSession::None,
        logical_dns: false,
        subject_alt_names: Vec::new(),
    }
}

impl StateBuilder {
    /// Adds an endpoint to the shard of its cluster.
    #[must_use]
    pub fn with(mut self, endpoint: &EndpointBuilder) -> Self {
        let endpoint = endpoint.build();
        let shard = ShardKey {
            provider: Provider::Kubernetes,
            cluster: endpoint.workload.template.cluster.clone(),
        };
        self.endpoints.entry(shard).or_default().push(endpoint);
        self
    }

    /// Adds a gateway: an IP address, or a host name that does not resolve.
    /// Without a cluster it is one that `meshNetworks` declares.
    #[must_use]
    pub fn gateway(mut self, network: &str, cluster: &str, address: &str, port: u16) -> Self {
        let ip = address.parse::<IpAddr>();
        let made = NetworkGateway {
            network: NetworkId::from(network),
            cluster: (!cluster.is_empty()).then(|| ClusterId::from(cluster)),
            address: match &ip {
                Ok(ip) => GatewayAddress::Ip(*ip),
                Err(_) => GatewayAddress::Hostname(Arc::from(address)),
            },
            port,
        };
        if ip.is_ok() {
            self.resolved.push(made.clone());
        }
        self.declared.push(made);
        self
    }

    /// Adds a rule; the first one is number 0.
    #[must_use]
    pub fn rule(mut self, rule: DestinationRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The state.
    pub fn build(self) -> ServiceState {
        let shards = self.endpoints.into_iter();
        let endpoints: Vec<_> = shards
            .map(|(key, list)| (key, Arc::new(list.into())))
            .collect();
        let rules: Arc<[_]> = self.rules.into_iter().map(Arc::new).collect();
        ServiceState {
            peers: Arc::new(Peers::of(&self.service, &rules, &endpoints)),
            service: Arc::new(self.service),
            endpoints,
            rules,
            networks: Arc::new(NetworkTable::new(self.resolved, self.declared)),
            mesh: Arc::new(self.mesh),
            features: Arc::new(self.features),
            eds: Memo::default(),
            clusters: Memo::default(),
            sni_chains: Memo::default(),
        }
    }
}

/// A service of 1,000 endpoints in three clusters, each a network of three zones,
/// with two gateways or none; addresses in no order.
pub fn thousand_endpoints(gateways: bool) -> ServiceState {
    let mut builder = state();
    for n in 0..3 {
        let (network, cluster) = (format!("network-{n}"), format!("cluster-{n}"));
        for at in 0..2 {
            if gateways {
                let address = format!("192.0.2.{}", n * 10 + at);
                builder = builder.gateway(&network, &cluster, &address, 15443);
            }
        }
    }
    for i in 0_u32..1_000 {
        let n = i % 3;
        let mixed = i.wrapping_mul(2_654_435_761) >> 16;
        let address = format!("10.{n}.{}.{}", (mixed >> 8) & 0xff, mixed & 0xff);
        let one = endpoint(&address)
            .on(&format!("network-{n}"), &format!("cluster-{n}"))
            .at(&format!("region-{n}/zone-{}/", i % 9 / 3))
            .node(&format!("node-{}", i % 50))
            .label("version", "v1")
            .label("pod-template-hash", "6d9f7c8b5d")
            .label("security.istio.io/tlsMode", "istio")
            .label("service.istio.io/canonical-name", "example")
            .label("service.istio.io/canonical-revision", "v1");
        builder = builder.with(&one);
    }
    builder.build()
}

/// A rule for [`HOST`] that says nothing yet.
pub fn rule() -> DestinationRule {
    DestinationRule {
        meta: ObjectMeta::default(),
        host: Arc::from(HOST),
        export_to: Some(ExportTo::Everyone),
        workload_selector: Labels::default(),
        policy: TrafficPolicy::default(),
        subsets: Vec::new(),
    }
}

/// A view of a sidecar on this network (empty for none).
pub fn view(network: &str) -> NetworkView {
    NetworkView {
        network: NetworkId::from_text(network),
        ..NetworkView::default()
    }
}

/// The key of `outbound|80||`[`HOST`] for a view.
pub fn key(view: NetworkView) -> EdsKey {
    EdsKey {
        cluster: ClusterName::outbound(80, "", &Hostname::from(HOST)),
        view,
    }
}

/// A sidecar with an IPv4 address on this network (empty for none).
pub fn proxy(network: &str, cluster: &str) -> Proxy {
    Proxy {
        id: Arc::from("sidecar~10.0.0.9~client.ns~ns.svc.cluster.local"),
        kind: NodeKind::Sidecar,
        name: Arc::from("client"),
        namespace: Namespace::from("ns"),
        domain: Arc::from("ns.svc.cluster.local"),
        ips: ProxyIps(vec![IpAddr::from([10, 0, 0, 9])]),
        cluster: ClusterId::from(cluster),
        network: NetworkId::from_text(network),
        requested_networks: Arc::default(),
        labels: Labels::default(),
        locality: Locality::default(),
        node: Arc::default(),
        service_account: Arc::default(),
        interception: InterceptionMode::Redirect,
        unprivileged: false,
        own_ports: BTreeSet::new(),
        pod_ports: Arc::default(),
        http_proxy_port: None,
        version: Arc::default(),
        extensions: Arc::default(),
    }
}
