//! Switches and timings that istiod reads from its environment.

use std::{sync::Arc, time::Duration};

use clap::Args;

use crate::config::values;
use crate::model::{Features, Namespace};

#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one switch of istiod's"
)]
pub(super) struct BehaviourArgs {
    /// Least time between two publishes; the first change after a quiet time
    /// is published at once
    #[arg(
        long, env = "PILOT_DEBOUNCE_AFTER", default_value = "10ms",
        value_parser = values::duration, value_name = "DURATION"
    )]
    debounce_after: Duration,
    /// Upper bound of --debounce-after
    #[arg(
        long, env = "PILOT_DEBOUNCE_MAX", default_value = "10s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    debounce_max: Duration,
    /// Label of a workload that is draining
    #[arg(
        long,
        env = "PILOT_DRAINING_LABEL",
        default_value = "istio.io/draining",
        value_name = "LABEL"
    )]
    draining_label: String,
    /// Label of a service with persistent sessions by cookie
    #[arg(
        long,
        env = "PILOT_PERSISTENT_SESSION_LABEL",
        default_value = "istio.io/persistent-session",
        value_name = "LABEL"
    )]
    persistent_session_label: String,
    /// Label of a service with persistent sessions by header
    #[arg(
        long,
        env = "PILOT_PERSISTENT_SESSION_HEADER_LABEL",
        default_value = "istio.io/persistent-session-header",
        value_name = "LABEL"
    )]
    persistent_session_header_label: String,
    /// Send unready endpoints unless the rule asks for minHealthPercent
    #[arg(
        long, env = "PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    auto_send_unhealthy_endpoints: bool,
    /// Send unready endpoints always
    #[arg(
        long, env = "PILOT_SEND_UNHEALTHY_ENDPOINTS", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    send_unhealthy_endpoints: bool,
    /// Headless services are EDS clusters for sidecars too
    #[arg(
        long, env = "PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    eds_for_headless_services: bool,
    /// Weigh localities in every cluster
    #[arg(
        long, env = "ENABLE_LOCALITY_WEIGHTED_LB_CONFIG", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    locality_weighted_lb_config: bool,
    /// Send all addresses of an endpoint
    #[arg(
        long, env = "ISTIO_DUAL_STACK", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    dual_stack: bool,
    /// Resolve host names of network gateways
    #[arg(
        long, env = "RESOLVE_HOSTNAME_GATEWAYS", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    resolve_hostname_gateways: bool,
    /// Gateway API Gateways are network gateways
    #[arg(
        long, env = "PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    multi_network_discover_gateway_api: bool,
    /// Istio Gateways count for routers of their own namespace only
    #[arg(
        long, env = "PILOT_SCOPE_GATEWAY_TO_NAMESPACE", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    scope_gateway_to_namespace: bool,
    /// Read WorkloadEntries of remote clusters
    #[arg(
        long, env = "PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    cross_cluster_workload_entry: bool,
    /// Services select WorkloadEntries
    #[arg(
        long, env = "PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    k8s_select_workload_entries: bool,
    /// ServiceEntries select pods
    #[arg(
        long, env = "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    serviceentry_select_pods: bool,
    /// Only exported services cross clusters
    #[arg(
        long, env = "ENABLE_MCS_SERVICE_DISCOVERY", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    mcs_service_discovery: bool,
    /// Serve clusterset.local hosts
    #[arg(
        long, env = "ENABLE_MCS_HOST", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    mcs_host: bool,
    /// cluster.local hosts stay in their cluster
    #[arg(
        long, env = "ENABLE_MCS_CLUSTER_LOCAL", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    mcs_cluster_local: bool,
    /// Name the workload in endpoint metadata
    #[arg(
        long, env = "PILOT_ENDPOINT_TELEMETRY_LABEL", default_value = "true",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    endpoint_telemetry_label: bool,
}

impl BehaviourArgs {
    pub(super) fn debounce(&self) -> Duration {
        self.debounce_after.min(self.debounce_max)
    }

    pub(super) fn features(&self, domain: &str, namespace: &str) -> Features {
        Features {
            domain: Arc::from(domain),
            system_namespace: Namespace::from(namespace),
            draining_label: Arc::from(self.draining_label.as_str()),
            session_label: Arc::from(self.persistent_session_label.as_str()),
            session_header_label: Arc::from(self.persistent_session_header_label.as_str()),
            // istiod: each of these needs the one before it.
            mcs_host: self.mcs_host && self.mcs_service_discovery,
            mcs_cluster_local: self.mcs_cluster_local
                && self.mcs_host
                && self.mcs_service_discovery,
            auto_send_unhealthy: self.auto_send_unhealthy_endpoints,
            send_unhealthy: self.send_unhealthy_endpoints,
            eds_for_headless: self.eds_for_headless_services,
            locality_weighted_lb: self.locality_weighted_lb_config,
            dual_stack: self.dual_stack,
            resolve_hostname_gateways: self.resolve_hostname_gateways,
            discover_gateway_api: self.multi_network_discover_gateway_api,
            scope_gateways: self.scope_gateway_to_namespace,
            cross_cluster_workload_entry: self.cross_cluster_workload_entry,
            services_select_workload_entries: self.k8s_select_workload_entries,
            service_entries_select_pods: self.serviceentry_select_pods,
            mcs_discovery: self.mcs_service_discovery,
            endpoint_telemetry_label: self.endpoint_telemetry_label,
        }
    }
}
