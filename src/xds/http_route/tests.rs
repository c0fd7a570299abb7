use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction},
    route::v3::{
        HeaderMatcher, RouteAction,
        header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier,
        redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
        route::Action,
        route_action::{ClusterSpecifier, HostRewriteSpecifier},
    },
};
use envoy_types::pb::envoy::extensions::filters::http::{
    cors::v3::CorsPolicy, fault::v3::HttpFault,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message;

use super::*;
use crate::mesh::MeshState;
use crate::model::{
    ConnectionPool, GatewayName, HashKey, HashTable, LoadBalancer, MeshConfig, Namespace, NodeKind,
    Protocol, Retries,
};
use crate::testing::snapshot::{ServiceBuilder, service, snapshot_of};
use crate::testing::virtual_services::virtual_service;

/// Builds the routes of a `VirtualService` for `web` with this list.
struct Fixture {
    services: Vec<ServiceBuilder>,
    mesh: MeshState,
    labels: Vec<(&'static str, &'static str)>,
    port: u16,
}

impl Default for Fixture {
    fn default() -> Self {
        let http = |name: &str, port| service(name, "ns").port("http", port, Protocol::Http);
        Self {
            services: vec![
                http("web", 80).port("other", 81, Protocol::Http),
                http("single", 8080),
            ],
            mesh: MeshState::default(),
            labels: Vec::new(),
            port: 80,
        }
    }
}

impl Fixture {
    fn built(self, list: &str) -> Vec<BuiltRoute> {
        let yaml =
            format!("metadata: {{name: v, namespace: ns}}\nspec: {{hosts: [web], http: [{list}]}}");
        let snapshot = snapshot_of(self.mesh, self.services);
        let namespace = Namespace::from("ns");
        let labels = self.labels.into_iter().collect();
        let scope = Scope::of(&snapshot, &namespace, &labels, NodeKind::Sidecar);
        let context = Context {
            snapshot: &snapshot,
            scope: &scope,
            source: Source {
                labels: &labels,
                namespace: &namespace,
                gateways: &[GatewayName::Mesh],
            },
            port: self.port,
            is_tls: false,
        };
        routes(&virtual_service(&yaml), &context)
    }

    fn routes(self, list: &str) -> Vec<Route> {
        let built = self.built(list);
        let read = built
            .iter()
            .map(|built| Route::decode(built.bytes.as_slice()));
        read.map(|route| route.expect("a route")).collect()
    }

    fn route(self, fields: &str) -> Route {
        let mut routes = self.routes(&format!("{{{fields}}}"));
        assert_eq!(routes.len(), 1);
        routes.remove(0)
    }
}

/// A route to `web` with these fields in it.
fn to_web(fields: &str) -> Route {
    Fixture::default().route(&format!(
        "route: [{{destination: {{host: web}}}}], {fields}"
    ))
}

/// What a route to these destinations does.
fn sent(fields: &str) -> RouteAction {
    action(Fixture::default().route(fields))
}

fn action(route: Route) -> RouteAction {
    match route.action {
        Some(Action::Route(action)) => action,
        other => panic!("{other:?}"),
    }
}

fn cluster(action: &RouteAction) -> &str {
    match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => cluster,
        other => panic!("{other:?}"),
    }
}

fn names(routes: &[Route]) -> Vec<&str> {
    routes.iter().map(|route| route.name.as_str()).collect()
}

const WEB: &str = "route: [{destination: {host: web}}]";

#[test]
fn alternatives_are_routes_of_their_own_in_the_order_given() {
    let list = format!(
        "{{name: a, match: [{{name: one, uri: {{prefix: /1}}}}, {{uri: {{exact: /2}}}}], {WEB}}},
         {{name: b, {WEB}}}, {{name: never, {WEB}}}"
    );
    let found = Fixture::default().routes(&list);
    assert_eq!(names(&found), ["a.one", "a", "b"]);
    let operations: Vec<_> = found
        .iter()
        .map(|r| &*r.decorator.as_ref().expect("one").operation)
        .collect();
    let web = "web.ns.svc.cluster.local:80";
    assert_eq!(
        operations,
        [format!("{web}/1*"), format!("{web}/2"), format!("{web}/*")]
    );
}

#[test]
fn nothing_stands_behind_a_route_that_takes_everything() {
    for all in ["uri: {prefix: /}", "uri: {regex: '.*'}", "name: m"] {
        let list = format!("{{match: [{{{all}}}], {WEB}}}, {{name: never, {WEB}}}");
        let built = Fixture::default().built(&list);
        assert_eq!(built.len(), 1, "{all}");
        assert!(built[0].catch_all, "{all}");
    }
    for some in [
        "uri: {prefix: /a}",
        "headers: {a: {}}",
        "queryParams: {a: {}}",
    ] {
        let list = format!("{{match: [{{{some}}}], {WEB}}}, {{name: last, {WEB}}}");
        assert_eq!(Fixture::default().built(&list).len(), 2, "{some}");
    }
}

#[test]
fn matches_for_other_clients_and_ports_are_left_out() {
    let list = format!(
        "{{name: r, match: [{{name: mine, uri: {{exact: /1}}, sourceLabels: {{app: a}}, port: 80}},
           {{name: others, sourceLabels: {{app: b}}}}, {{name: port, port: 81}},
           {{name: far, sourceNamespace: other}}, {{name: gateway, gateways: [gw]}}], {WEB}}}"
    );
    let fixture = Fixture {
        labels: vec![("app", "a"), ("tier", "x")],
        ..Fixture::default()
    };
    assert_eq!(names(&fixture.routes(&list)), ["r.mine"]);
}

#[test]
fn claims_of_tokens_match_no_request() {
    let list = format!(
        "{{match: [{{headers: {{'@request.auth.claims.group': {{exact: a}}}}}}], {WEB}}},
         {{name: rest, match: [{{withoutHeaders: {{'@request.auth.claims[group]': {{}}}}}}], {WEB}}}"
    );
    let found = Fixture::default().routes(&list);
    assert_eq!(names(&found), ["rest"]);
    assert!(
        found[0]
            .r#match
            .as_ref()
            .expect("a match")
            .headers
            .is_empty()
    );
}

#[test]
fn requests_are_matched_by_all_their_parts() {
    let found = to_web(
        "match: [{uri: {prefix: /A}, ignoreUriCase: true, method: {exact: GET},
           headers: {x-b: {regex: 'b+'}, x-a: {}}, withoutHeaders: {x-c: {exact: c}, x-0: {}},
           queryParams: {q: {exact: y}, p: {}}, authority: {prefix: we}, scheme: {exact: http}}]",
    );
    let found = found.r#match.expect("a match");
    assert_eq!(found.case_sensitive.map(|c| c.value), Some(false));
    let headers: Vec<_> = found.headers.iter().map(|h| h.name.as_str()).collect();
    let expected = [
        "x-0",
        "x-a",
        "x-b",
        "x-c",
        ":method",
        ":authority",
        ":scheme",
    ];
    assert_eq!(headers, expected);
    let present = |h: &HeaderMatcher| {
        let is = Some(HeaderMatchSpecifier::PresentMatch(true));
        h.header_match_specifier == is
    };
    let [no_0, a, _, no_c, ..] = found.headers.as_slice() else {
        panic!("{:?}", found.headers);
    };
    assert!(present(a) && !a.invert_match);
    assert!(present(no_0) && no_0.invert_match && !no_0.treat_missing_header_as_empty);
    assert!(no_c.invert_match && no_c.treat_missing_header_as_empty);
    let [p, q] = found.query_parameters.as_slice() else {
        panic!("{:?}", found.query_parameters);
    };
    let there = Some(QueryParameterMatchSpecifier::PresentMatch(true));
    assert_eq!(p.query_parameter_match_specifier, there);
    let Some(QueryParameterMatchSpecifier::StringMatch(text)) = &q.query_parameter_match_specifier
    else {
        panic!("{q:?}");
    };
    assert_eq!(text.match_pattern, Some(MatchPattern::Exact("y".into())));
}

#[test]
fn a_single_destination_takes_all_and_changes_headers_of_the_route() {
    let route = Fixture::default().route(
        "headers: {request: {set: {b: '1', a: '2'}, remove: [z, Host]}},
         route: [{destination: {host: web, subset: v1}, weight: 7,
           headers: {request: {add: {c: '3', ':path': x}}, response: {set: {d: '4'}}}}]",
    );
    let added: Vec<_> = route
        .request_headers_to_add
        .iter()
        .map(|h: &HeaderValueOption| {
            (
                h.header.as_ref().expect("a header").key.as_str(),
                h.append_action(),
            )
        })
        .collect();
    let over = HeaderAppendAction::OverwriteIfExistsOrAdd;
    let append = HeaderAppendAction::AppendIfExistsOrAdd;
    assert_eq!(added, [("a", over), ("b", over), ("c", append)]);
    assert_eq!(route.request_headers_to_remove, ["z"]);
    assert_eq!(route.response_headers_to_add.len(), 1);
    let cluster_name = "outbound|80|v1|web.ns.svc.cluster.local";
    assert_eq!(cluster(&action(route)), cluster_name);
}

#[test]
fn shares_are_kept_and_destinations_of_none_left_out() {
    let action = sent(
        "route: [{destination: {host: web, subset: v2}, weight: 20},
           {destination: {host: web, subset: v1}, weight: 80,
            headers: {request: {set: {Host: x.com, a: '1'}}}},
           {destination: {host: web}}]",
    );
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = action.cluster_specifier else {
        panic!("{action:?}");
    };
    let shares: Vec<_> = weighted
        .clusters
        .iter()
        .map(|c| (c.name.as_str(), c.weight.map(|w| w.value)))
        .collect();
    let expected = [
        ("outbound|80|v2|web.ns.svc.cluster.local", Some(20)),
        ("outbound|80|v1|web.ns.svc.cluster.local", Some(80)),
    ];
    assert_eq!(shares, expected);
    let second = &weighted.clusters[1];
    assert_eq!(second.request_headers_to_add.len(), 1);
    assert!(second.host_rewrite_specifier.is_some());
}

#[test]
fn without_a_port_a_destination_has_the_requests_port_or_its_only_one() {
    let of = |destination: &str| {
        let action = sent(&format!("route: [{{destination: {{{destination}}}}}]"));
        cluster(&action).to_owned()
    };
    assert_eq!(of("host: web"), "outbound|80||web.ns.svc.cluster.local");
    assert_eq!(
        of("host: single"),
        "outbound|8080||single.ns.svc.cluster.local"
    );
    assert_eq!(
        of("host: single, port: {number: 80}"),
        "outbound|80||single.ns.svc.cluster.local"
    );
    assert_eq!(
        of("host: gone.example.com"),
        "outbound|80||gone.example.com"
    );
}

#[test]
fn the_routes_authority_wins_over_its_destinations() {
    let of = |fields: &str| {
        let action = sent(fields);
        match action.host_rewrite_specifier {
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => host,
            other => panic!("{other:?}"),
        }
    };
    let route = "headers: {request: {set: {Host: of-route}}}";
    let destination =
        "route: [{destination: {host: web}, headers: {request: {set: {':authority': of-one}}}}]";
    let rewrite = "rewrite: {authority: of-rewrite}";
    assert_eq!(
        of(&format!("{destination}, {route}, {rewrite}")),
        "of-rewrite"
    );
    assert_eq!(of(&format!("{destination}, {route}")), "of-route");
    assert_eq!(of(destination), "of-one");
}

#[test]
fn paths_are_rewritten_by_prefix_or_by_expression() {
    let prefix = action(to_web("rewrite: {uri: /new}"));
    assert_eq!(prefix.prefix_rewrite, "/new");
    let regex = action(to_web(
        "rewrite: {uri: /unused, uriRegexRewrite: {match: '^/a/(.*)', rewrite: '/\\1'}}",
    ));
    assert_eq!(regex.prefix_rewrite, "");
    let rewrite = regex.regex_rewrite.expect("an expression");
    assert_eq!(rewrite.substitution, "/\\1");
}

#[test]
#[allow(deprecated, reason = "the field that istiod sends")]
fn there_is_no_time_limit_unless_one_is_set() {
    let seconds = |action: &RouteAction| {
        let timeout = action.timeout.expect("a limit").seconds;
        assert_eq!(action.max_grpc_timeout.map(|t| t.seconds), Some(timeout));
        timeout
    };
    assert_eq!(seconds(&action(to_web("name: r"))), 0);
    assert_eq!(seconds(&action(to_web("timeout: 5s"))), 5);
}

#[test]
fn retries_are_the_routes_then_the_meshs_then_the_default() {
    let of = |mesh: Option<Retries>, fields: &str| {
        let fixture = Fixture {
            mesh: MeshState {
                config: Arc::new(MeshConfig {
                    default_retries: mesh,
                    ..MeshConfig::default()
                }),
                ..MeshState::default()
            },
            ..Fixture::default()
        };
        let fields = format!("{WEB}, {fields}");
        action(fixture.route(&fields)).retry_policy
    };
    let default = of(None, "name: r").expect("retries");
    assert_eq!(
        default.retry_on,
        "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    );
    assert_eq!(default.num_retries.map(|n| n.value), Some(2));
    assert_eq!(default.retry_host_predicate.len(), 1);

    let mesh = Some(Retries {
        attempts: 7,
        ..Retries::default()
    });
    let of_mesh = of(mesh.clone(), "name: r").expect("retries");
    assert_eq!(of_mesh.num_retries.map(|n| n.value), Some(7));

    let own = of(
        mesh.clone(),
        "retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx, 503 ,418', \
          retryRemoteLocalities: true, retryIgnorePreviousHosts: false, backoff: 30ms}",
    );
    let own = own.expect("retries");
    assert_eq!(own.retry_on, "5xx,retriable-status-codes");
    assert_eq!(own.retriable_status_codes, [503, 418]);
    assert!(own.retry_host_predicate.is_empty());
    assert_eq!(own.per_try_timeout.map(|t| t.seconds), Some(2));
    assert!(own.retry_priority.is_some() && own.retry_back_off.is_some());
    assert_eq!(of(mesh, "retries: {attempts: 0}"), None);
}

#[test]
fn redirects_name_a_port_only_where_it_is_not_the_usual_one() {
    let of = |fields: &str| {
        let route = Fixture::default().route(&format!("redirect: {{{fields}}}"));
        match route.action {
            Some(Action::Redirect(redirect)) => redirect,
            other => panic!("{other:?}"),
        }
    };
    let full = of("uri: /x, authority: y.com, scheme: https, port: 8443, redirectCode: 307");
    assert_eq!((&*full.host_redirect, full.port_redirect), ("y.com", 8443));
    let path = PathRewriteSpecifier::PathRedirect("/x".into());
    assert_eq!(full.path_rewrite_specifier, Some(path));
    let scheme = SchemeRewriteSpecifier::SchemeRedirect("https".into());
    assert_eq!(full.scheme_rewrite_specifier, Some(scheme));
    assert_eq!(of("scheme: https, port: 443").port_redirect, 0);
    assert_eq!(of("derivePort: FROM_REQUEST_PORT").port_redirect, 0);
    assert_eq!(of("derivePort: FROM_PROTOCOL_DEFAULT").port_redirect, 0);
    let elsewhere = Fixture {
        port: 8080,
        ..Fixture::default()
    };
    let route = elsewhere.route("redirect: {derivePort: FROM_REQUEST_PORT}");
    let Some(Action::Redirect(redirect)) = route.action else {
        panic!("{route:?}");
    };
    assert_eq!(redirect.port_redirect, 8080);
}

#[test]
fn a_redirect_comes_before_an_answer_before_destinations() {
    let route = Fixture::default().route(&format!("directResponse: {{status: 418}}, {WEB}"));
    assert!(matches!(route.action, Some(Action::DirectResponse(a)) if a.status == 418));
    let both = "redirect: {uri: /x}, directResponse: {status: 418}";
    let route = Fixture::default().route(&format!("{both}, {WEB}"));
    assert!(matches!(route.action, Some(Action::Redirect(_))));
}

#[test]
fn faults_and_shared_origins_are_settings_of_filters() {
    let route = to_web(
        "fault: {delay: {fixedDelay: 1s, percentage: {value: 0.25}},
           abort: {httpStatus: 503, percentage: {value: 50}}},
         corsPolicy: {allowOrigins: [{exact: 'http://a'}, {regex: '.*'}], allowMethods: [GET, PUT],
           maxAge: 1h, allowCredentials: true, unmatchedPreflights: IGNORE}",
    );
    let any = |name: &str| route.typed_per_filter_config[name].value.as_slice();
    let fault = HttpFault::decode(any("envoy.filters.http.fault")).expect("a fault");
    let delay = fault.delay.and_then(|d| d.percentage).expect("a share");
    assert_eq!((delay.numerator, delay.denominator), (2500, 2));
    let abort = fault.abort.and_then(|a| a.percentage).expect("a share");
    assert_eq!(abort.numerator, 500_000);
    let cors = CorsPolicy::decode(any("envoy.filters.http.cors")).expect("a policy");
    assert_eq!(cors.allow_origin_string_match.len(), 2);
    assert_eq!((&*cors.allow_methods, &*cors.max_age), ("GET,PUT", "3600"));
    let forwards = cors.forward_not_matching_preflights.map(|f| f.value);
    assert_eq!(forwards, Some(false));
}

#[test]
fn equal_routes_are_equal_bytes() {
    let fields = "{fault: {abort: {httpStatus: 503}}, corsPolicy: {allowMethods: [GET]},
        route: [{destination: {host: web}}]}";
    let first = Fixture::default().built(fields);
    for _ in 0..20 {
        assert_eq!(Fixture::default().built(fields), first);
    }
}

#[test]
fn copies_go_where_mirrors_say() {
    let action = action(to_web(
        "mirror: {host: single}, mirrorPercentage: {value: 12.5}",
    ));
    let [copy] = action.request_mirror_policies.as_slice() else {
        panic!("{action:?}");
    };
    assert_eq!(copy.cluster, "outbound|8080||single.ns.svc.cluster.local");
    assert!(copy.disable_shadow_host_suffix_append);
    let share = copy.runtime_fraction.as_ref().and_then(|f| f.default_value);
    assert_eq!(share.map(|s| s.numerator), Some(125_000));
}

fn hashed(name: &str, at: u16) -> (u16, PolicySettings) {
    let hash = ConsistentHash {
        key: Some(HashKey::Header(Arc::from(name))),
        table: HashTable::Unset(0),
    };
    let settings = PolicySettings {
        load_balancer: Some(LoadBalancer {
            consistent_hash: Some(hash),
            ..LoadBalancer::default()
        }),
        connection_pool: Some(ConnectionPool::default()),
        ..PolicySettings::default()
    };
    (at, settings)
}

#[test]
fn requests_are_hashed_as_the_destinations_rule_says() {
    let web = service("web", "ns").port("http", 80, Protocol::Http);
    let mut web = web.rule(hashed("of-rule", 0).1, &["v1", "v2"]);
    let rule = &mut web.rules[0];
    rule.policy.ports.push(hashed("of-port", 80));
    rule.subsets[1].policy.base = hashed("of-subset", 0).1;
    let header = |destination: &str| {
        let fixture = Fixture {
            services: vec![web.clone()],
            ..Fixture::default()
        };
        let route = fixture.route(&format!("route: [{{destination: {{{destination}}}}}]"));
        let action = action(route);
        let again = action.retry_policy.expect("retries").retry_host_predicate;
        assert!(again.is_empty(), "the hash chooses the endpoint");
        format!("{:?}", action.hash_policy)
    };
    assert!(header("host: web").contains("of-rule"));
    assert!(header("host: web, port: {number: 80}").contains("of-port"));
    assert!(header("host: web, subset: v1").contains("of-rule"));
    assert!(header("host: web, subset: v2, port: {number: 80}").contains("of-subset"));
}
