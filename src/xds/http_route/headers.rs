//! Changes of headers.

use std::sync::Arc;

use envoy_types::pb::envoy::config::{
    core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
    route::v3::{Route, weighted_cluster::ClusterWeight},
};

use crate::model::{HeaderChanges, HeaderOperations};

/// Appends the changes to those of a route.
pub(super) fn change(route: &mut Route, headers: &HeaderOperations) {
    let HeaderOperations { request, response } = headers;
    route.request_headers_to_add.extend(added(request));
    route.request_headers_to_remove.extend(removed(request));
    route.response_headers_to_add.extend(added(response));
    route.response_headers_to_remove.extend(removed(response));
}

/// Sets the changes for one of several destinations.
pub(super) fn change_weighted(cluster: &mut ClusterWeight, headers: &HeaderOperations) {
    let HeaderOperations { request, response } = headers;
    cluster.request_headers_to_add = added(request);
    cluster.request_headers_to_remove = removed(request);
    cluster.response_headers_to_add = added(response);
    cluster.response_headers_to_remove = removed(response);
}

/// The authority that requests get: Envoy has a way of its own for it. One that
/// is set wins over one that is added.
pub(super) fn authority(headers: &HeaderOperations) -> Option<&Arc<str>> {
    let of = |pairs: &'_ [(Arc<str>, Arc<str>)]| {
        let found = pairs.iter().rposition(|(name, _)| is_authority(name));
        found.filter(|at| pairs.get(*at).is_some_and(|(_, value)| !value.is_empty()))
    };
    let HeaderChanges { set, add, .. } = &headers.request;
    let set_at = of(set).and_then(|at| set.get(at));
    let found = set_at.or_else(|| of(add).and_then(|at| add.get(at)));
    found.map(|(_, value)| value)
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Envoy refuses to change these.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host")
}

fn added(changes: &HeaderChanges) -> Vec<HeaderValueOption> {
    let option = |(name, value): &(Arc<str>, Arc<str>), action: HeaderAppendAction| {
        let header = HeaderValue {
            key: String::from(&**name),
            value: String::from(&**value),
            ..HeaderValue::default()
        };
        HeaderValueOption {
            header: Some(header),
            append_action: action.into(),
            ..HeaderValueOption::default()
        }
    };
    let set = changes.set.iter();
    let set = set.map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = changes.add.iter();
    let add = add.map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
    let external = set.chain(add).filter(|((name, _), _)| !is_internal(name));
    external
        .map(|(pair, action)| option(pair, action))
        .collect()
}

fn removed(changes: &HeaderChanges) -> Vec<String> {
    let external = changes.remove.iter().filter(|name| !is_internal(name));
    external.map(|name| String::from(&**name)).collect()
}
