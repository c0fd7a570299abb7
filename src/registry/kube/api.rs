//! Requests for one resource, and what comes back: objects as they were sent.
//!
//! kube's typed `Api` and its `watcher` are not used: a list page with one
//! object that does not decode fails as a whole and is logged as a whole (with
//! Secrets in it), a streaming list has no fallback, and nothing tells that a
//! broken watch has been resumed, so a cluster would stay "stale" for ever.

use std::{borrow::Cow, time::Duration};

use futures::Stream;
use kube::{
    Client,
    api::{ListParams, Request, WatchParams},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::lines::{self, Line};

/// Time for an API server to begin its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Objects per page of a paged list.
const PAGE: u32 = 500;

/// What to ask for: one resource type, narrowed by namespace and selectors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resource {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural name.
    pub plural: String,
    /// One namespace only.
    pub namespace: Option<String>,
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
    /// Ask for names and labels only.
    pub metadata_only: bool,
    /// Ask for events in protobuf form; a server may send JSON all the same.
    pub protobuf: bool,
}

impl Resource {
    /// Its URL path.
    pub(crate) fn path(&self) -> String {
        let root = match self.group.as_str() {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    fn request(&self) -> Request {
        Request::new(self.path())
    }

    /// Opens a watch: after `version`, or with none a streaming list, which
    /// brings every object and then a mark (KEP-3157).
    pub(crate) async fn watch(
        &self,
        client: &Client,
        version: Option<&str>,
        limit: Duration,
    ) -> Result<impl Stream<Item = Result<Line, Failure>> + Send + use<>, Failure> {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(u32::try_from(limit.as_secs()).unwrap_or(u32::MAX)),
            bookmarks: true,
            send_initial_events: version.is_none(),
        };
        let version = version.unwrap_or_default();
        let request = if self.metadata_only {
            self.request().watch_metadata(&params, version)
        } else {
            self.request().watch(&params, version)
        };
        let request = request.map_err(|e| Failure::request(&e))?;
        let opened = timeout(ANSWER, lines::open(client, request, self.protobuf));
        opened.await.map_err(|_| Failure::NoAnswer(ANSWER))?
    }

    /// One page of a paged list.
    pub(crate) async fn page(
        &self,
        client: &Client,
        token: Option<String>,
    ) -> Result<Page, Failure> {
        let params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: token,
            ..ListParams::default()
        };
        let request = if self.metadata_only {
            self.request().list_metadata(&params)
        } else {
            self.request().list(&params)
        };
        let request = request.map_err(|e| Failure::request(&e))?;
        // `request_text`, not `request`: the latter logs a body that it cannot
        // decode, and that may be a list of Secrets.
        let answer = timeout(ANSWER, client.request_text(request));
        let text = answer.await.map_err(|_| Failure::NoAnswer(ANSWER))??;
        Page::parse(text)
    }
}

/// One page of a list, still text: objects are borrowed from it.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    /// Resource version of the list.
    pub version: String,
    /// Names the next page.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct ListHead<'a> {
    #[serde(borrow, default)]
    metadata: ListMeta<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ListMeta<'a> {
    #[serde(borrow, default)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, default, rename = "continue")]
    next: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ListBody<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

impl Page {
    fn parse(text: String) -> Result<Self, Failure> {
        let head: ListHead<'_> = serde_json::from_str(&text).map_err(|e| Failure::json(&e))?;
        let version = head.metadata.resource_version.into_owned();
        let next = head.metadata.next.into_owned();
        Ok(Self {
            text,
            version,
            next: (!next.is_empty()).then_some(next),
        })
    }

    /// Its objects as JSON.
    pub(crate) fn items(&self) -> Result<Vec<&str>, Failure> {
        let body: ListBody<'_> = serde_json::from_str(&self.text).map_err(|e| Failure::json(&e))?;
        let items = body.items.unwrap_or_default();
        Ok(items.into_iter().map(RawValue::get).collect())
    }
}

/// Why a request or a watch failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API server refused.
    #[error("the API server answered {code} {reason}: {message}")]
    Refused {
        /// HTTP code.
        code: u16,
        /// Kubernetes reason.
        reason: String,
        /// Text.
        message: String,
    },
    /// No answer in time.
    #[error("the API server did not answer within {} seconds", .0.as_secs())]
    NoAnswer(Duration),
    /// Nothing was heard for longer than the watch was to last.
    #[error("the watch fell silent for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// A streaming list that never came to its end mark.
    #[error("the API server ended a streaming list before its end mark")]
    Unfinished,
    /// A watch that ended right after it began.
    #[error("the API server ended the watch at once")]
    Ended,
    /// Anything between us and the API server.
    #[error("{0}")]
    Transport(String),
}

impl Failure {
    fn request(error: &kube::core::request::Error) -> Self {
        Self::Transport(format!("the request could not be made: {error}"))
    }

    /// Only the place of the error: the text may hold Secrets.
    pub(super) fn json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self::Transport(format!(
            "the answer is not JSON (line {line} column {column})"
        ))
    }

    /// The HTTP code, where the server gave one.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The version asked for is no longer kept, or not there yet (504: the API
    /// server was restored from a backup): list again.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if matches!(code, 410 | 504))
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
            },
            kube::Error::SerdeError(error) => Self::json(&error),
            other => Self::Transport(chain(&other)),
        }
    }
}

/// The error and its causes; the outermost alone says "service error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
