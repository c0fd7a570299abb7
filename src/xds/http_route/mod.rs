//! HTTP routes of a `VirtualService`, for sidecars and gateways alike.

mod action;
mod encode;
mod filters;
mod headers;
mod matching;
mod retry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    core::v3::Metadata,
    route::v3::{Decorator, Route, RouteMatch, route_match::PathSpecifier},
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

pub(super) use action::{forward, hash_policy};
pub(super) use encode::{BuiltRoute, HostDraft, encode};
pub(super) use retry::policy as retry_policy;

use crate::mesh::{Scope, ServiceState, Snapshot};
use crate::model::{
    ClusterName, ConsistentHash, Destination, DestinationRule, Hostname, HttpMatch, HttpRoute,
    MeshConfig, PolicySettings, Source, TrafficPolicy, VirtualService,
};

/// For whom routes are built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    /// Where destinations are looked up.
    pub(super) snapshot: &'a Snapshot,
    /// What the proxy sees of them.
    pub(super) scope: &'a Scope,
    /// The proxy.
    pub(super) source: Source<'a>,
    /// Port that requests are sent to.
    pub(super) port: u16,
    /// Whether they come over TLS, which their scheme then tells.
    pub(super) is_tls: bool,
}

impl<'a> Context<'a> {
    pub(super) fn mesh(&self) -> &MeshConfig {
        &self.snapshot.mesh().config
    }

    /// The service that a destination means.
    pub(super) fn service(&self, to: &Destination) -> Option<&'a Arc<ServiceState>> {
        self.scope.service(self.snapshot, &to.host)
    }

    /// The rule that holds for a destination.
    pub(super) fn rule(&self, to: &Destination) -> Option<&'a DestinationRule> {
        let state = self.service(to)?;
        let rule = state.rule_for(self.source.namespace, self.source.labels)?;
        state.rules.get(usize::from(rule)).map(|rule| &**rule)
    }

    /// The Envoy cluster of a destination. Without a port of its own it is
    /// called at the port of the request, or the only one that it has. A host
    /// that nobody knows has a name too: its cluster may come later.
    pub(super) fn cluster(&self, to: &Destination) -> String {
        let port = to.port.unwrap_or_else(|| {
            let state = self.service(to);
            let mut ports = state.into_iter().flat_map(|s| s.service.tcp_ports());
            match (ports.next(), ports.next()) {
                (Some(only), None) => only.number,
                _ => self.port,
            }
        });
        let host = Hostname::shared(Arc::clone(&to.host));
        ClusterName::outbound(port, &to.subset, &host).to_string()
    }

    /// What the rule of a destination hashes of requests.
    pub(super) fn hash(&self, to: &Destination) -> Option<ConsistentHash> {
        let rule = self.rule(to)?;
        let of = |settings: &PolicySettings| {
            let lb = settings.load_balancer.as_ref()?;
            lb.consistent_hash.clone()
        };
        // istiod: an entry for a port counts only where the destination names
        // the port.
        let for_port = |policy: &TrafficPolicy| {
            let (settings, is_own) = policy.for_port(to.port?);
            is_own.then(|| of(settings)).flatten()
        };
        let subset = rule.subset(&to.subset).map(|subset| &subset.policy);
        subset
            .and_then(for_port)
            .or_else(|| of(&subset?.base))
            .or_else(|| for_port(&rule.policy))
            .or_else(|| of(&rule.policy.base))
    }
}

/// The routes of `service` for one proxy and port, in the order in which they
/// are tried; none where all of them are for others.
pub(super) fn routes(service: &VirtualService, context: &Context<'_>) -> Vec<BuiltRoute> {
    let mut built = Vec::new();
    for route in &service.http {
        let alternatives: Vec<Option<&HttpMatch>> = match route.matches.as_slice() {
            [] => vec![None],
            all => all.iter().map(Some).collect(),
        };
        for alternative in alternatives {
            if alternative.is_some_and(|found| !applies(found, context)) {
                continue;
            }
            let made = one(service, route, alternative, context);
            let ends = made.catch_all;
            built.push(made);
            // Nothing gets past a route that takes everything.
            if ends {
                return built;
            }
        }
    }
    built
}

fn applies(found: &HttpMatch, context: &Context<'_>) -> bool {
    found.port.is_none_or(|port| port == context.port)
        && found.source.admits(&context.source)
        && !matching::wants_claims(found)
}

fn one(
    service: &VirtualService,
    route: &HttpRoute,
    found: Option<&HttpMatch>,
    context: &Context<'_>,
) -> BuiltRoute {
    let matched = found.map_or_else(matching::everything, matching::request);
    let catch_all = matching::takes_everything(&matched);
    let name = match found {
        Some(found) if !found.name.is_empty() => format!("{}.{}", route.name, found.name),
        _ => String::from(&*route.name),
    };
    let mut built = Route {
        name,
        r#match: Some(matched),
        metadata: Some(origin(service)),
        stat_prefix: found
            .map(|f| String::from(&*f.stat_prefix))
            .unwrap_or_default(),
        ..Route::default()
    };
    headers::change(&mut built, &route.headers);
    action::act(&mut built, route, context);
    built.decorator = Some(Decorator {
        operation: operation(&built, service, context.port),
        ..Decorator::default()
    });
    BuiltRoute {
        bytes: encode::route(&built, filters::of(route)),
        catch_all,
    }
}

/// Which object a route comes from, for telemetry (istiod:
/// `BuildConfigInfoMetadata`).
pub(super) fn origin(service: &VirtualService) -> Metadata {
    let (namespace, name) = (&service.meta.namespace, &service.meta.name);
    let path =
        format!("/apis/networking.istio.io/v1/namespaces/{namespace}/virtual-service/{name}");
    let value = Value {
        kind: Some(Kind::StringValue(path)),
    };
    let istio = Struct {
        // One entry: a hashed map of more would encode in random order.
        fields: [("config".to_owned(), value)].into(),
    };
    Metadata {
        filter_metadata: [("istio".to_owned(), istio)].into(),
        ..Metadata::default()
    }
}

/// What traces call the route (istiod: `GetRouteOperation`): the destination
/// where there is only one, else the object.
fn operation(route: &Route, service: &VirtualService, port: u16) -> String {
    let path = match route.r#match.as_ref().and_then(path) {
        Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    };
    let destination = action::only_cluster(route).and_then(|name| name.parse::<ClusterName>().ok());
    match destination {
        Some(cluster) => format!("{}:{}{path}", cluster.host, cluster.port),
        None => format!("{}:{port}{path}", service.meta.name),
    }
}

fn path(found: &RouteMatch) -> Option<&PathSpecifier> {
    found.path_specifier.as_ref()
}
