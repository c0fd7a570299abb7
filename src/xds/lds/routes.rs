//! The routes inside of inbound listeners: everything to one cluster.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::{
    Decorator, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    route::Action,
    route_action::{ClusterSpecifier, MaxStreamDuration},
    route_match::PathSpecifier,
};

use crate::model::Protocol;
use crate::xds::pb;

/// Routes to `cluster` for the service port `called` of `owner`.
pub(super) fn inbound(
    cluster: &str,
    protocol: Protocol,
    called: u16,
    owner: &str,
) -> RouteConfiguration {
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        decorator: Some(Decorator {
            operation: format!("{owner}:{called}/*"),
            ..Decorator::default()
        }),
        action: Some(Action::Route(forward(cluster, protocol))),
        ..Route::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{called}"),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..VirtualHost::default()
        }],
        // The cluster may come later.
        validate_clusters: pb::boolean(false),
        ..RouteConfiguration::default()
    }
}

/// Without any limit: the application has its own.
fn forward(cluster: &str, protocol: Protocol) -> RouteAction {
    let never = || pb::duration(Duration::ZERO);
    let is_grpc = matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb);
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: never(),
        max_stream_duration: Some(MaxStreamDuration {
            max_stream_duration: never(),
            grpc_timeout_header_max: never(),
            ..MaxStreamDuration::default()
        }),
        // The application closed an idle connection while the request was on its
        // way. Streams of gRPC cannot be sent again.
        retry_policy: (!is_grpc).then(|| RetryPolicy {
            retry_on: "reset-before-request".to_owned(),
            num_retries: pb::uint(2),
            ..RetryPolicy::default()
        }),
        ..RouteAction::default()
    }
}
