//! Virtual hosts: which names lead to which routes.

use std::collections::{BTreeSet, HashSet};

use envoy_types::pb::envoy::config::route::v3::{Decorator, Route, VirtualHost, route::Action};

use super::domains::{Domains, in_host_header};
use super::{Builder, Target, any_path};
use crate::model::{ClusterName, Destination, GatewayName, Hostname, Service, Source};
use crate::xds::egress;
use crate::xds::http_route::{self, BuiltRoute, Context, HostDraft};

/// The virtual hosts of one configuration.
#[derive(Debug, Default)]
pub(super) struct Plan {
    hosts: Vec<Host>,
    routes: Vec<Vec<BuiltRoute>>,
}

#[derive(Debug)]
struct Host {
    name: String,
    domains: Vec<String>,
    /// Index into the routes of the plan.
    routes: usize,
}

/// A name that requests are for, before it is known which of its names are
/// taken.
#[derive(Debug)]
struct Wish<'a> {
    host: &'a str,
    port: u16,
    /// None for a name that only a `VirtualService` knows.
    service: Option<&'a Service>,
    routes: usize,
}

impl Plan {
    /// The virtual hosts, without order.
    pub(super) fn drafts(&self) -> Vec<HostDraft<'_>> {
        let draft = |host: &Host| {
            let message = VirtualHost {
                name: host.name.clone(),
                domains: host.domains.clone(),
                include_request_attempt_count: true,
                ..VirtualHost::default()
            };
            let routes = self.routes.get(host.routes).map_or(&[][..], Vec::as_slice);
            HostDraft { message, routes }
        };
        self.hosts.iter().map(draft).collect()
    }

    /// Whether some host takes all names: Envoy refuses a second one.
    pub(super) fn takes_all_hosts(&self) -> bool {
        let mut domains = self.hosts.iter().flat_map(|host| &host.domains);
        domains.any(|domain| domain == "*")
    }
}

/// The virtual hosts for the service ports `called`: first what
/// `VirtualService`s say, oldest first, then the default for all others.
pub(super) fn plan(builder: &Builder<'_>, called: &[(&Service, u16)]) -> Plan {
    let mut plan = Plan::default();
    let mut wishes = Vec::new();
    let mut overridden = HashSet::new();
    for (at, port) in overrides(builder, called) {
        let Some(service) = builder.egress.overrides.all.get(at) else {
            continue;
        };
        let routes = http_route::routes(service, &context(builder, port));
        if routes.is_empty() {
            continue;
        }
        let is_own = |(s, p): &&(&Service, u16)| {
            *p == port && builder.egress.overrides.of(&s.key.hostname).contains(&at)
        };
        let own: Vec<_> = called.iter().filter(is_own).collect();
        let index = plan.routes.len();
        plan.routes.push(routes);
        let names = service.hosts.iter();
        let unknown = names.filter(|host| !is_known(builder, host, port));
        wishes.extend(unknown.map(|host| Wish {
            host,
            port,
            service: None,
            routes: index,
        }));
        for (service, port) in own {
            overridden.insert((&service.key.hostname, *port));
            wishes.push(wish(service, *port, index));
        }
    }
    for (service, port) in called {
        if !overridden.contains(&(&service.key.hostname, *port)) {
            let index = plan.routes.len();
            plan.routes
                .push(vec![default_route(builder, service, *port)]);
            wishes.push(wish(service, *port, index));
        }
    }
    plan.hosts = granted(builder, &wishes);
    plan
}

fn wish(service: &Service, port: u16, routes: usize) -> Wish<'_> {
    Wish {
        host: &service.key.hostname,
        port,
        service: Some(service),
        routes,
    }
}

/// Which `VirtualService`s count, and for which ports: those for a service
/// that is called there, and on port 80 all of them, so that they can name
/// hosts that are no services (istiod does the same).
fn overrides(builder: &Builder<'_>, called: &[(&Service, u16)]) -> BTreeSet<(usize, u16)> {
    let overrides = &builder.egress.overrides;
    let of = |(service, port): &(&Service, u16)| {
        let found = overrides.of(&service.key.hostname).iter();
        found.map(|at| (*at, *port)).collect::<Vec<_>>()
    };
    let mut found: BTreeSet<_> = called.iter().flat_map(of).collect();
    if builder.target == Target::Port(80) {
        found.extend((0..overrides.all.len()).map(|at| (at, 80)));
    }
    found
}

/// Whether some service with this port has the name, or has a name that a
/// wildcard covers.
fn is_known(builder: &Builder<'_>, host: &str, port: u16) -> bool {
    // A service has its own routes alone where its port is sniffed.
    if matches!(builder.target, Target::Service(..)) {
        return true;
    }
    let has_port =
        |service: &Service| builder.target == Target::Everything || service.port(port).is_some();
    let mut services = builder.egress.services.iter().filter(|s| has_port(s));
    match host.strip_prefix('*') {
        Some(suffix) => services.any(|s| overlaps(&s.key.hostname, suffix)),
        None => services.any(|s| *s.key.hostname == *host),
    }
}

/// Whether a host may be one of those that end with `suffix`.
fn overlaps(host: &Hostname, suffix: &str) -> bool {
    match host.strip_prefix('*') {
        Some(own) => own.ends_with(suffix) || suffix.ends_with(own),
        None => host.ends_with(suffix),
    }
}

/// Gives each wish the names that nobody before it has taken.
fn granted(builder: &Builder<'_>, wishes: &[Wish<'_>]) -> Vec<Host> {
    let services = wishes.iter().filter_map(|wish| wish.service);
    let full: HashSet<&str> = services.map(|s| &*s.key.hostname).collect();
    let mut names = HashSet::new();
    let mut taken = HashSet::new();
    let mut hosts = Vec::new();
    for wish in wishes {
        let name = format!("{}:{}", in_host_header(wish.host), wish.port);
        if !names.insert(name.clone()) {
            continue;
        }
        let domains = domains(builder, wish).take(&mut taken, &full);
        if !domains.is_empty() {
            hosts.push(Host {
                name,
                domains,
                routes: wish.routes,
            });
        }
    }
    hosts
}

fn domains(builder: &Builder<'_>, wish: &Wish<'_>) -> Domains {
    let key = builder.key;
    let mut names = match wish.service {
        Some(service) => {
            let addresses = egress::addresses(service, &key.cluster, key.family, key.dual_stack);
            Domains::of(service, &key.domain, &addresses)
        }
        None => Domains::only(wish.host),
    };
    match builder.target {
        Target::Service(..) => names.all = vec!["*".to_owned()],
        Target::Everything => names.qualify(wish.port),
        Target::Port(_) => {}
    }
    names
}

fn context<'a>(builder: &'a Builder<'_>, port: u16) -> Context<'a> {
    static MESH: [GatewayName; 1] = [GatewayName::Mesh];
    Context {
        snapshot: builder.snapshot,
        scope: builder.scope,
        source: Source {
            labels: &builder.key.labels,
            namespace: &builder.key.namespace,
            gateways: &MESH,
        },
        port,
        is_tls: false,
    }
}

/// To the service itself.
fn default_route(builder: &Builder<'_>, service: &Service, port: u16) -> BuiltRoute {
    let host = &service.key.hostname;
    let context = context(builder, port);
    let hash = context.hash(&Destination {
        host: std::sync::Arc::clone(host.as_arc()),
        port: Some(port),
        ..Destination::default()
    });
    let mut action = http_route::forward(ClusterName::outbound(port, "", host).to_string());
    // istiod tries another endpoint again even where requests are hashed.
    action.retry_policy = http_route::retry_policy(context.mesh().default_retries.as_ref(), false);
    action.hash_policy = hash
        .as_ref()
        .and_then(http_route::hash_policy)
        .into_iter()
        .collect();
    let operation = format!("{}:{port}/*", in_host_header(host));
    BuiltRoute::of_everything(&Route {
        name: "default".to_owned(),
        decorator: Some(Decorator {
            operation,
            ..Decorator::default()
        }),
        ..any_path(Action::Route(action))
    })
}
