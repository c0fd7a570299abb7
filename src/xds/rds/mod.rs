//! RDS: HTTP routes of sidecars' outbound listeners.

mod domains;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use domains::{Domains, in_host_header};
use envoy_types::pb::envoy::config::route::v3::{
    Decorator, DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration,
    RouteMatch, VirtualHost, retry_policy::RetryHostPredicate,
    retry_policy::retry_host_predicate::ConfigType, route::Action, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use prost::Message;

use super::client::Client;
use super::egress::{self, Egress};
use super::{cds, pb};
use crate::mesh::MemoKey;
use crate::model::{
    ClusterId, ClusterName, IpFamily, NodeKind, OutboundPolicy, Protocol, Service, TypeUrl,
};
use crate::wire::EncodedResource;

/// Routes of the explicit HTTP proxy.
pub(super) const HTTP_PROXY: &str = "http_proxy";

/// What a route name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    /// All services with this port.
    Port(u16),
    /// One service, whose port is sniffed.
    Service(String, u16),
    /// All ports of all services: `http_proxy`, or a unix socket.
    Everything,
}

impl Target {
    fn parse(name: &str) -> Option<Self> {
        if name == HTTP_PROXY || name.starts_with("unix://") {
            return Some(Self::Everything);
        }
        let number = |text: &str| {
            let number: u16 = text.parse().ok()?;
            // One spelling: each name that is answered is kept.
            (number.to_string() == text).then_some(number)
        };
        match name.rsplit_once(':') {
            Some((host, port)) => Some(Self::Service(host.to_owned(), number(port)?)),
            None => Some(Self::Port(number(name)?)),
        }
    }
}

/// All that routes depend on beside the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RouteKey {
    name: String,
    scope: Arc<str>,
    domain: Arc<str>,
    cluster: ClusterId,
    family: IpFamily,
    dual_stack: bool,
}

impl MemoKey for RouteKey {
    type Value = Arc<EncodedResource>;
}

/// The routes called `name`; none of them where nothing has that name, so that
/// the listener that asks for them can start.
pub(super) fn route(client: &Client, name: &str) -> Arc<EncodedResource> {
    let target = match client.proxy.kind {
        NodeKind::Sidecar => Target::parse(name),
        NodeKind::Router => None,
    };
    let all = egress::listeners(client);
    let found = target.and_then(|target| {
        let egress = responsible(&all, &target, name)?;
        let target = if egress.http_proxy {
            Target::Everything
        } else {
            target
        };
        let services = called(egress, &target);
        // Names that clients make up must not fill the memo.
        let known = match target {
            Target::Service(..) => false,
            Target::Port(_) => egress.port.is_some(),
            Target::Everything => egress.port.is_some() || name == HTTP_PROXY,
        };
        (known || !services.is_empty()).then_some((target, services))
    });
    let Some((target, services)) = found else {
        return Arc::new(encode(&RouteConfiguration {
            name: name.to_owned(),
            validate_clusters: pb::boolean(false),
            ..RouteConfiguration::default()
        }));
    };
    let key = RouteKey {
        name: name.to_owned(),
        scope: Arc::clone(client.scope.key()),
        domain: Arc::clone(&client.proxy.domain),
        cluster: client.proxy.cluster.clone(),
        family: client.proxy.ips.family(),
        dual_stack: client.snapshot.mesh().features.dual_stack,
    };
    let policy = client.scope.outbound_policy();
    let build = |key: &RouteKey| Arc::new(encode(&configuration(key, &target, &services, policy)));
    Arc::clone(&client.snapshot.memo().get_or_make(key, build))
}

/// The egress listener that has these routes: the first with the port, or the
/// one for all ports.
fn responsible<'a>(all: &'a [Egress], target: &Target, name: &str) -> Option<&'a Egress> {
    all.iter().find(|egress| match (egress.port, target) {
        (None, _) => true,
        (Some((0, _)), Target::Everything) => *egress.bind == *name,
        (Some((port, _)), Target::Port(wanted) | Target::Service(_, wanted)) => port == *wanted,
        (Some(_), Target::Everything) => false,
    })
}

/// The service ports behind a target, by host: those that may speak HTTP.
fn called<'a>(egress: &'a Egress, target: &Target) -> Vec<(&'a Service, u16)> {
    let mut found = BTreeMap::new();
    for service in &egress.services {
        let host = &service.key.hostname;
        for port in service.tcp_ports() {
            let may_be_http = port.protocol.is_http() || port.protocol == Protocol::Auto;
            let wanted = match target {
                Target::Port(number) => port.number == *number,
                Target::Service(name, number) => port.number == *number && **host == **name,
                Target::Everything => true,
            };
            if wanted && may_be_http {
                found.insert((host, port.number), (&**service, port.number));
            }
        }
    }
    found.into_values().collect()
}

fn configuration(
    key: &RouteKey,
    target: &Target,
    services: &[(&Service, u16)],
    policy: OutboundPolicy,
) -> RouteConfiguration {
    let mut hosts = virtual_hosts(key, target, services);
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if !matches!(target, Target::Service(..)) {
        hosts.push(catch_all(policy));
    }
    RouteConfiguration {
        name: key.name.clone(),
        virtual_hosts: hosts,
        // A cluster that comes later must not hold up all routes.
        validate_clusters: pb::boolean(false),
        max_direct_response_body_size_bytes: pb::uint(1024 * 1024),
        // Where ports tell services apart they must be looked at.
        ignore_port_in_host_matching: *target != Target::Everything,
        ..RouteConfiguration::default()
    }
}

fn virtual_hosts(
    key: &RouteKey,
    target: &Target,
    services: &[(&Service, u16)],
) -> Vec<VirtualHost> {
    let full: HashSet<&str> = services.iter().map(|(s, _)| &*s.key.hostname).collect();
    let mut taken = HashSet::new();
    let host = |(service, port): &(&Service, u16)| {
        let addresses = egress::addresses(service, &key.cluster, key.family, key.dual_stack);
        let mut names = Domains::of(service, &key.domain, &addresses);
        match target {
            Target::Service(..) => names.all = vec!["*".to_owned()],
            Target::Everything => names.qualify(*port),
            Target::Port(_) => {}
        }
        let domains = names.take(&mut taken, &full);
        (!domains.is_empty()).then(|| virtual_host(service, *port, domains))
    };
    services.iter().filter_map(host).collect()
}

fn virtual_host(service: &Service, port: u16, domains: Vec<String>) -> VirtualHost {
    let host = &service.key.hostname;
    let name = format!("{}:{port}", in_host_header(host));
    let cluster = ClusterName::outbound(port, "", host).to_string();
    let action = RouteAction {
        retry_policy: Some(retries()),
        ..forward(cluster)
    };
    let route = Route {
        name: "default".to_owned(),
        decorator: Some(Decorator {
            operation: format!("{name}/*"),
            ..Decorator::default()
        }),
        ..any_path(Action::Route(action))
    };
    VirtualHost {
        name,
        domains,
        routes: vec![route],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

/// What becomes of requests for unknown hosts.
fn catch_all(policy: OutboundPolicy) -> VirtualHost {
    let (name, action) = match policy {
        OutboundPolicy::AllowAny => {
            let action = forward(cds::PASSTHROUGH.to_owned());
            ("allow_any", Action::Route(action))
        }
        OutboundPolicy::RegistryOnly => {
            let status = 502;
            let action = DirectResponseAction {
                status,
                ..DirectResponseAction::default()
            };
            ("block_all", Action::DirectResponse(action))
        }
    };
    let route = Route {
        name: name.to_owned(),
        ..any_path(action)
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

fn any_path(action: Action) -> Route {
    Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(action),
        ..Route::default()
    }
}

/// To a cluster, with no time limit: the mesh must not end what works.
#[allow(
    deprecated,
    reason = "istiod sends it; its successor counts from another point in time"
)]
fn forward(cluster: String) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        timeout: pb::duration(Duration::ZERO),
        max_grpc_timeout: pb::duration(Duration::ZERO),
        ..RouteAction::default()
    }
}

/// istiod's default: only what certainly did not reach the application, and on
/// another endpoint than before.
fn retries() -> RetryPolicy {
    let previous = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(ConfigType::TypedConfig(pb::any(
            &PreviousHostsPredicate::default(),
        ))),
    };
    RetryPolicy {
        retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
            .to_owned(),
        num_retries: pb::uint(2),
        retry_host_predicate: vec![previous],
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::default()
    }
}

fn encode(routes: &RouteConfiguration) -> EncodedResource {
    let name = Arc::from(routes.name.as_str());
    let kind = TypeUrl::RouteConfiguration.as_str();
    EncodedResource::new(kind, name, &routes.encode_to_vec())
}
