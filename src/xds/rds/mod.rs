//! RDS: HTTP routes of sidecars' outbound listeners. Those of routers are in
//! [`super::gateway`].

mod domains;
mod hosts;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
    route_match::PathSpecifier,
};

pub(super) use domains::in_host_header;

use super::client::Client;
use super::egress::{self, Egress};
use super::http_route::{self, BuiltRoute, HostDraft};
use super::{cds, gateway, pb};
use crate::mesh::{MemoKey, Scope, Snapshot};
use crate::model::{
    ClusterId, IpFamily, Labels, Namespace, NodeKind, OutboundPolicy, Protocol, Service, TypeUrl,
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
    namespace: Namespace,
    /// Those that some rule or match looks at.
    labels: Labels,
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
    if client.proxy.kind == NodeKind::Router {
        return gateway::route(client, name).unwrap_or_else(|| nothing(name));
    }
    let all = egress::listeners(client);
    let found = Target::parse(name).and_then(|target| {
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
            Target::Port(80) => !egress.overrides.all.is_empty() || egress.port.is_some(),
            Target::Port(_) => egress.port.is_some(),
            Target::Everything => egress.port.is_some() || name == HTTP_PROXY,
        };
        (known || !services.is_empty()).then_some((target, egress, services))
    });
    let Some((target, egress, services)) = found else {
        return nothing(name);
    };
    let key = RouteKey {
        name: name.to_owned(),
        scope: Arc::clone(client.scope.key()),
        namespace: client.proxy.namespace.clone(),
        labels: client.relevant_labels(),
        domain: Arc::clone(&client.proxy.domain),
        cluster: client.proxy.cluster.clone(),
        family: client.proxy.ips.family(),
        dual_stack: client.snapshot.mesh().features.dual_stack,
    };
    let build = |key: &RouteKey| {
        let builder = Builder {
            snapshot: &client.snapshot,
            scope: &client.scope,
            key,
            target,
            egress,
        };
        Arc::new(builder.configuration(&services))
    };
    Arc::clone(&client.snapshot.memo().get_or_make(key, build))
}

/// No virtual hosts.
fn nothing(name: &str) -> Arc<EncodedResource> {
    let empty = RouteConfiguration {
        name: name.to_owned(),
        validate_clusters: pb::boolean(false),
        ..RouteConfiguration::default()
    };
    Arc::new(encode(&empty, &[]))
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

/// Builds one route configuration.
#[derive(Debug)]
struct Builder<'a> {
    snapshot: &'a Snapshot,
    scope: &'a Scope,
    key: &'a RouteKey,
    target: Target,
    egress: &'a Egress,
}

impl Builder<'_> {
    fn configuration(&self, services: &[(&Service, u16)]) -> EncodedResource {
        let plan = hosts::plan(self, services);
        let mut hosts = plan.drafts();
        hosts.sort_by(|a, b| a.message.name.cmp(&b.message.name));
        let policy = self.scope.outbound_policy();
        let unknown = [BuiltRoute::of_everything(&to_unknown(policy))];
        if !matches!(self.target, Target::Service(..)) && !plan.takes_all_hosts() {
            hosts.push(HostDraft {
                message: VirtualHost {
                    name: name_of_unknown(policy).to_owned(),
                    domains: vec!["*".to_owned()],
                    include_request_attempt_count: true,
                    ..VirtualHost::default()
                },
                routes: &unknown,
            });
        }
        let configuration = RouteConfiguration {
            name: self.key.name.clone(),
            // A cluster that comes later must not hold up all routes.
            validate_clusters: pb::boolean(false),
            max_direct_response_body_size_bytes: pb::uint(1024 * 1024),
            // Where ports tell services apart they must be looked at.
            ignore_port_in_host_matching: self.target != Target::Everything,
            ..RouteConfiguration::default()
        };
        encode(&configuration, &hosts)
    }
}

fn name_of_unknown(policy: OutboundPolicy) -> &'static str {
    match policy {
        OutboundPolicy::AllowAny => "allow_any",
        OutboundPolicy::RegistryOnly => "block_all",
    }
}

/// What becomes of requests for unknown hosts.
fn to_unknown(policy: OutboundPolicy) -> Route {
    let action = match policy {
        OutboundPolicy::AllowAny => Action::Route(http_route::forward(cds::PASSTHROUGH.to_owned())),
        OutboundPolicy::RegistryOnly => Action::DirectResponse(DirectResponseAction {
            status: 502,
            ..DirectResponseAction::default()
        }),
    };
    Route {
        name: name_of_unknown(policy).to_owned(),
        ..any_path(action)
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

fn encode(routes: &RouteConfiguration, hosts: &[HostDraft<'_>]) -> EncodedResource {
    let name = Arc::from(routes.name.as_str());
    let kind = TypeUrl::RouteConfiguration.as_str();
    EncodedResource::new(kind, name, &http_route::encode(routes, hosts))
}
