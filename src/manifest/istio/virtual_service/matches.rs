//! `http[].match`.

use std::sync::Arc;

use serde::Deserialize;

use super::{Reader, Unknown, port};
use crate::manifest::{
    Problem,
    json::{Int, List, Map, Text},
};
use crate::model::{HttpMatch, StringMatch};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Match<'a> {
    name: Text<'a>,
    uri: Option<Pattern<'a>>,
    scheme: Option<Pattern<'a>>,
    method: Option<Pattern<'a>>,
    authority: Option<Pattern<'a>>,
    headers: Map<'a, Option<Pattern<'a>>>,
    without_headers: Map<'a, Option<Pattern<'a>>>,
    query_params: Map<'a, Option<Pattern<'a>>>,
    ignore_uri_case: Option<bool>,
    port: Int,
    source_labels: Map<'a, Text<'a>>,
    source_namespace: Text<'a>,
    gateways: List<Text<'a>>,
    stat_prefix: Text<'a>,
    #[serde(flatten)]
    unknown: Unknown<'a>,
}

/// `StringMatch`.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Pattern<'a> {
    exact: Option<Text<'a>>,
    prefix: Option<Text<'a>>,
    regex: Option<Text<'a>>,
}

impl Pattern<'_> {
    pub(super) fn read(&self) -> StringMatch {
        match (&self.exact, &self.prefix, &self.regex) {
            (Some(text), ..) => StringMatch::Exact(text.arc()),
            (_, Some(text), _) => StringMatch::Prefix(text.arc()),
            (.., Some(text)) => StringMatch::Regex(text.arc()),
            _ => StringMatch::Present,
        }
    }

    /// The same for headers and parameters, where istiod takes the expression
    /// `*`, which is none, for any value.
    fn of_value(&self) -> StringMatch {
        match self.read() {
            StringMatch::Regex(text) if &*text == "*" => StringMatch::Present,
            other => other,
        }
    }
}

fn by_name(map: &Map<'_, Option<Pattern<'_>>>) -> Vec<(Arc<str>, StringMatch)> {
    let entry = |(name, pattern): &(Text<'_>, Option<Pattern<'_>>)| {
        let pattern = pattern.as_ref().map(Pattern::of_value);
        (name.arc(), pattern.unwrap_or_default())
    };
    let mut all: Vec<_> = map.iter().map(entry).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

impl Reader<'_> {
    pub(super) fn http_match(&mut self, found: &Match<'_>) -> Result<HttpMatch, Problem> {
        self.look_over(&found.unknown);
        let value = |pattern: &Option<Pattern<'_>>| pattern.as_ref().map(Pattern::of_value);
        Ok(HttpMatch {
            name: found.name.arc(),
            uri: found.uri.as_ref().map(Pattern::read),
            ignore_uri_case: found.ignore_uri_case.unwrap_or_default(),
            scheme: value(&found.scheme),
            method: value(&found.method),
            authority: value(&found.authority),
            headers: by_name(&found.headers),
            without_headers: by_name(&found.without_headers),
            query_params: by_name(&found.query_params),
            port: port(found.port)?,
            source: self.source(
                &found.source_labels,
                &found.source_namespace,
                &found.gateways,
            ),
            stat_prefix: found.stat_prefix.arc(),
        })
    }
}
