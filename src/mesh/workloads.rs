//! What istiod derives of a workload: locality, topology labels, identity and
//! telemetry metadata (split-horizon §1.4, §2).

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;

use super::{
    intern::Interner,
    kube_state::{NodeFacts, PodFacts},
    networks::NetworkRules,
    service_entry::telemetry_metadata,
};
use crate::model::{
    ClusterId, Features, Labels, Locality, Namespace, NetworkId, TlsMode, Workload,
    WorkloadTemplate,
};

const CLUSTER: &str = "topology.istio.io/cluster";
const HOSTNAME: &str = "kubernetes.io/hostname";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const SUBZONE: &str = "topology.istio.io/subzone";
const OLD_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// Where workloads of one cluster get their facts from.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkloadSources<'a> {
    pub(super) features: &'a Features,
    pub(super) cluster: &'a ClusterId,
    pub(super) trust_domain: &'a str,
    pub(super) networks: &'a NetworkRules,
    pub(super) nodes: &'a HashMap<Arc<str>, NodeFacts, FixedState>,
}

/// Where a workload runs, as its labels tell it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) cluster: &'a ClusterId,
    pub(super) locality: &'a Locality,
    pub(super) node: &'a str,
    pub(super) network: Option<&'a NetworkId>,
}

impl WorkloadSources<'_> {
    /// The workload of a pod.
    pub(super) fn pod(
        &self,
        namespace: &Namespace,
        name: &Arc<str>,
        pod: &PodFacts,
        interner: &mut Interner,
    ) -> Workload {
        let template = &*pod.template;
        let locality = locality_label(&template.labels).unwrap_or_else(|| {
            let node = self.nodes.get(&*pod.node);
            node.map(|n| n.locality.clone()).unwrap_or_default()
        });
        let network = self
            .networks
            .network(&template.labels, pod.ips.first().copied());
        let place = Place {
            cluster: self.cluster,
            locality: &locality,
            node: &pod.node,
            network: network.as_ref(),
        };
        let labels = topology_labels(&template.labels, &place, interner);
        let metadata = telemetry_metadata(
            &template.workload_name,
            namespace,
            &template.labels,
            self.cluster,
        );
        let identity = identity(self.trust_domain, namespace, &template.service_account);
        let shared = WorkloadTemplate {
            namespace: namespace.clone(),
            cluster: self.cluster.clone(),
            network,
            tls_mode: TlsMode::parse(template.labels.get(TLS_MODE).unwrap_or_default()),
            identity: interner.text(&identity),
            draining: self.features.is_draining(&template.labels),
            metadata: interner.text(&metadata),
            ports: Arc::clone(&template.ports),
        };
        Workload {
            name: Arc::clone(name),
            locality,
            labels,
            node: Arc::clone(&pod.node),
            dns_name: Arc::clone(&pod.dns_name),
            template: interner.workload(shared),
        }
    }

    /// The network of an address that no pod stands behind.
    pub(super) fn bare_network(&self, ip: IpAddr) -> Option<NetworkId> {
        self.networks.network(&Labels::default(), Some(ip))
    }

    /// The workload of such an address: only its cluster and network are known.
    pub(super) fn bare(&self, network: Option<NetworkId>) -> Workload {
        let none = Namespace::default();
        let place = Place {
            cluster: self.cluster,
            locality: &Locality::default(),
            node: "",
            network: network.as_ref(),
        };
        let labels = place.labels().collect();
        let template = WorkloadTemplate {
            cluster: self.cluster.clone(),
            metadata: telemetry_metadata("", &none, &Labels::default(), self.cluster),
            network,
            ..WorkloadTemplate::default()
        };
        Workload {
            labels,
            template: Arc::new(template),
            ..Workload::default()
        }
    }
}

impl<'a> Place<'a> {
    /// istiod: `AugmentLabels`.
    fn labels(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let network = self.network.map_or("", |n| n);
        let pairs = [
            (REGION, self.locality.region()),
            (ZONE, self.locality.zone()),
            (SUBZONE, self.locality.subzone()),
            (CLUSTER, &**self.cluster),
            (HOSTNAME, self.node),
            (super::networks::NETWORK_LABEL, network),
        ];
        pairs.into_iter().filter(|(_, value)| !value.is_empty())
    }
}

/// `labels` with the topology labels over them. A network label that is there
/// already is the network, so it stays as it is.
pub(super) fn topology_labels(
    labels: &Labels,
    place: &Place<'_>,
    interner: &mut Interner,
) -> Labels {
    let over: Labels = place.labels().collect();
    let over = interner.labels(&over);
    interner.labels(labels).overlaid(&over)
}

/// The locality that a label asks for: dots become slashes where there is no
/// slash.
pub(super) fn locality_label(labels: &Labels) -> Option<Locality> {
    let text = ["topology.istio.io/locality", "istio-locality"]
        .iter()
        .find_map(|key| labels.get(key).filter(|value| !value.is_empty()))?;
    if text.contains('/') {
        return Some(Locality::parse(text));
    }
    Some(Locality::parse(&text.replace('.', "/")))
}

/// The locality of a node: GA label names, else the beta ones.
pub(super) fn node_locality(labels: &Labels) -> Locality {
    let first = |new: &str, old: &str| {
        let new = labels.get(new).filter(|value| !value.is_empty());
        new.or_else(|| labels.get(old))
            .unwrap_or_default()
            .to_owned()
    };
    Locality::new(
        &first(REGION, OLD_REGION),
        &first(ZONE, OLD_ZONE),
        labels.get(SUBZONE).unwrap_or_default(),
    )
}

/// `spiffe://domain/ns/namespace/sa/account`.
pub(super) fn identity(trust_domain: &str, namespace: &str, account: &str) -> String {
    if account.is_empty() {
        return String::new();
    }
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
}
