//! `VirtualService.http`: what is done with HTTP requests.

use std::{sync::Arc, time::Duration};

use super::{Destination, Namespace, SourceMatch};

/// One HTTP route. Of redirect, direct response and destinations the first one
/// that is there counts, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpRoute {
    /// Name, for logs and statistics.
    pub name: Arc<str>,
    /// Alternatives; empty takes every request.
    pub matches: Vec<HttpMatch>,
    /// `redirect`.
    pub redirect: Option<Redirect>,
    /// `directResponse`.
    pub direct_response: Option<DirectResponse>,
    /// `route`.
    pub destinations: Vec<HttpDestination>,
    /// Another `VirtualService` that has the routes.
    pub delegate: Option<Delegate>,
    /// `rewrite`.
    pub rewrite: Option<Rewrite>,
    /// `timeout`; none is no limit.
    pub timeout: Option<Duration>,
    /// `retries`; none means the default.
    pub retries: Option<Retries>,
    /// `fault`.
    pub fault: Option<Fault>,
    /// `mirror` and `mirrors`; none with a share of 0.
    pub mirrors: Vec<Mirror>,
    /// `corsPolicy`.
    pub cors: Option<CorsPolicy>,
    /// `headers`.
    pub headers: HeaderOperations,
}

/// Which requests a route takes: all that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpMatch {
    /// Appended to the route's name.
    pub name: Arc<str>,
    /// Path.
    pub uri: Option<StringMatch>,
    /// Whether `uri` is compared without regard to case.
    pub ignore_uri_case: bool,
    /// `scheme`.
    pub scheme: Option<StringMatch>,
    /// `method`.
    pub method: Option<StringMatch>,
    /// `authority`.
    pub authority: Option<StringMatch>,
    /// Headers by name.
    pub headers: Vec<(Arc<str>, StringMatch)>,
    /// Headers that must not match, by name.
    pub without_headers: Vec<(Arc<str>, StringMatch)>,
    /// Query parameters by name.
    pub query_params: Vec<(Arc<str>, StringMatch)>,
    /// Port the request was sent to.
    pub port: Option<u16>,
    /// Who sends it.
    pub source: SourceMatch,
    /// `statPrefix`.
    pub stat_prefix: Arc<str>,
}

/// How a text must look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StringMatch {
    /// It is there.
    #[default]
    Present,
    /// It is this.
    Exact(Arc<str>),
    /// It begins so.
    Prefix(Arc<str>),
    /// An RE2 expression matches all of it.
    Regex(Arc<str>),
}

/// One destination of a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpDestination {
    /// Where to.
    pub destination: Destination,
    /// Its share; an only destination takes all whatever it says.
    pub weight: u32,
    /// Header changes for requests that go there.
    pub headers: HeaderOperations,
}

/// `headers`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderOperations {
    /// Of requests.
    pub request: HeaderChanges,
    /// Of responses.
    pub response: HeaderChanges,
}

/// Changes of headers, each sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    /// Overwritten.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Appended.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Removed, in the order given.
    pub remove: Vec<Arc<str>>,
}

/// `redirect`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Redirect {
    /// New path; empty keeps it.
    pub uri: Arc<str>,
    /// New authority; empty keeps it.
    pub authority: Arc<str>,
    /// New scheme; empty keeps it.
    pub scheme: Arc<str>,
    /// New port.
    pub port: RedirectPort,
    /// Status.
    pub code: RedirectCode,
}

/// Port of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RedirectPort {
    /// Not set.
    #[default]
    Unset,
    /// `FROM_PROTOCOL_DEFAULT`.
    OfProtocol,
    /// `FROM_REQUEST_PORT`.
    OfRequest,
    /// `port`.
    Number(u16),
}

/// Status of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RedirectCode {
    /// 301.
    #[default]
    MovedPermanently,
    /// 302.
    Found,
    /// 303.
    SeeOther,
    /// 307.
    Temporary,
    /// 308.
    Permanent,
}

/// `directResponse`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectResponse {
    /// Status.
    pub status: u32,
    /// Body.
    pub body: Option<Body>,
}

/// A body, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// `string`.
    Text(Arc<str>),
    /// `bytes`.
    Bytes(Arc<[u8]>),
}

/// `delegate`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delegate {
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: Arc<str>,
}

/// `rewrite`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// In place of the matched prefix or path; empty keeps it.
    pub uri: Arc<str>,
    /// New authority; empty keeps it.
    pub authority: Arc<str>,
    /// Expression and its substitution; wins over `uri`.
    pub uri_regex: Option<(Arc<str>, Arc<str>)>,
}

/// `retries`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retries {
    /// 0 turns retries off.
    pub attempts: u32,
    /// Time for each attempt.
    pub per_try_timeout: Option<Duration>,
    /// Conditions and status codes, as written; empty for the default.
    pub retry_on: Arc<str>,
    /// Whether other localities are tried.
    pub remote_localities: bool,
    /// Whether endpoints that were tried are avoided; none for the default.
    pub ignore_previous_hosts: Option<bool>,
    /// `backoff`.
    pub backoff: Option<Duration>,
}

/// A share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Share {
    /// Of hundred.
    Percent(u32),
    /// Of a million.
    PerMillion(u32),
}

/// `fault`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// `delay`.
    pub delay: Option<(Duration, Share)>,
    /// `abort`; without a share Envoy aborts none.
    pub abort: Option<(AbortStatus, Option<Share>)>,
}

/// What an aborted request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbortStatus {
    /// HTTP status.
    Http(u32),
    /// gRPC status.
    Grpc(u32),
}

/// A copy of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where to.
    pub destination: Destination,
    /// How many.
    pub share: Share,
}

/// `corsPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsPolicy {
    /// `allowOrigins` (or `allowOrigin`).
    pub origins: Vec<StringMatch>,
    /// `allowMethods`.
    pub methods: Vec<Arc<str>>,
    /// `allowHeaders`.
    pub headers: Vec<Arc<str>>,
    /// `exposeHeaders`.
    pub expose: Vec<Arc<str>>,
    /// `maxAge`.
    pub max_age: Option<Duration>,
    /// `allowCredentials`.
    pub credentials: Option<bool>,
    /// `unmatchedPreflights: IGNORE`: preflights of other origins end here.
    pub ends_unmatched_preflights: bool,
}
