//! `delegate`: routes of one `VirtualService` that stand in another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::model::{
    Delegate, ExportTo, GatewayName, HeaderOperations, HttpMatch, HttpRoute, Labels, SourceMatch,
    StringMatch, VirtualService,
};

/// All that have hosts, with the routes of their delegates in place. One without
/// hosts is a delegate and nothing else (istiod: `mergeVirtualServicesIfNeeded`).
pub(super) fn merged(
    all: impl IntoIterator<Item = Arc<VirtualService>>,
    default_export: &ExportTo,
) -> Vec<Arc<VirtualService>> {
    let mut delegates = BTreeMap::new();
    let mut roots = Vec::new();
    for service in all {
        if service.hosts.is_empty() {
            let key = Delegate {
                namespace: service.meta.namespace.clone(),
                name: Arc::clone(&service.meta.name),
            };
            delegates.insert(key, service);
        } else {
            roots.push(service);
        }
    }
    let known = Delegates {
        by_name: delegates,
        default_export,
    };
    roots.into_iter().map(|root| known.filled(root)).collect()
}

struct Delegates<'d> {
    by_name: BTreeMap<Delegate, Arc<VirtualService>>,
    default_export: &'d ExportTo,
}

impl Delegates<'_> {
    fn filled(&self, root: Arc<VirtualService>) -> Arc<VirtualService> {
        if root.http.iter().all(|route| route.delegate.is_none()) {
            return root;
        }
        let routes = |route: &HttpRoute| match &route.delegate {
            None => vec![route.clone()],
            Some(name) => self.routes(name, &root, route),
        };
        Arc::new(VirtualService {
            http: root.http.iter().flat_map(routes).collect(),
            ..(*root).clone()
        })
    }

    /// The delegate's routes below `route`; none where there is no such
    /// delegate, or the root may not see it.
    fn routes(&self, name: &Delegate, root: &VirtualService, route: &HttpRoute) -> Vec<HttpRoute> {
        let Some(found) = self.by_name.get(name) else {
            return Vec::new();
        };
        let own = &found.meta.namespace;
        let default = || self.default_export.in_namespace(own);
        let export = found.export_to.clone().unwrap_or_else(default);
        if !export.includes(&root.meta.namespace) {
            return Vec::new();
        }
        // A delegate has no delegates.
        let own = found.http.iter().filter(|route| route.delegate.is_none());
        own.filter_map(|own| below(route, own)).collect()
    }
}

/// A delegate's route, narrowed to what the root's route takes, which also says
/// what the delegate leaves open; none where nothing of it is left.
fn below(root: &HttpRoute, own: &HttpRoute) -> Option<HttpRoute> {
    let matches = match (root.matches.as_slice(), own.matches.as_slice()) {
        ([], _) => own.matches.clone(),
        (_, []) => root.matches.clone(),
        (outer, inner) => narrowed(outer, inner)?,
    };
    let with_mirrors = if own.mirrors.is_empty() { root } else { own };
    let says_none = own.headers == HeaderOperations::default();
    let with_headers = if says_none { root } else { own };
    Some(HttpRoute {
        name: joined(&root.name, &own.name),
        matches,
        redirect: own.redirect.clone(),
        direct_response: own
            .direct_response
            .clone()
            .or_else(|| root.direct_response.clone()),
        destinations: own.destinations.clone(),
        delegate: None,
        rewrite: own.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: own.timeout.or(root.timeout),
        retries: own.retries.clone().or_else(|| root.retries.clone()),
        fault: own.fault.clone().or_else(|| root.fault.clone()),
        mirrors: with_mirrors.mirrors.clone(),
        cors: own.cors.clone().or_else(|| root.cors.clone()),
        headers: with_headers.headers.clone(),
    })
}

fn joined(root: &Arc<str>, own: &Arc<str>) -> Arc<str> {
    match (root.is_empty(), own.is_empty()) {
        (_, true) => Arc::clone(root),
        (true, false) => Arc::clone(own),
        (false, false) => Arc::from(format!("{root}-{own}")),
    }
}

/// Each inner alternative below each outer one that it does not contradict;
/// none where some inner one contradicts all.
fn narrowed(outer: &[HttpMatch], inner: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    let mut all = Vec::new();
    for inner in inner {
        let fitting = outer.iter().filter(|outer| !contradicts(outer, inner));
        let before = all.len();
        all.extend(fitting.map(|outer| both(outer, inner)));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

fn both(outer: &HttpMatch, inner: &HttpMatch) -> HttpMatch {
    let either = |inner: &Option<StringMatch>, outer: &Option<StringMatch>| {
        inner.clone().or_else(|| outer.clone())
    };
    let first = |inner: &Arc<str>, outer: &Arc<str>| {
        Arc::clone(if inner.is_empty() { outer } else { inner })
    };
    HttpMatch {
        name: joined(&outer.name, &inner.name),
        uri: either(&inner.uri, &outer.uri),
        ignore_uri_case: inner.ignore_uri_case,
        scheme: either(&inner.scheme, &outer.scheme),
        method: either(&inner.method, &outer.method),
        authority: either(&inner.authority, &outer.authority),
        headers: united(&outer.headers, &inner.headers),
        without_headers: united(&outer.without_headers, &inner.without_headers),
        query_params: united(&outer.query_params, &inner.query_params),
        port: inner.port.or(outer.port),
        source: SourceMatch {
            labels: labels(&outer.source.labels, &inner.source.labels),
            namespace: first(&inner.source.namespace, &outer.source.namespace),
            gateways: if inner.source.gateways.is_empty() {
                outer.source.gateways.clone()
            } else {
                inner.source.gateways.clone()
            },
        },
        stat_prefix: first(&inner.stat_prefix, &outer.stat_prefix),
    }
}

type Pairs = [(Arc<str>, StringMatch)];

fn united(outer: &Pairs, inner: &Pairs) -> Vec<(Arc<str>, StringMatch)> {
    let all: BTreeMap<_, _> = outer.iter().chain(inner).cloned().collect();
    all.into_iter().collect()
}

fn labels(outer: &Labels, inner: &Labels) -> Labels {
    let all: BTreeMap<_, _> = outer.iter().chain(inner.iter()).collect();
    let pairs = all.into_iter();
    pairs.map(|(k, v)| (Arc::clone(k), Arc::clone(v))).collect()
}

/// Whether the inner alternative may take requests that the outer one does not.
fn contradicts(outer: &HttpMatch, inner: &HttpMatch) -> bool {
    let parts = [
        (&outer.uri, &inner.uri),
        (&outer.scheme, &inner.scheme),
        (&outer.method, &inner.method),
        (&outer.authority, &inner.authority),
    ];
    let named = [
        (&outer.headers, &inner.headers),
        (&outer.without_headers, &inner.without_headers),
        (&outer.query_params, &inner.query_params),
    ];
    let differs = |(outer, inner): &(Option<u16>, Option<u16>)| {
        outer.is_some() && inner.is_some() && outer != inner
    };
    let (of_outer, of_inner) = (&outer.source, &inner.source);
    parts
        .iter()
        .any(|(outer, inner)| is_wider(outer.as_ref(), inner.as_ref()))
        || named.iter().any(|(outer, inner)| any_wider(outer, inner))
        || outer.ignore_uri_case != inner.ignore_uri_case
        || differs(&(outer.port, inner.port))
        || (!of_outer.namespace.is_empty() && of_inner.namespace != of_outer.namespace)
        || of_inner.labels.iter().any(|(key, value)| {
            let outer = of_outer.labels.get(key);
            outer.is_some_and(|outer| *outer != **value)
        })
        || reaches_beyond(&of_outer.gateways, &of_inner.gateways)
}

fn any_wider(outer: &Pairs, inner: &Pairs) -> bool {
    inner.iter().any(|(name, inner)| {
        let outer = outer.iter().find(|(n, _)| n == name);
        is_wider(outer.map(|(_, outer)| outer), Some(inner))
    })
}

fn reaches_beyond(outer: &[GatewayName], inner: &[GatewayName]) -> bool {
    let outer: BTreeSet<_> = outer.iter().collect();
    !outer.is_empty() && inner.iter().any(|gateway| !outer.contains(gateway))
}

/// Whether `inner` takes texts that `outer` does not, or that cannot be told
/// (istiod: `stringMatchConflict`).
fn is_wider(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> bool {
    let (Some(outer), Some(inner)) = (outer, inner) else {
        return false;
    };
    match (outer, inner) {
        (StringMatch::Exact(outer), StringMatch::Exact(inner)) => outer != inner,
        (StringMatch::Prefix(outer), StringMatch::Prefix(inner) | StringMatch::Exact(inner)) => {
            !inner.starts_with(&**outer)
        }
        _ => true,
    }
}
