//! Which requests a route takes.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};

use crate::model::{HttpMatch, StringMatch};
use crate::xds::pb;

/// Headers of this form stand for claims of a JSON Web Token.
const CLAIMS: &str = "@request.auth.claims";

/// Every request.
pub(super) fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    }
}

/// Whether some header is a claim, which no request has: nothing here checks
/// tokens.
pub(super) fn wants_claims(found: &HttpMatch) -> bool {
    found.headers.iter().any(|(name, _)| is_claim(name))
}

fn is_claim(name: &str) -> bool {
    let start = name.get(..CLAIMS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(CLAIMS))
}

/// The requests that `found` names.
pub(super) fn request(found: &HttpMatch) -> RouteMatch {
    let mut headers: Vec<HeaderMatcher> = found.headers.iter().map(|(n, t)| header(n, t)).collect();
    let without = found.without_headers.iter();
    headers.extend(without.filter(|(n, _)| !is_claim(n)).map(absent));
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let parts = [
        (":method", &found.method),
        (":authority", &found.authority),
        (":scheme", &found.scheme),
    ];
    let parts = parts
        .iter()
        .filter_map(|(name, text)| Some((name, text.as_ref()?)));
    headers.extend(parts.map(|(name, text)| header(name, text)));
    RouteMatch {
        path_specifier: Some(path(found.uri.as_ref())),
        case_sensitive: pb::boolean(!found.ignore_uri_case),
        headers,
        query_parameters: found.query_params.iter().map(query).collect(),
        ..RouteMatch::default()
    }
}

/// Whether no request gets past it (istiod: `IsCatchAllRoute`).
pub(super) fn takes_everything(found: &RouteMatch) -> bool {
    let any_path = match &found.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path && found.headers.is_empty() && found.query_parameters.is_empty()
}

fn path(uri: Option<&StringMatch>) -> PathSpecifier {
    match uri {
        None | Some(StringMatch::Present) => PathSpecifier::Prefix("/".to_owned()),
        Some(StringMatch::Exact(path)) => PathSpecifier::Path(String::from(&**path)),
        Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(String::from(&**prefix)),
        Some(StringMatch::Regex(text)) => PathSpecifier::SafeRegex(regex(text)),
    }
}

pub(super) fn regex(text: &Arc<str>) -> RegexMatcher {
    RegexMatcher {
        regex: String::from(&**text),
        ..RegexMatcher::default()
    }
}

/// How a text must look; none where it need only be there.
pub(super) fn text(found: &StringMatch) -> Option<StringMatcher> {
    let pattern = match found {
        StringMatch::Present => return None,
        StringMatch::Exact(text) => MatchPattern::Exact(String::from(&**text)),
        StringMatch::Prefix(text) => MatchPattern::Prefix(String::from(&**text)),
        StringMatch::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    };
    Some(StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    })
}

fn header(name: &str, found: &StringMatch) -> HeaderMatcher {
    let specifier = match text(found) {
        Some(text) => HeaderMatchSpecifier::StringMatch(text),
        None => HeaderMatchSpecifier::PresentMatch(true),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

/// A header that must not match; a missing one does not, unless it is asked
/// for at all.
fn absent((name, found): &(Arc<str>, StringMatch)) -> HeaderMatcher {
    HeaderMatcher {
        invert_match: true,
        treat_missing_header_as_empty: *found != StringMatch::Present,
        ..header(name, found)
    }
}

fn query((name, found): &(Arc<str>, StringMatch)) -> QueryParameterMatcher {
    let specifier = match text(found) {
        Some(text) => QueryParameterMatchSpecifier::StringMatch(text),
        None => QueryParameterMatchSpecifier::PresentMatch(true),
    };
    QueryParameterMatcher {
        name: String::from(&**name),
        query_parameter_match_specifier: Some(specifier),
    }
}
