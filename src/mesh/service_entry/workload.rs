//! The workload that a `WorkloadEntry` is.

use std::sync::Arc;

use super::Source;
use crate::model::{
    ClusterId, Labels, Locality, Namespace, NetworkId, TlsMode, Workload, WorkloadEntry,
    WorkloadTarget, WorkloadTemplate,
};

/// The workload of a `WorkloadEntry`. `network` is what label, namespace and
/// `meshNetworks` say of it, for remote clusters only: it fills the network
/// label but, as in istiod, does not say how the workload is reached
/// (split-horizon §2).
pub fn workload(
    entry: &WorkloadEntry,
    network: Option<&NetworkId>,
    source: &Source<'_>,
) -> Arc<Workload> {
    let target = WorkloadTarget {
        labels: entry.target.labels.overlaid(&entry.labels),
        ..entry.target.clone()
    };
    // istiod: WorkloadNameFromWorkloadEntry looks at the object's labels only.
    let label = entry.labels.get("service.istio.io/workload-name");
    let shown = Some(&*entry.group).filter(|group| !group.is_empty());
    let shown = shown.or(label).unwrap_or(&entry.meta.name);
    let name = Names {
        object: Arc::clone(&entry.meta.name),
        shown,
        namespace: &entry.meta.namespace,
    };
    Arc::new(of_target(&target, name, network, source))
}

/// What a workload is called.
pub(super) struct Names<'a> {
    /// The object's own name.
    pub(super) object: Arc<str>,
    /// The name that telemetry shows.
    pub(super) shown: &'a str,
    /// Namespace.
    pub(super) namespace: &'a Namespace,
}

/// The workload of a spec whose labels are already joined with the object's.
pub(super) fn of_target(
    target: &WorkloadTarget,
    names: Names<'_>,
    network: Option<&NetworkId>,
    source: &Source<'_>,
) -> Workload {
    let locality = locality(target);
    let network_label = target.network.as_ref().or(network);
    let labels = topology_labels(&target.labels, &locality, source.cluster, network_label);
    let metadata = telemetry_metadata(names.shown, names.namespace, &labels, source.cluster);
    let template = WorkloadTemplate {
        namespace: names.namespace.clone(),
        cluster: source.cluster.clone(),
        network: target.network.clone(),
        tls_mode: tls_mode(target),
        identity: identity(target, names.namespace, &source.mesh.trust_domain),
        draining: source.features.is_draining(&labels),
        metadata,
        ports: target.ports.iter().cloned().collect(),
    };
    Workload {
        name: names.object,
        locality,
        labels,
        node: Arc::from(""),
        dns_name: Arc::from(""),
        template: Arc::new(template),
    }
}

/// `labels` with the labels of where a workload runs; an existing network
/// label stays (istiod: `AugmentLabels`, without the node).
pub fn topology_labels(
    labels: &Labels,
    locality: &Locality,
    cluster: &ClusterId,
    network: Option<&NetworkId>,
) -> Labels {
    const NETWORK: &str = "topology.istio.io/network";
    let unlabelled = labels.get(NETWORK).is_none_or(str::is_empty);
    let network = network.filter(|_| unlabelled).map_or("", |network| network);
    let known = [
        ("topology.kubernetes.io/region", locality.region()),
        ("topology.kubernetes.io/zone", locality.zone()),
        ("topology.istio.io/subzone", locality.subzone()),
        ("topology.istio.io/cluster", cluster),
        (NETWORK, network),
    ];
    let known = known.into_iter().filter(|(_, value)| !value.is_empty());
    labels.overlaid(&known.collect())
}

/// `istio.workload`: `workload;namespace;canonical name;canonical
/// revision;cluster` (split-horizon §1.4).
pub fn telemetry_metadata(
    workload: &str,
    namespace: &Namespace,
    labels: &Labels,
    cluster: &ClusterId,
) -> Arc<str> {
    let first = |keys: [&str; 3]| keys.into_iter().find_map(|key| labels.get(key));
    let name = first([
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ]);
    let revision = first([
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    let name = name.unwrap_or(workload);
    // The default is not worth its bytes.
    let revision = revision
        .filter(|text| *text != "latest")
        .unwrap_or_default();
    Arc::from(format!(
        "{workload};{namespace};{name};{revision};{cluster}"
    ))
}

fn locality(target: &WorkloadTarget) -> Locality {
    if !target.locality.is_empty() {
        return Locality::parse(&target.locality);
    }
    let labels = &target.labels;
    let label = labels.get("topology.istio.io/locality");
    let label = label.or_else(|| labels.get("istio-locality"));
    match label {
        // A label value cannot hold a slash: dots stand for it.
        Some(text) if !text.contains('/') => Locality::parse(&text.replace('.', "/")),
        Some(text) => Locality::parse(text),
        None => Locality::default(),
    }
}

/// The label, else mesh mTLS where a service account is known.
fn tls_mode(target: &WorkloadTarget) -> TlsMode {
    match target.labels.get("security.istio.io/tlsMode") {
        Some(text) => TlsMode::parse(text),
        None if target.service_account.is_empty() => TlsMode::Disabled,
        None => TlsMode::Istio,
    }
}

fn identity(target: &WorkloadTarget, namespace: &Namespace, trust_domain: &str) -> Arc<str> {
    let account = &target.service_account;
    if account.is_empty() {
        return Arc::from("");
    }
    Arc::from(format!(
        "spiffe://{trust_domain}/ns/{namespace}/sa/{account}"
    ))
}
