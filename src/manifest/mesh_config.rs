//! `MeshConfig`: key `mesh` of the `ConfigMap` `istio`, or the file `--meshConfig`.

mod traffic;

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use traffic::TrafficDefaults;

use super::{
    Problem,
    istio::{
        one_of,
        sidecar::{Outbound, outbound_mode},
        traffic_policy::{Locality, ZoneAware},
    },
    json::{Int, List, Map, Text},
    meta::{from_json, labels},
    yaml,
};
use crate::model::{
    ClusterLocalHosts, ExportTo, LabelSelector, MeshConfig, Namespace, Requirement, parse_duration,
};

/// Why mesh-wide settings are not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The text is not YAML.
    #[error("not YAML: {0}")]
    Yaml(#[from] yaml::YamlError),
    /// A field has a value that cannot be used.
    #[error("{0}")]
    Field(Problem),
}

impl From<Problem> for MeshError {
    fn from(problem: Problem) -> Self {
        Self::Field(problem)
    }
}

/// Settings, and what was left out of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings<T> {
    /// The settings.
    pub value: T,
    /// One line for each field that istio does not know either.
    pub warnings: Vec<String>,
}

/// What isthmus reads of `MeshConfig`; the names of the rest are in [`UNREAD`].
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Mesh<'a> {
    trust_domain_aliases: List<Text<'a>>,
    enable_auto_mtls: Option<bool>,
    trust_domain: Text<'a>,
    root_namespace: Text<'a>,
    locality_lb_setting: Option<Locality<'a>>,
    zone_aware_lb_setting: Option<ZoneAware<'a>>,
    outbound_traffic_policy: Option<Outbound<'a>>,
    inbound_traffic_policy: Option<Outbound<'a>>,
    service_settings: List<ServiceSetting<'a>>,
    discovery_selectors: List<Selector<'a>>,
    default_service_export_to: List<Text<'a>>,
    default_destination_rule_export_to: List<Text<'a>>,
    default_virtual_service_export_to: List<Text<'a>>,
    connect_timeout: Text<'a>,
    dns_refresh_rate: Text<'a>,
    protocol_detection_timeout: Text<'a>,
    proxy_listen_port: Int,
    proxy_inbound_listen_port: Int,
    proxy_http_port: Int,
    default_config: Option<ProxyConfig<'a>>,
    #[serde(flatten)]
    traffic: TrafficDefaults<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct ServiceSetting<'a> {
    settings: Option<ServiceScope>,
    hosts: List<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceScope {
    cluster_local: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Selector<'a> {
    match_labels: Map<'a, Text<'a>>,
    match_expressions: List<Expression<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Expression<'a> {
    key: Text<'a>,
    operator: Text<'a>,
    values: List<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct ProxyConfig<'a> {
    discovery_address: Text<'a>,
}

/// Fields of [`Mesh`], as they are written.
const READ: &[&str] = &[
    "connectTimeout",
    "defaultConfig",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultServiceExportTo",
    "defaultTrafficPolicy",
    "defaultVirtualServiceExportTo",
    "discoverySelectors",
    "dnsRefreshRate",
    "enableAutoMtls",
    "h2UpgradePolicy",
    "inboundTrafficPolicy",
    "localityLbSetting",
    "outboundTrafficPolicy",
    "protocolDetectionTimeout",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "rootNamespace",
    "serviceSettings",
    "tcpKeepalive",
    "trustDomain",
    "trustDomainAliases",
    "zoneAwareLbSetting",
];

/// Fields of istio's that change nothing here (yet): no warning for them.
const UNREAD: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "ca",
    "caCertificates",
    "certificates",
    "configSources",
    "defaultInboundHttpRetryPolicy",
    "defaultProviders",
    "disableEnvoyListenerLog",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "hboneIdleTimeout",
    "inboundClusterStatName",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "meshMTLS",
    "outboundClusterStatName",
    "pathNormalization",
    "serviceEntryVisibility",
    "serviceScopeConfigs",
    "tlsDefaults",
    "verifyCertificateAtClient",
];

const INBOUND_MODES: &[(&str, bool)] = &[("", false), ("PASSTHROUGH", false), ("LOCALHOST", true)];

/// Reads `MeshConfig` from YAML. `domain` is the DNS suffix of Kubernetes
/// services, for the hosts that are cluster-local by default.
///
/// ```
/// use isthmus::manifest::mesh_config;
/// let mesh = mesh_config::parse("trustDomain: td1\naccesLogFile: /dev/stdout", "cluster.local")?;
/// assert_eq!(&*mesh.value.trust_domain, "td1");
/// assert_eq!(mesh.warnings, ["unknown field accesLogFile is ignored"]);
/// # Ok::<(), mesh_config::MeshError>(())
/// ```
pub fn parse(yaml: &str, domain: &str) -> Result<Settings<MeshConfig>, MeshError> {
    let value = yaml::to_json(yaml)?;
    let warnings = unknown_fields(&value, |field| {
        READ.contains(&field) || UNREAD.contains(&field)
    });
    let mesh = match value {
        Value::Null => Mesh::default(),
        value => return read_text(&value.to_string(), domain, warnings),
    };
    let value = read(&mesh, domain)?;
    Ok(Settings { value, warnings })
}

fn read_text(
    json: &str,
    domain: &str,
    warnings: Vec<String>,
) -> Result<Settings<MeshConfig>, MeshError> {
    let value = read(&from_json(json.as_bytes())?, domain)?;
    Ok(Settings { value, warnings })
}

/// The trust domain that `MeshConfig` sets, if it does: all that is read of
/// the settings of a cluster that is not the config cluster.
pub fn trust_domain(yaml: &str) -> Result<Option<Arc<str>>, MeshError> {
    let value = yaml::to_json(yaml)?;
    let domain = value.get("trustDomain").and_then(Value::as_str);
    Ok(domain.filter(|text| !text.is_empty()).map(Arc::from))
}

/// One warning for each field of a document that is not known.
pub(super) fn unknown_fields(value: &Value, is_known: impl Fn(&str) -> bool) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten();
    let unknown = fields.filter(|(field, _)| !is_known(field));
    unknown
        .map(|(field, _)| format!("unknown field {field} is ignored"))
        .collect()
}

fn read(mesh: &Mesh<'_>, domain: &str) -> Result<MeshConfig, Problem> {
    let default = MeshConfig::default();
    let outbound = mesh.outbound_traffic_policy.as_ref();
    let outbound = outbound.map(|policy| outbound_mode("outboundTrafficPolicy.mode", policy));
    let discovery_host = discovery_host(mesh).unwrap_or(default.discovery_host);
    let selectors = mesh.discovery_selectors.iter().enumerate();
    let selectors = selectors.map(|(i, s)| s.read(&format!("discoverySelectors[{i}]")));
    let locality = mesh.locality_lb_setting.as_ref().map(Locality::read);
    let text = |given: &Text<'_>, default: Arc<str>| given.filled().map_or(default, Arc::from);
    Ok(MeshConfig {
        trust_domain: text(&mesh.trust_domain, default.trust_domain),
        trust_domain_aliases: mesh.trust_domain_aliases.iter().map(Text::arc).collect(),
        auto_mtls: mesh.enable_auto_mtls.unwrap_or(default.auto_mtls),
        root_namespace: mesh
            .root_namespace
            .filled()
            .map_or(default.root_namespace, Namespace::from),
        locality_lb: locality.unwrap_or_default(),
        zone_aware: mesh.zone_aware_lb_setting.as_ref().map(ZoneAware::read),
        outbound_policy: outbound.transpose()?.unwrap_or(default.outbound_policy),
        cluster_local: cluster_local(mesh, domain, &discovery_host),
        discovery_selectors: selectors.collect::<Result<_, _>>()?,
        default_service_export_to: export_to(&mesh.default_service_export_to),
        default_rule_export_to: export_to(&mesh.default_destination_rule_export_to),
        default_virtual_service_export_to: export_to(&mesh.default_virtual_service_export_to),
        connect_timeout: time(
            "connectTimeout",
            &mesh.connect_timeout,
            default.connect_timeout,
        )?,
        dns_refresh_rate: time(
            "dnsRefreshRate",
            &mesh.dns_refresh_rate,
            default.dns_refresh_rate,
        )?,
        outbound_port: port(
            "proxyListenPort",
            mesh.proxy_listen_port,
            default.outbound_port,
        )?,
        inbound_port: port(
            "proxyInboundListenPort",
            mesh.proxy_inbound_listen_port,
            default.inbound_port,
        )?,
        http_proxy_port: port(
            "proxyHttpPort",
            mesh.proxy_http_port,
            default.http_proxy_port,
        )?,
        protocol_detection_timeout: time(
            "protocolDetectionTimeout",
            &mesh.protocol_detection_timeout,
            default.protocol_detection_timeout,
        )?,
        inbound_localhost: inbound_localhost(mesh)?,
        discovery_host,
        ..mesh.traffic.read()?
    })
}

fn inbound_localhost(mesh: &Mesh<'_>) -> Result<bool, Problem> {
    let policy = mesh.inbound_traffic_policy.as_ref();
    let mode = policy.map(|p| one_of("inboundTrafficPolicy.mode", &p.mode, INBOUND_MODES));
    Ok(mode.transpose()?.unwrap_or_default())
}

fn discovery_host(mesh: &Mesh<'_>) -> Option<Arc<str>> {
    let address = mesh.default_config.as_ref()?.discovery_address.filled()?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    Some(Arc::from(host))
}

fn export_to(names: &List<Text<'_>>) -> ExportTo {
    // A `.` stays: whose namespace it is, each object knows.
    ExportTo::parse(names.iter().map(|n| &**n), &Namespace::from(".")).unwrap_or_default()
}

fn time(field: &str, text: &Text<'_>, default: Duration) -> Result<Duration, Problem> {
    let Some(text) = text.filled() else {
        return Ok(default);
    };
    let wrong = || {
        Problem::new(
            field,
            format!("{text:?} is not a duration; write it as 10s"),
        )
    };
    parse_duration(text).ok_or_else(wrong)
}

fn port(field: &str, number: Int, default: u16) -> Result<u16, Problem> {
    match number.0 {
        None | Some(0) => Ok(default),
        Some(value) => number
            .port()
            .ok_or_else(|| Problem::port(field, Some(value))),
    }
}

/// Which hosts stay inside each cluster, istio's defaults included.
fn cluster_local(mesh: &Mesh<'_>, domain: &str, discovery_host: &str) -> ClusterLocalHosts {
    let settings = mesh.service_settings.iter().map(|entry| {
        let is_local = entry.settings.as_ref().and_then(|s| s.cluster_local);
        let hosts = entry.hosts.iter().map(|host| &**host).collect();
        (is_local.unwrap_or_default(), hosts)
    });
    ClusterLocalHosts::new(settings, domain, discovery_host)
}

impl Selector<'_> {
    fn read(&self, field: &str) -> Result<LabelSelector, Problem> {
        let requirements = self.match_expressions.iter().enumerate();
        let requirements =
            requirements.map(|(i, e)| e.read(&format!("{field}.matchExpressions[{i}]")));
        Ok(LabelSelector {
            labels: labels(&self.match_labels),
            requirements: requirements.collect::<Result<_, _>>()?,
        })
    }
}

impl Expression<'_> {
    fn read(&self, field: &str) -> Result<Requirement, Problem> {
        let key = self.key.arc();
        let values = || self.values.iter().map(Text::arc).collect();
        Ok(match &*self.operator {
            "In" => Requirement::In(key, values()),
            "NotIn" => Requirement::NotIn(key, values()),
            "Exists" => Requirement::Exists(key),
            "DoesNotExist" => Requirement::DoesNotExist(key),
            other => {
                let known = ["In", "NotIn", "Exists", "DoesNotExist"];
                return Err(Problem::word(format!("{field}.operator"), other, &known));
            }
        })
    }
}

#[cfg(test)]
mod tests;
