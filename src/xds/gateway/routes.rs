//! RDS of routers: a virtual host for each host that a `VirtualService` and an
//! HTTP server share (istiod: `buildGatewayHTTPRouteConfig`).

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use envoy_types::pb::envoy::config::route::v3::{
    RouteConfiguration, VirtualHost, virtual_host::TlsRequirementType,
};

use super::connections::context;
use super::hosts::intersection;
use super::merged::{Merged, Server};
use crate::model::{GatewayName, ObjectMeta, TypeUrl};
use crate::wire::EncodedResource;
use crate::xds::client::Client;
use crate::xds::http_route::{self, BuiltRoute, HostDraft};
use crate::xds::pb;
use crate::xds::rds::in_host_header;

/// The routes called `name`, which some server must have.
pub(super) fn configuration(client: &Client, merged: &Merged, name: &str) -> EncodedResource {
    let mut plan = Plan::default();
    for server in servers(merged, name) {
        plan.add(client, server);
    }
    let first = servers(merged, name).find_map(Server::spec);
    let port = first.map_or(0, |spec| spec.port);
    let configuration = RouteConfiguration {
        name: name.to_owned(),
        // A cluster that comes later must not hold up all routes.
        validate_clusters: pb::boolean(false),
        max_direct_response_body_size_bytes: pb::uint(1024 * 1024),
        ignore_port_in_host_matching: true,
        ..RouteConfiguration::default()
    };
    let hosts = plan.virtual_hosts(port);
    let drafts: Vec<HostDraft<'_>> = hosts
        .iter()
        .map(|(message, routes)| HostDraft {
            message: message.clone(),
            routes,
        })
        .collect();
    let body = http_route::encode(&configuration, &drafts);
    EncodedResource::new(TypeUrl::RouteConfiguration.as_str(), Arc::from(name), &body)
}

/// The servers that have the routes called `name`.
pub(super) fn servers<'a>(
    merged: &'a Merged,
    name: &'a str,
) -> impl Iterator<Item = &'a Server> + 'a {
    let named = move |server: &&Server| !name.is_empty() && server.routes == name;
    merged.servers().filter(named)
}

/// Virtual hosts while they are built.
#[derive(Default)]
struct Plan {
    /// Routes of one `VirtualService` at one `Gateway`.
    routes: Vec<Vec<BuiltRoute>>,
    known: BTreeMap<(GatewayName, ObjectMeta), usize>,
    hosts: BTreeMap<String, Host>,
}

struct Host {
    port: u16,
    /// Indices of routes, in order.
    parts: Vec<usize>,
    /// Plain requests are told to come back with HTTPS.
    redirects: bool,
}

impl Plan {
    /// Adds the hosts of one server.
    fn add(&mut self, client: &Client, server: &Server) {
        let Some(spec) = server.spec() else { return };
        let gateway = server.gateway_name();
        let all = &client.snapshot.mesh().virtual_services;
        let redirects = spec.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        for service in all.visible(&client.proxy.namespace, &gateway) {
            let of = &service.meta.namespace;
            let usable = server.hosts.iter().filter(|host| host.admits(of));
            let wanted: Vec<&str> = service.hosts.iter().map(|host| &**host).collect();
            let shared = intersection(usable.map(|host| &*host.host), &wanted);
            if shared.is_empty() {
                continue;
            }
            let key = (gateway.clone(), service.meta.clone());
            let at = *self.known.entry(key).or_insert_with(|| {
                let context = context(client, spec, &gateway);
                self.routes.push(http_route::routes(service, &context));
                self.routes.len() - 1
            });
            // istiod: routes that are all for other gateways make no host.
            if self.routes.get(at).is_some_and(|routes| !routes.is_empty()) {
                for host in shared {
                    self.host(host, spec.port, redirects, Some(at));
                }
            }
        }
        if redirects {
            for host in &server.hosts {
                self.host(&host.host, spec.port, true, None);
            }
        }
    }

    fn host(&mut self, name: &str, port: u16, redirects: bool, routes: Option<usize>) {
        let host = self.hosts.entry(name.to_ascii_lowercase());
        let host = host.or_insert_with(|| Host {
            port,
            parts: Vec::new(),
            redirects: false,
        });
        host.redirects |= redirects;
        if let Some(at) = routes.filter(|at| !host.parts.contains(at)) {
            host.parts.push(at);
        }
    }

    /// The virtual hosts with their routes, sorted by name. Hosts with equal
    /// routes are one, which is called as the most specific of them (istiod:
    /// `collapseDuplicateRoutes`).
    fn virtual_hosts(self, port: u16) -> Vec<(VirtualHost, Vec<BuiltRoute>)> {
        if self.hosts.is_empty() {
            // Nothing is bound: every request is answered with 404.
            let message = VirtualHost {
                name: format!("blackhole:{port}"),
                domains: vec!["*".to_owned()],
                ..VirtualHost::default()
            };
            return vec![(message, Vec::new())];
        }
        let mut order: Vec<(&String, &Host)> = self.hosts.iter().collect();
        order.sort_by_key(|(name, _)| (name.starts_with('*'), Reverse(name.len()), *name));
        let mut groups: BTreeMap<(&[usize], bool), VirtualHost> = BTreeMap::new();
        for (name, host) in order {
            let group = groups.entry((&host.parts, host.redirects));
            let message = group.or_insert_with(|| VirtualHost {
                name: format!("{}:{}", in_host_header(name), host.port),
                include_request_attempt_count: true,
                ..VirtualHost::default()
            });
            if host.redirects {
                message.set_require_tls(TlsRequirementType::All);
            }
            message.domains.push(name.clone());
        }
        let routes = |parts: &[usize]| {
            let all = parts.iter().filter_map(|at| self.routes.get(*at));
            let mut all: Vec<BuiltRoute> = all.flatten().cloned().collect();
            // Else nothing would get past those of the first object.
            all.sort_by_key(|route| route.catch_all);
            all
        };
        let hosts = groups.into_iter();
        let mut hosts: Vec<_> = hosts
            .map(|((parts, _), message)| (message, routes(parts)))
            .collect();
        hosts.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        hosts
    }
}
