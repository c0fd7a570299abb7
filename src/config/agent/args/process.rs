//! Envoy, the agent's own pages and its DNS server.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Context, text_of};
use crate::config::agent::proxy_config::Layers;
use crate::config::agent::{
    AgentConfigError, DnsConfig, DrainConfig, EnvoyConfig, ProxyNode, wrong,
};
use crate::config::{LogLevels, values};

#[derive(Debug, Args)]
pub(super) struct ProcessArgs {
    /// Settings of this proxy: istio's proxy configuration, as YAML or JSON
    #[arg(long, env = "PROXY_CONFIG", value_name = "YAML")]
    pub(super) proxy_config: Option<String>,
    /// Mesh configuration whose proxy configuration is the default
    #[arg(
        long,
        alias = "meshConfig",
        default_value = "./etc/istio/config/mesh",
        value_name = "FILE"
    )]
    mesh_config: PathBuf,
    /// Envoy; the proxy configuration's binaryPath by default
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
    /// Folder for Envoy's bootstrap and the agent's socket
    #[arg(long, value_name = "FOLDER")]
    config_path: Option<PathBuf>,
    /// Port of Envoy's admin interface, on loopback
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// Port of the agent's own pages; 0 for none
    #[arg(long, value_name = "PORT")]
    status_port: Option<u16>,
    /// Port of Envoy's readiness listener
    #[arg(
        long,
        env = "ENVOY_STATUS_PORT",
        default_value_t = 15021,
        value_name = "PORT"
    )]
    envoy_status_port: u16,
    /// Port of Envoy's metrics listener
    #[arg(
        long,
        env = "ENVOY_PROMETHEUS_PORT",
        default_value_t = 15090,
        value_name = "PORT"
    )]
    envoy_prometheus_port: u16,
    /// Envoy's worker threads; 0 for one a core
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<u32>,
    /// CPU limit of the container, which sets the worker threads
    #[arg(long, env = "ISTIO_CPU_LIMIT", hide = true, value_name = "COUNT")]
    cpu_limit: Option<u32>,
    /// Envoy's log level: LEVEL[,COMPONENT:LEVEL…]
    #[arg(
        long,
        alias = "proxyLogLevel",
        default_value = "warning",
        value_name = "LEVELS"
    )]
    proxy_log_level: String,
    /// Log levels of Envoy's components
    #[arg(
        long,
        alias = "proxyComponentLogLevel",
        default_value = "",
        value_name = "LEVELS"
    )]
    proxy_component_log_level: String,
    /// File that Envoy writes ejections to
    #[arg(long, alias = "outlierLogPath", value_parser = values::path(), value_name = "FILE")]
    outlier_log_path: Option<PathBuf>,
    /// End when the last connection is gone, not after terminationDrainDuration
    #[arg(
        long, env = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    exit_on_zero_active_connections: bool,
    /// The least wait before connections are counted
    #[arg(
        long, env = "MINIMUM_DRAIN_DURATION", default_value = "5s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    minimum_drain_duration: Duration,
    /// Address of the DNS server
    #[arg(
        long,
        env = "DNS_PROXY_ADDR",
        default_value = "localhost:15053",
        value_name = "HOST:PORT"
    )]
    dns_proxy_addr: String,
    /// How long another DNS server may take
    #[arg(
        long, env = "DNS_FORWARD_TIMEOUT", default_value = "5s",
        value_parser = values::duration, value_name = "DURATION"
    )]
    dns_forward_timeout: Duration,
    /// Other DNS servers and search domains
    #[arg(
        long,
        default_value = "/etc/resolv.conf",
        hide = true,
        value_name = "FILE"
    )]
    resolv_conf: PathBuf,
    /// Log level: LEVEL or SCOPE:LEVEL,… of debug, info, warn, error, none
    #[arg(
        long, alias = "log_output_level", default_value = "default:info",
        value_parser = LogLevels::parse, value_name = "LEVELS"
    )]
    pub(super) log_output_level: LogLevels,
    /// Log as JSON
    #[arg(
        long, alias = "log_as_json", default_value = "false",
        num_args = 0..=1, default_missing_value = "true", require_equals = true,
        value_parser = values::boolean, value_name = "BOOL"
    )]
    pub(super) log_as_json: bool,
    /// Accepted from pilot-agent, without effect: the bootstrap is isthmus's own
    #[arg(long, alias = "templateFile", hide = true)]
    template_file: Option<String>,
    /// Accepted from pilot-agent, without effect
    #[arg(long, alias = "stsPort", hide = true)]
    sts_port: Option<String>,
    /// Accepted from pilot-agent, without effect
    #[arg(long, alias = "tokenManagerPlugin", hide = true)]
    token_manager_plugin: Option<String>,
    /// Accepted from pilot-agent, without effect
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    profiling: Option<String>,
}

/// Ports that several proxies of one machine have to have each of their own.
pub(super) struct Ports {
    admin: u16,
    status: u16,
    pub(super) ready: u16,
    pub(super) prometheus: u16,
}

impl ProcessArgs {
    pub(super) fn add_mesh_file(&self, layers: &mut Layers) -> Result<(), AgentConfigError> {
        let origin = self.mesh_config.display().to_string();
        match text_of(&self.mesh_config)? {
            Some(yaml) => layers.add_mesh(&origin, &yaml),
            None => Ok(()),
        }
    }

    pub(super) fn ports(&self, context: &Context) -> Result<Ports, AgentConfigError> {
        let proxy = &context.proxy;
        let ports = Ports {
            admin: self.admin_port.or(proxy.proxy_admin_port).unwrap_or(15000),
            status: self.status_port.or(proxy.status_port).unwrap_or(15020),
            ready: self.envoy_status_port,
            prometheus: self.envoy_prometheus_port,
        };
        let mut all = [ports.admin, ports.status, ports.ready, ports.prometheus];
        all.sort_unstable();
        let twice = all.windows(2).find(|pair| pair.first() == pair.last());
        match twice.and_then(|pair| pair.first()) {
            Some(port) => {
                let name = "the ports of the admin interface, the pages, readiness and metrics";
                Err(wrong(name, &port.to_string(), "four different ones"))
            }
            None => Ok(ports),
        }
    }

    pub(super) fn envoy(&self, context: &Context, ports: &Ports) -> EnvoyConfig {
        let proxy = &context.proxy;
        let path = |flag: &Option<PathBuf>, field: &Option<String>, default: &str| {
            let field = || field.as_ref().map(PathBuf::from);
            flag.clone()
                .or_else(field)
                .unwrap_or_else(|| default.into())
        };
        EnvoyConfig {
            binary: path(&self.envoy, &proxy.binary_path, "/usr/local/bin/envoy"),
            folder: path(&self.config_path, &proxy.config_path, "./etc/istio/proxy"),
            admin_port: ports.admin,
            status_port: ports.status,
            ready_port: ports.ready,
            prometheus_port: ports.prometheus,
            concurrency: self
                .concurrency
                .or(proxy.concurrency)
                .or(self.cpu_limit)
                .filter(|count| *count > 0),
            log_level: self.proxy_log_level.clone(),
            component_log_level: self.proxy_component_log_level.clone(),
            outlier_log: self
                .outlier_log_path
                .clone()
                .filter(|p| !p.as_os_str().is_empty()),
            stats: proxy.proxy_stats_matcher.clone().into(),
            runtime: proxy.runtime_values.clone(),
        }
    }

    pub(super) fn drain(&self, context: &Context) -> DrainConfig {
        let or = |value: Option<Duration>, seconds| value.unwrap_or(Duration::from_secs(seconds));
        DrainConfig {
            duration: or(context.proxy.drain_duration, 45),
            termination: or(context.proxy.termination_drain_duration, 5),
            until_idle: self.exit_on_zero_active_connections,
            minimum: self.minimum_drain_duration,
        }
    }

    /// A sidecar's where it captures DNS, a router's where it is to have one.
    pub(super) fn dns(&self, node: &ProxyNode) -> Option<DnsConfig> {
        let asked = ["DNS_CAPTURE", "ENABLE_DNS_SERVER"].iter().any(|key| {
            let text = node.metadata.get(*key).and_then(|v| v.as_str());
            text.is_some_and(|text| values::boolean(text) == Ok(true))
        });
        asked.then(|| DnsConfig {
            address: self.dns_proxy_addr.clone(),
            resolv_conf: self.resolv_conf.clone(),
            forward_timeout: self.dns_forward_timeout,
        })
    }

    /// What was given without effect.
    pub(super) fn unused(&self, context: &Context) -> Vec<String> {
        let flags = [
            ("--template-file", &self.template_file),
            ("--sts-port", &self.sts_port),
            ("--token-manager-plugin", &self.token_manager_plugin),
        ];
        let given = flags.into_iter().filter(|(_, value)| value.is_some());
        let flags = given.map(|(name, _)| format!("{name} has no effect"));
        let set = |name: &&str| {
            context
                .environment
                .iter()
                .any(|(n, v)| n == name && !v.is_empty())
        };
        let variables = UNUSED_VARIABLES.iter().filter(|(name, _)| set(name));
        flags
            .chain(variables.map(|(name, why)| format!("{name} has no effect: {why}")))
            .collect()
    }
}

/// Variables of pilot-agent's that would change much.
const UNUSED_VARIABLES: [(&str, &str); 6] = [
    ("ISTIO_BOOTSTRAP", "the bootstrap is isthmus's own"),
    ("ISTIO_BOOTSTRAP_OVERRIDE", "the bootstrap is isthmus's own"),
    (
        "ISTIO_KUBE_APP_PROBERS",
        "rewritten probes are not served yet",
    ),
    (
        "PROXY_CONFIG_XDS_AGENT",
        "proxy configuration is read at start only",
    ),
    (
        "CREDENTIAL_FETCHER_TYPE",
        "tokens are read from --token-file",
    ),
    (
        "WORKLOAD_IDENTITY_SOCKET_FILE",
        "SDS is served by the agent",
    ),
];
