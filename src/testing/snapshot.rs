//! Small snapshots, proxies, and what a proxy gets of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::mesh::{HostServices, MeshState, Peers, ServiceState, Snapshot, Update};
use crate::model::{
    Address, ClusterId, DestinationRule, Discoverability, Endpoint, ExportTo, Health, Hostname,
    InterceptionMode, Labels, Locality, Namespace, NetworkTable, NodeKind, ObjectMeta,
    PersistentSession, PolicySettings, Protocol, Provider, Proxy, ProxyIps, Registration,
    Resolution, Service, ServiceKey, ServicePort, ShardKey, Subset, TargetPort, TlsMode,
    TrafficDistribution, TrafficPolicy, Workload, WorkloadTemplate,
};
use crate::wire::Memo;

/// The Kubernetes cluster of everything made here.
pub const CLUSTER: &str = "c1";

/// Makes one service.
#[derive(Debug, Clone)]
pub struct ServiceBuilder {
    /// Definition.
    pub service: Service,
    /// Rules that some proxy may use.
    pub rules: Vec<DestinationRule>,
    endpoints: Vec<Endpoint>,
}

/// A Kubernetes service `name` in `namespace`, without ports.
pub fn service(name: &str, namespace: &str) -> ServiceBuilder {
    ServiceBuilder {
        service: Service {
            key: ServiceKey {
                hostname: Hostname::from(format!("{name}.{namespace}.svc.cluster.local")),
                namespace: Namespace::from(namespace),
            },
            meta: ObjectMeta {
                created: Arc::from("2026-01-01T00:00:00Z"),
                name: Arc::from(name),
                namespace: Namespace::from(namespace),
            },
            provider: Provider::Kubernetes,
            ports: Vec::new(),
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
        },
        rules: Vec::new(),
        endpoints: Vec::new(),
    }
}

/// A service of a `ServiceEntry` for `host` outside the mesh.
pub fn external(host: &str, namespace: &str, resolution: Resolution) -> ServiceBuilder {
    let mut made = service(host, namespace);
    made.service.key.hostname = Hostname::from(host);
    made.service.provider = Provider::External;
    made.service.mesh_external = true;
    made.service.resolution = resolution;
    made
}

impl ServiceBuilder {
    /// With a port.
    #[must_use]
    pub fn port(mut self, name: &str, number: u16, protocol: Protocol) -> Self {
        let name = Arc::from(name);
        self.service.ports.push(ServicePort {
            name,
            number,
            protocol,
        });
        self
    }

    /// With a cluster IP in [`CLUSTER`].
    #[must_use]
    pub fn vip(mut self, address: IpAddr) -> Self {
        self.registration().vips.push(address);
        self
    }

    /// Selecting pods with these labels, each port leading to a target port.
    #[must_use]
    pub fn selects(mut self, labels: &[(&str, &str)], targets: &[(u16, TargetPort)]) -> Self {
        let registration = self.registration();
        registration.selector = labels.iter().copied().collect();
        registration.target_ports = targets.to_vec();
        self
    }

    /// Changed as wanted.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Service)) -> Self {
        change(&mut self.service);
        self
    }

    /// With a rule for all clients.
    #[must_use]
    pub fn rule(mut self, settings: PolicySettings, subsets: &[&str]) -> Self {
        let subset = |name: &&str| Subset {
            name: Arc::from(*name),
            labels: [("version", *name)].into_iter().collect(),
            policy: TrafficPolicy::default(),
        };
        self.rules.push(DestinationRule {
            meta: self.service.meta.clone(),
            host: Arc::clone(self.service.key.hostname.as_arc()),
            export_to: Some(ExportTo::Everyone),
            workload_selector: Labels::default(),
            policy: TrafficPolicy {
                base: settings,
                ports: Vec::new(),
            },
            subsets: subsets.iter().map(subset).collect(),
        });
        self
    }

    /// With a ready endpoint for the service port `port_name`.
    #[must_use]
    pub fn endpoint(self, address: &str, port: u16, port_name: &str) -> Self {
        self.endpoint_of(address, port, port_name, Workload::default())
    }

    /// As [`Self::endpoint`], with a sidecar and an identity.
    #[must_use]
    pub fn peer(self, address: &str, port: u16, port_name: &str, identity: &str) -> Self {
        let template = WorkloadTemplate {
            tls_mode: TlsMode::Istio,
            identity: Arc::from(identity),
            ..WorkloadTemplate::default()
        };
        let workload = Workload {
            template: Arc::new(template),
            ..Workload::default()
        };
        self.endpoint_of(address, port, port_name, workload)
    }

    /// As [`Self::endpoint`], of this workload; in [`CLUSTER`] where it names none.
    #[must_use]
    pub fn endpoint_of(
        mut self,
        address: &str,
        port: u16,
        port_name: &str,
        mut workload: Workload,
    ) -> Self {
        if workload.template.cluster.is_empty() {
            Arc::make_mut(&mut workload.template).cluster = ClusterId::from(CLUSTER);
        }
        let ip = address.parse().map(Address::Ip);
        self.endpoints.push(Endpoint {
            address: ip.unwrap_or_else(|_| Address::Hostname(Arc::from(address))),
            port,
            health: Health::Healthy,
            discoverability: Discoverability::Everywhere,
            mtls_disabled: false,
            weight: 1,
            port_name: Arc::from(port_name),
            workload: Arc::new(workload),
        });
        self
    }

    fn registration(&mut self) -> &mut Registration {
        let registrations = &mut self.service.registrations;
        registrations.entry(ClusterId::from(CLUSTER)).or_default()
    }

    fn build(self, mesh: &MeshState) -> ServiceState {
        let shard = ShardKey {
            provider: self.service.provider,
            cluster: ClusterId::from(CLUSTER),
        };
        let endpoints = vec![(shard, Arc::new(self.endpoints.into()))];
        let rules: Arc<[_]> = self.rules.into_iter().map(Arc::new).collect();
        ServiceState {
            peers: Arc::new(Peers::of(&self.service, &rules, &endpoints)),
            service: Arc::new(self.service),
            endpoints,
            rules,
            networks: Arc::new(NetworkTable::default()),
            mesh: Arc::clone(&mesh.config),
            features: Arc::clone(&mesh.features),
            eds: Memo::default(),
            clusters: Memo::default(),
            sni_chains: Memo::default(),
        }
    }
}

/// A snapshot of these services.
pub fn snapshot(services: impl IntoIterator<Item = ServiceBuilder>) -> Arc<Snapshot> {
    snapshot_of(MeshState::default(), services)
}

/// A snapshot of these services in this mesh.
pub fn snapshot_of(
    mesh: MeshState,
    services: impl IntoIterator<Item = ServiceBuilder>,
) -> Arc<Snapshot> {
    let mut hosts: BTreeMap<_, HostServices> = BTreeMap::new();
    for service in services {
        let state = Arc::new(service.build(&mesh));
        let host = hosts
            .entry(Arc::clone(state.service.key.hostname.as_arc()))
            .or_default();
        host.push(state);
    }
    let services = hosts.into_iter();
    let update = Update {
        services: services.map(|(h, s)| (Hostname::shared(h), s)).collect(),
        mesh: Some(Arc::new(mesh)),
        ..Update::default()
    };
    Arc::new(Snapshot::default().next(update))
}

/// A sidecar in [`CLUSTER`] and `namespace`, with interception and IPv4.
pub fn sidecar(namespace: &str) -> Proxy {
    Proxy {
        id: Arc::from(format!(
            "sidecar~10.0.0.9~client.{namespace}~{namespace}.svc.cluster.local"
        )),
        kind: NodeKind::Sidecar,
        name: Arc::from("client"),
        namespace: Namespace::from(namespace),
        domain: Arc::from(format!("{namespace}.svc.cluster.local")),
        ips: ProxyIps(vec![IpAddr::from([10, 0, 0, 9])]),
        cluster: ClusterId::from(CLUSTER),
        network: None,
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

/// A sidecar that applications dial.
pub fn dialled_sidecar(namespace: &str) -> Proxy {
    Proxy {
        interception: InterceptionMode::None,
        ..sidecar(namespace)
    }
}

/// A gateway with the label `istio`.
pub fn router(namespace: &str, istio: &str) -> Proxy {
    Proxy {
        kind: NodeKind::Router,
        labels: [("istio", istio)].into_iter().collect(),
        ..sidecar(namespace)
    }
}
