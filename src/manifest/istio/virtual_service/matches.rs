//! `http[].match`.

use std::sync::Arc;

use serde::Deserialize;

use super::{Reader, Unknown, port, regex::expression};
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
    pub(super) fn read(&self) -> Result<StringMatch, Problem> {
        Ok(match (&self.exact, &self.prefix, &self.regex) {
            (Some(text), ..) => StringMatch::Exact(text.arc()),
            (_, Some(text), _) => StringMatch::Prefix(text.arc()),
            (.., Some(text)) => StringMatch::Regex(expression(text)?),
            _ => StringMatch::Present,
        })
    }

    /// The same for headers and parameters, where istiod takes the expression
    /// `*`, which is none, for any value. Envoy refuses an empty prefix.
    pub(super) fn of_value(&self) -> Result<StringMatch, Problem> {
        let is_any = self.regex.as_ref().is_some_and(|text| &**text == "*");
        if is_any && self.exact.is_none() && self.prefix.is_none() {
            return Ok(StringMatch::Present);
        }
        Ok(match self.read()? {
            StringMatch::Prefix(text) if text.is_empty() => StringMatch::Present,
            other => other,
        })
    }
}

type ByName<'a> = Map<'a, Option<Pattern<'a>>>;

fn by_name(map: &ByName<'_>, field: &str) -> Result<Vec<(Arc<str>, StringMatch)>, Problem> {
    let entry = |(name, pattern): &(Text<'_>, Option<Pattern<'_>>)| {
        if name.is_empty() {
            return Err(Problem::new(field, "has an entry without a name"));
        }
        let pattern = pattern.as_ref().map(Pattern::of_value).transpose();
        let pattern = pattern.map_err(|e| e.below(format_args!("{field}.{}", &**name)));
        Ok((name.arc(), pattern?.unwrap_or_default()))
    };
    let mut all = map.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

impl Reader<'_> {
    pub(super) fn http_match(&mut self, found: &Match<'_>) -> Result<HttpMatch, Problem> {
        self.look_over(&found.unknown);
        let value = |pattern: &Option<Pattern<'_>>, field: &str| {
            let read = pattern.as_ref().map(Pattern::of_value).transpose();
            read.map_err(|e| e.below(format_args!("{field}")))
        };
        let uri = found.uri.as_ref().map(Pattern::read).transpose();
        Ok(HttpMatch {
            name: found.name.arc(),
            uri: uri.map_err(|e| e.below(format_args!("uri")))?,
            ignore_uri_case: found.ignore_uri_case.unwrap_or_default(),
            scheme: value(&found.scheme, "scheme")?,
            method: value(&found.method, "method")?,
            authority: value(&found.authority, "authority")?,
            headers: by_name(&found.headers, "headers")?,
            without_headers: by_name(&found.without_headers, "withoutHeaders")?,
            query_params: by_name(&found.query_params, "queryParams")?,
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
