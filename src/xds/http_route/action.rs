//! What a route does with requests.

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::{
        core::v3::{DataSource, RuntimeFractionalPercent, data_source::Specifier},
        route::v3::{
            DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
            redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
            route::Action,
            route_action::{
                ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy,
                hash_policy::{
                    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier,
                    QueryParameter,
                },
            },
            weighted_cluster::{ClusterWeight, cluster_weight},
        },
    },
    r#type::matcher::v3::RegexMatchAndSubstitute,
};

use super::{Context, filters, headers, matching, retry};
use crate::model::{
    Body, ConsistentHash, DirectResponse, HashKey, HttpDestination, HttpRoute, Mirror, Redirect,
    RedirectCode, RedirectPort, Rewrite,
};
use crate::xds::pb;

/// Sets what `built` does; a single destination's header changes join the
/// route's.
pub(super) fn act(built: &mut Route, route: &HttpRoute, context: &Context<'_>) {
    let action = match (&route.redirect, &route.direct_response) {
        (Some(to), _) => Action::Redirect(redirect(to, context)),
        (None, Some(answer)) => Action::DirectResponse(direct_response(answer)),
        (None, None) => {
            let action = send(route, context);
            if let [only] = route.destinations.as_slice() {
                headers::change(built, &only.headers);
            }
            Action::Route(action)
        }
    };
    built.action = Some(action);
}

/// The cluster that all requests of a route go to.
pub(super) fn only_cluster(route: &Route) -> Option<&str> {
    match &route.action {
        Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            ..
        })) => Some(cluster),
        _ => None,
    }
}

/// To a cluster, with no time limit: the mesh must not end what works.
pub(in crate::xds) fn forward(cluster: String) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..limited(Duration::ZERO)
    }
}

#[allow(
    deprecated,
    reason = "istiod sends it; its successor counts from another point in time"
)]
fn limited(timeout: Duration) -> RouteAction {
    RouteAction {
        timeout: pb::duration(timeout),
        max_grpc_timeout: pb::duration(timeout),
        ..RouteAction::default()
    }
}

fn send(route: &HttpRoute, context: &Context<'_>) -> RouteAction {
    let mut action = limited(route.timeout.unwrap_or_default());
    let mut authority = headers::authority(&route.headers);
    if let Some(rewrite) = &route.rewrite {
        rewrite_path(&mut action, rewrite);
        let new = Some(&rewrite.authority).filter(|text| !text.is_empty());
        authority = new.or(authority);
    }
    action.request_mirror_policies = route.mirrors.iter().map(|m| mirror(m, context)).collect();
    let mut is_hashed = false;
    if let [only] = route.destinations.as_slice() {
        // istiod: the route's authority wins over its destination's.
        authority = authority.or_else(|| headers::authority(&only.headers));
        let cluster = context.cluster(&only.destination);
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
        let hash = context.hash(&only.destination);
        is_hashed = hash.is_some();
        action
            .hash_policy
            .extend(hash.as_ref().and_then(hash_policy));
    } else {
        // A share of nothing is left out: Envoy would still look at it.
        let taking = route.destinations.iter().filter(|d| d.weight > 0);
        let clusters = taking.clone().map(|d| weighted(d, context)).collect();
        let hashes = taking.filter_map(|d| context.hash(&d.destination));
        action.hash_policy = hashes.filter_map(|hash| hash_policy(&hash)).collect();
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters,
            ..WeightedCluster::default()
        }));
    }
    action.host_rewrite_specifier = authority.map(literal);
    let of_mesh = context.mesh().default_retries.as_ref();
    action.retry_policy = retry::policy(route.retries.as_ref().or(of_mesh), is_hashed);
    action
}

fn literal(authority: &Arc<str>) -> HostRewriteSpecifier {
    HostRewriteSpecifier::HostRewriteLiteral(String::from(&**authority))
}

fn weighted(destination: &HttpDestination, context: &Context<'_>) -> ClusterWeight {
    let mut cluster = ClusterWeight {
        name: context.cluster(&destination.destination),
        weight: pb::uint(destination.weight),
        host_rewrite_specifier: headers::authority(&destination.headers).map(|authority| {
            let authority = String::from(&**authority);
            cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(authority)
        }),
        ..ClusterWeight::default()
    };
    headers::change_weighted(&mut cluster, &destination.headers);
    cluster
}

fn rewrite_path(action: &mut RouteAction, rewrite: &Rewrite) {
    if let Some((expression, substitution)) = &rewrite.uri_regex {
        action.regex_rewrite = Some(RegexMatchAndSubstitute {
            pattern: Some(matching::regex(expression)),
            substitution: String::from(&**substitution),
        });
    } else {
        action.prefix_rewrite = String::from(&*rewrite.uri);
    }
}

fn mirror(mirror: &Mirror, context: &Context<'_>) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: context.cluster(&mirror.destination),
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(filters::fraction(mirror.share)),
            ..RuntimeFractionalPercent::default()
        }),
        trace_sampled: pb::boolean(false),
        // The copy is for the host that the request names.
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}

/// What of requests is hashed, so that those of one key go to one endpoint.
pub(in crate::xds) fn hash_policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    let text = |text: &Arc<str>| String::from(&**text);
    let specifier = match hash.key.as_ref()? {
        HashKey::Header(name) => PolicySpecifier::Header(Header {
            header_name: text(name),
            ..Header::default()
        }),
        HashKey::Cookie {
            name,
            path,
            ttl,
            attributes,
        } => PolicySpecifier::Cookie(Cookie {
            name: text(name),
            path: text(path),
            ttl: ttl.and_then(pb::duration),
            attributes: attributes
                .iter()
                .map(|(name, value)| CookieAttribute {
                    name: text(name),
                    value: text(value),
                })
                .collect(),
        }),
        HashKey::SourceIp(used) => {
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: *used })
        }
        HashKey::Query(name) => {
            PolicySpecifier::QueryParameter(QueryParameter { name: text(name) })
        }
    };
    Some(HashPolicy {
        policy_specifier: Some(specifier),
        ..HashPolicy::default()
    })
}

fn redirect(to: &Redirect, context: &Context<'_>) -> RedirectAction {
    let port = match to.port {
        RedirectPort::Unset | RedirectPort::OfProtocol => 0,
        RedirectPort::OfRequest => context.port,
        RedirectPort::Number(number) => number,
    };
    let scheme = match (&*to.scheme, context.is_tls) {
        ("", true) => "https",
        ("", false) => "http",
        (scheme, _) => scheme,
    };
    let is_default = matches!((scheme, port), ("http", 80) | ("https", 443));
    let code = match to.code {
        RedirectCode::MovedPermanently => RedirectResponseCode::MovedPermanently,
        RedirectCode::Found => RedirectResponseCode::Found,
        RedirectCode::SeeOther => RedirectResponseCode::SeeOther,
        RedirectCode::Temporary => RedirectResponseCode::TemporaryRedirect,
        RedirectCode::Permanent => RedirectResponseCode::PermanentRedirect,
    };
    let new_scheme = Some(&to.scheme).filter(|scheme| !scheme.is_empty());
    RedirectAction {
        host_redirect: String::from(&*to.authority),
        port_redirect: if is_default { 0 } else { u32::from(port) },
        response_code: code.into(),
        scheme_rewrite_specifier: new_scheme
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(String::from(&**scheme))),
        path_rewrite_specifier: Some(PathRewriteSpecifier::PathRedirect(String::from(&*to.uri))),
        ..RedirectAction::default()
    }
}

fn direct_response(answer: &DirectResponse) -> DirectResponseAction {
    let body = answer.body.as_ref().map(|body| match body {
        Body::Text(text) => Specifier::InlineString(String::from(&**text)),
        Body::Bytes(bytes) => Specifier::InlineBytes(bytes.to_vec()),
    });
    DirectResponseAction {
        status: answer.status,
        body: body.map(|body| DataSource {
            specifier: Some(body),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    }
}
