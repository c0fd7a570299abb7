//! What one HTTP route does with requests.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{matches::Pattern, regex::expression};
use crate::manifest::{
    Problem,
    istio::one_of,
    json::{Int, List, Text},
};
use crate::model::{
    AbortStatus, Body, CorsPolicy, DirectResponse, Fault, Redirect, RedirectCode, RedirectPort,
    Retries, Rewrite, Share, StringMatch, parse_duration,
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct RedirectTo<'a> {
    uri: Text<'a>,
    authority: Text<'a>,
    scheme: Text<'a>,
    port: Int,
    derive_port: Text<'a>,
    redirect_code: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct Answer<'a> {
    status: Int,
    body: Option<AnswerBody<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct AnswerBody<'a> {
    string: Option<Text<'a>>,
    bytes: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct RewriteTo<'a> {
    uri: Text<'a>,
    authority: Text<'a>,
    uri_regex_rewrite: Option<RegexRewrite<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct RegexRewrite<'a> {
    r#match: Text<'a>,
    rewrite: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(in crate::manifest) struct RetryRule<'a> {
    attempts: Int,
    per_try_timeout: Text<'a>,
    retry_on: Text<'a>,
    retry_remote_localities: Option<bool>,
    retry_ignore_previous_hosts: Option<bool>,
    backoff: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(super) struct FaultRule<'a> {
    delay: Option<DelayRule<'a>>,
    abort: Option<AbortRule<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct DelayRule<'a> {
    fixed_delay: Text<'a>,
    percentage: Option<Percentage>,
    percent: Int,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct AbortRule<'a> {
    http_status: Int,
    grpc_status: Text<'a>,
    percentage: Option<Percentage>,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct Percentage {
    value: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct Cors<'a> {
    allow_origin: List<Text<'a>>,
    allow_origins: List<Pattern<'a>>,
    allow_methods: List<Text<'a>>,
    allow_headers: List<Text<'a>>,
    expose_headers: List<Text<'a>>,
    max_age: Text<'a>,
    allow_credentials: Option<bool>,
    unmatched_preflights: Text<'a>,
}

/// Envoy refuses routes with a longer one.
const LONGEST_BODY: usize = 1024 * 1024;

const DERIVED_PORTS: &[(&str, RedirectPort)] = &[
    ("FROM_PROTOCOL_DEFAULT", RedirectPort::OfProtocol),
    ("FROM_REQUEST_PORT", RedirectPort::OfRequest),
];

const PREFLIGHTS: &[(&str, bool)] = &[
    ("", false),
    ("UNSPECIFIED", false),
    ("FORWARD", false),
    ("IGNORE", true),
];

/// gRPC's status codes, in the order of their numbers.
const GRPC_STATUSES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Percentage {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "istiod cuts the fraction off, and the range is bounded before"
    )]
    pub(super) fn share(self) -> Share {
        let percent = self.value.unwrap_or_default().clamp(0.0, 100.0);
        Share::PerMillion((percent * 10_000.0) as u32)
    }
}

pub(super) fn redirect(redirect: &RedirectTo<'_>) -> Result<Redirect, Problem> {
    let port = match (redirect.port.0, redirect.derive_port.filled()) {
        // Protobuf JSON cannot tell 0 from unset.
        (Some(0), _) => RedirectPort::OfProtocol,
        (Some(number), _) => {
            let port = redirect.port.port();
            let port = port.ok_or_else(|| Problem::port("redirect.port", Some(number)));
            RedirectPort::Number(port?)
        }
        (None, Some(word)) => one_of("redirect.derivePort", word, DERIVED_PORTS)?,
        (None, None) => RedirectPort::Unset,
    };
    let code = match redirect.redirect_code.0.unwrap_or_default() {
        0 | 301 => RedirectCode::MovedPermanently,
        302 => RedirectCode::Found,
        303 => RedirectCode::SeeOther,
        307 => RedirectCode::Temporary,
        308 => RedirectCode::Permanent,
        other => {
            let reason = format!("{other} is no redirect; use 301, 302, 303, 307 or 308");
            return Err(Problem::new("redirect.redirectCode", reason));
        }
    };
    Ok(Redirect {
        uri: redirect.uri.arc(),
        authority: redirect.authority.arc(),
        scheme: redirect.scheme.arc(),
        port,
        code,
    })
}

pub(super) fn answer(answer: &Answer<'_>) -> Result<DirectResponse, Problem> {
    let status = answer.status.set().filter(|s| (200..600).contains(s));
    let Some(status) = status else {
        let reason = "is no HTTP status; use 200 to 599";
        return Err(Problem::new("directResponse.status", reason));
    };
    let body = answer.body.as_ref().and_then(|body| match body {
        AnswerBody {
            string: Some(text), ..
        } => Some(Ok(Body::Text(text.arc()))),
        AnswerBody {
            bytes: Some(bytes), ..
        } => Some(STANDARD.decode(&**bytes).map(|b| Body::Bytes(b.into()))),
        AnswerBody { .. } => None,
    });
    let body = body.transpose().map_err(|error| {
        let reason = format!("is not base64 ({error})");
        Problem::new("directResponse.body.bytes", reason)
    })?;
    let length = match &body {
        Some(Body::Text(text)) => text.len(),
        Some(Body::Bytes(bytes)) => bytes.len(),
        None => 0,
    };
    if length > LONGEST_BODY {
        let reason = format!("has {length} bytes; use up to {LONGEST_BODY}");
        return Err(Problem::new("directResponse.body", reason));
    }
    Ok(DirectResponse { status, body })
}

pub(super) fn rewrite(rewrite: &RewriteTo<'_>) -> Result<Rewrite, Problem> {
    let regex = rewrite.uri_regex_rewrite.as_ref().map(|regex| {
        let matched = expression(&regex.r#match);
        let matched = matched.map_err(|e| e.below(format_args!("rewrite.uriRegexRewrite")));
        Ok((matched?, regex.rewrite.arc()))
    });
    Ok(Rewrite {
        uri: rewrite.uri.arc(),
        authority: rewrite.authority.arc(),
        uri_regex: regex.transpose()?,
    })
}

impl RetryRule<'_> {
    pub(in crate::manifest) fn read(&self, field: &str) -> Result<Retries, Problem> {
        let time = |name: &str, text: &Text<'_>| span(text, &format!("{field}.{name}"));
        Ok(Retries {
            attempts: self.attempts.positive().unwrap_or_default(),
            per_try_timeout: time("perTryTimeout", &self.per_try_timeout)?,
            retry_on: self.retry_on.arc(),
            remote_localities: self.retry_remote_localities.unwrap_or_default(),
            ignore_previous_hosts: self.retry_ignore_previous_hosts,
            // Envoy refuses none at all.
            backoff: time("backoff", &self.backoff)?.filter(|time| !time.is_zero()),
        })
    }
}

pub(super) fn fault(rule: &FaultRule<'_>) -> Result<Fault, Problem> {
    let delay = rule.delay.as_ref().map(|delay| {
        let fixed = span(&delay.fixed_delay, "fault.delay.fixedDelay")?;
        let fixed = fixed.filter(|time| !time.is_zero());
        let of_hundred = Share::Percent(delay.percent.positive().unwrap_or_default());
        let share = delay.percentage.map_or(of_hundred, Percentage::share);
        Ok(fixed.map(|fixed| (fixed, share)))
    });
    let abort = rule.abort.as_ref().map(abort).transpose()?.flatten();
    Ok(Fault {
        delay: delay.transpose()?.flatten(),
        abort,
    })
}

fn abort(abort: &AbortRule<'_>) -> Result<Option<(AbortStatus, Option<Share>)>, Problem> {
    let share = abort.percentage.map(Percentage::share);
    if let Some(name) = abort.grpc_status.filled() {
        let code = GRPC_STATUSES.iter().position(|known| *known == name);
        let code = code.and_then(|code| u32::try_from(code).ok());
        let unknown = || Problem::word("fault.abort.grpcStatus", name, GRPC_STATUSES);
        return Ok(Some((AbortStatus::Grpc(code.ok_or_else(unknown)?), share)));
    }
    let Some(status) = abort.http_status.0 else {
        return Ok(None);
    };
    let http = u32::try_from(status)
        .ok()
        .filter(|s| (200..600).contains(s));
    let http = http.ok_or_else(|| {
        let reason = format!("{status} is no HTTP status; use 200 to 599");
        Problem::new("fault.abort.httpStatus", reason)
    });
    Ok(Some((AbortStatus::Http(http?), share)))
}

pub(super) fn cors(cors: &Cors<'_>) -> Result<CorsPolicy, Problem> {
    let preflights = &cors.unmatched_preflights;
    let origins = super::each(
        &cors.allow_origins,
        "corsPolicy.allowOrigins",
        Pattern::of_value,
    );
    let mut origins = origins?;
    if origins.is_empty() {
        let exact = |text: &Text<'_>| StringMatch::Exact(text.arc());
        origins = cors.allow_origin.iter().map(exact).collect();
    }
    Ok(CorsPolicy {
        origins,
        methods: super::http::texts(&cors.allow_methods),
        headers: super::http::texts(&cors.allow_headers),
        expose: super::http::texts(&cors.expose_headers),
        max_age: span(&cors.max_age, "corsPolicy.maxAge")?,
        credentials: cors.allow_credentials,
        ends_unmatched_preflights: one_of(
            "corsPolicy.unmatchedPreflights",
            preflights,
            PREFLIGHTS,
        )?,
    })
}

/// A duration, or none where it is unset.
pub(super) fn span(text: &str, field: &str) -> Result<Option<Duration>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = parse_duration(text).map(Some);
    read.ok_or_else(|| {
        let reason = format!("{text:?} is not a duration; write it as 1.5s or 1m");
        Problem::new(field, reason)
    })
}
