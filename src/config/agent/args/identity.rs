//! Who the proxy is.

use std::{
    net::{IpAddr, UdpSocket},
    path::PathBuf,
};

use clap::Args;

use super::Context;
use crate::config::agent::metadata::Metadata;
use crate::config::agent::{AgentConfigError, ProxyNode, pod_info, wrong};
use crate::model::{Locality, Namespace, NodeKind, SpiffeId};

#[derive(Debug, Args)]
pub(super) struct IdentityArgs {
    /// Name of the pod
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    name: Option<String>,
    /// Namespace of the pod
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Service account of the pod
    #[arg(
        long,
        env = "SERVICE_ACCOUNT",
        default_value = "default",
        value_name = "NAME"
    )]
    service_account: String,
    /// Addresses of the pod, the main one first; found out where not given
    #[arg(
        long,
        env = "INSTANCE_IP",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    ip: Vec<IpAddr>,
    /// DNS domain; NAMESPACE.svc.cluster.local where not given
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Trust domain of the identity
    #[arg(
        long,
        env = "TRUST_DOMAIN",
        default_value = "cluster.local",
        value_name = "DOMAIN"
    )]
    trust_domain: String,
    /// Kubernetes cluster of the pod
    #[arg(long, env = "ISTIO_META_CLUSTER_ID", value_name = "CLUSTER")]
    cluster_id: Option<String>,
    /// Network of the pod
    #[arg(long, env = "ISTIO_META_NETWORK", value_name = "NETWORK")]
    network: Option<String>,
    /// Networks whose endpoints the proxy wants; a router's own by default
    #[arg(long, env = "REQUESTED_NETWORK_VIEW", value_name = "NETWORK,…")]
    requested_network_view: Option<String>,
    /// How traffic gets to the proxy: REDIRECT, TPROXY or NONE
    #[arg(long, env = "ISTIO_META_INTERCEPTION_MODE", value_name = "MODE")]
    interception_mode: Option<String>,
    /// Where the pod runs; a label istio-locality wins
    #[arg(long, value_name = "REGION[/ZONE[/SUBZONE]]")]
    locality: Option<String>,
    /// Labels of the pod, from the downward API
    #[arg(
        long,
        default_value = "./etc/istio/pod/labels",
        hide = true,
        value_name = "FILE"
    )]
    labels_file: PathBuf,
    /// Annotations of the pod, from the downward API
    #[arg(
        long,
        default_value = "./etc/istio/pod/annotations",
        hide = true,
        value_name = "FILE"
    )]
    pub(super) annotations_file: PathBuf,
    /// Name of the workload in logs and traces
    #[arg(
        long,
        alias = "serviceCluster",
        default_value = "istio-proxy",
        value_name = "NAME"
    )]
    service_cluster: String,
}

impl IdentityArgs {
    pub(super) fn node(
        &self,
        kind: NodeKind,
        context: &Context,
        discovery: &str,
        extend: impl FnOnce(&mut Metadata),
    ) -> Result<ProxyNode, AgentConfigError> {
        let name = required(self.name.as_ref(), "POD_NAME", "--name")?;
        let namespace = required(self.namespace.as_ref(), "POD_NAMESPACE", "--namespace")?;
        let ips = match self.ip.as_slice() {
            [] => vec![own_address(discovery)?],
            given => given.to_vec(),
        };
        let mut metadata = Metadata::read(&context.proxy.proxy_metadata, &context.environment)?;
        metadata.labels(&pod_info::read(&self.labels_file)?);
        let listed: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        metadata.put("INSTANCE_IPS", Some(&listed.join(",")));
        metadata.put("NAME", Some(&name));
        metadata.put("NAMESPACE", Some(&namespace));
        metadata.put("SERVICE_ACCOUNT", Some(&self.service_account));
        metadata.put("CLUSTER_ID", self.cluster_id.as_deref());
        metadata.put("NETWORK", self.network.as_deref());
        metadata.put("INTERCEPTION_MODE", self.interception_mode.as_deref());
        metadata.put(
            "REQUESTED_NETWORK_VIEW",
            self.requested_network_view.as_deref(),
        );
        if kind == NodeKind::Router {
            // A gateway that forwards to other gateways makes loops.
            metadata.default_to_own_network();
        }
        extend(&mut metadata);
        let trust_domain = &self.trust_domain;
        let from_metadata = metadata.locality();
        let given = self.locality.as_deref().map(Locality::parse);
        Ok(ProxyNode {
            kind,
            domain: self.domain(&namespace),
            identity: SpiffeId::new(
                trust_domain,
                &Namespace::from(namespace.as_str()),
                &self.service_account,
            ),
            ips,
            service_cluster: context
                .proxy
                .service_cluster
                .clone()
                .unwrap_or_else(|| self.service_cluster.clone()),
            locality: from_metadata.or(given).unwrap_or_default(),
            cluster_id: metadata.text("CLUSTER_ID").to_owned(),
            metadata: metadata.into_map(),
            name,
            namespace,
        })
    }

    fn domain(&self, namespace: &str) -> String {
        let given = self.domain.clone();
        given.unwrap_or_else(|| format!("{namespace}.svc.cluster.local"))
    }
}

fn required(
    value: Option<&String>,
    name: &'static str,
    flag: &'static str,
) -> Result<String, AgentConfigError> {
    value
        .cloned()
        .ok_or(AgentConfigError::Missing { name, flag })
}

/// The address that packets to the control plane leave from. Nothing is sent:
/// to connect a datagram socket only looks up the route.
fn own_address(discovery: &str) -> Result<IpAddr, AgentConfigError> {
    let found = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(discovery).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let expected = "reachable from here, so INSTANCE_IP has to say the pod's address";
    found().ok_or_else(|| wrong("the discovery address", discovery, expected))
}
