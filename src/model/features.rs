//! istiod's feature switches that change which endpoints a proxy gets.

use std::sync::Arc;

use super::{Labels, Namespace};

/// Switches read from istiod's environment names; see `config` for the names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent switch of istiod's, not a state"
)]
pub struct Features {
    /// DNS suffix of Kubernetes services (`--domain`).
    pub domain: Arc<str>,
    /// Namespace of the control plane (`POD_NAMESPACE`), in every cluster: its
    /// network label names the network of that cluster.
    pub system_namespace: Namespace,
    /// `PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS`: send unready endpoints unless the
    /// rule's `minHealthPercent` is over 0.
    pub auto_send_unhealthy: bool,
    /// `PILOT_SEND_UNHEALTHY_ENDPOINTS`: send them always.
    pub send_unhealthy: bool,
    /// `PILOT_DRAINING_LABEL`.
    pub draining_label: Arc<str>,
    /// `PILOT_PERSISTENT_SESSION_LABEL`.
    pub session_label: Arc<str>,
    /// `PILOT_PERSISTENT_SESSION_HEADER_LABEL`.
    pub session_header_label: Arc<str>,
    /// `PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES`.
    pub eds_for_headless: bool,
    /// `ENABLE_LOCALITY_WEIGHTED_LB_CONFIG`.
    pub locality_weighted_lb: bool,
    /// `ISTIO_DUAL_STACK`.
    pub dual_stack: bool,
    /// `RESOLVE_HOSTNAME_GATEWAYS`.
    pub resolve_hostname_gateways: bool,
    /// `PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API`.
    pub discover_gateway_api: bool,
    /// `PILOT_SCOPE_GATEWAY_TO_NAMESPACE`: an Istio `Gateway` is for routers of
    /// its own namespace only.
    pub scope_gateways: bool,
    /// `PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY`.
    pub cross_cluster_workload_entry: bool,
    /// `PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES`.
    pub services_select_workload_entries: bool,
    /// `PILOT_ENABLE_SERVICEENTRY_SELECT_PODS`.
    pub service_entries_select_pods: bool,
    /// `ENABLE_MCS_SERVICE_DISCOVERY`.
    pub mcs_discovery: bool,
    /// `ENABLE_MCS_HOST`.
    pub mcs_host: bool,
    /// `ENABLE_MCS_CLUSTER_LOCAL`.
    pub mcs_cluster_local: bool,
    /// `PILOT_ENDPOINT_TELEMETRY_LABEL`.
    pub endpoint_telemetry_label: bool,
}

impl Default for Features {
    /// istiod's defaults.
    fn default() -> Self {
        Self {
            domain: Arc::from("cluster.local"),
            system_namespace: Namespace::from("istio-system"),
            auto_send_unhealthy: true,
            send_unhealthy: false,
            draining_label: Arc::from("istio.io/draining"),
            session_label: Arc::from("istio.io/persistent-session"),
            session_header_label: Arc::from("istio.io/persistent-session-header"),
            eds_for_headless: false,
            locality_weighted_lb: false,
            dual_stack: false,
            resolve_hostname_gateways: true,
            discover_gateway_api: true,
            scope_gateways: false,
            cross_cluster_workload_entry: true,
            services_select_workload_entries: true,
            service_entries_select_pods: true,
            mcs_discovery: false,
            mcs_host: false,
            mcs_cluster_local: false,
            endpoint_telemetry_label: true,
        }
    }
}

impl Features {
    /// Whether a workload with these labels is draining; any value counts.
    pub fn is_draining(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.draining_label).unwrap_or_default();
        !self.draining_label.is_empty() && !value.is_empty()
    }
}
