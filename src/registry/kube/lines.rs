//! The events of a watch, one after the other: lines of JSON, or frames (see
//! [`frames`]).
//!
//! kube's `request_events` reads the JSON of each line to find its end, and
//! copies the object out of it, before anyone reads the object. API servers
//! write every event alike, so the object is found by what stands around it; a
//! line of any other form is read as kube does.

use std::{borrow::Cow, error::Error, io, ops::Range};

use bytes::Bytes;
use futures::{AsyncBufRead, AsyncBufReadExt, Stream, TryStreamExt, stream};
use http::{
    HeaderValue, Request,
    header::{ACCEPT, ACCEPT_ENCODING},
};
use http_body_util::BodyExt;
use kube::{
    Client,
    client::Body,
    core::{Status, watch::BookmarkMeta},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    api::{Failure, chain},
    frames,
};
use crate::manifest::Raw;

/// An object in what it came in.
#[derive(Debug)]
pub(crate) enum Object {
    /// JSON, and its place in the line.
    Json(String, Range<usize>),
    /// The message of its kind.
    Protobuf(Bytes),
}

impl Object {
    pub(crate) fn get(&self) -> Raw<'_> {
        match self {
            Self::Json(line, at) => Raw::Json(line.get(at.clone()).unwrap_or_default()),
            Self::Protobuf(message) => Raw::Protobuf(message),
        }
    }
}

/// One event of a watch.
#[derive(Debug)]
pub(crate) enum Line {
    /// New since the list.
    Added(Object),
    /// Changed.
    Modified(Object),
    /// Gone.
    Deleted(Object),
    /// Nothing happened up to this version; `listed` ends a streaming list.
    Bookmark {
        /// Resource version.
        version: String,
        /// All objects of a streaming list were sent.
        listed: bool,
    },
}

/// An event of any form: its parts in any order.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What a bookmark says.
#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

impl Parts<'_> {
    fn read(&self) -> Result<Line, Failure> {
        let text = self.object.get();
        let json = || Object::Json(text.to_owned(), 0..text.len());
        Ok(match &*self.r#type {
            "ADDED" => Line::Added(json()),
            "MODIFIED" => Line::Modified(json()),
            "DELETED" => Line::Deleted(json()),
            "BOOKMARK" => {
                let mark: Bookmark = read(text)?;
                Line::Bookmark {
                    version: mark.metadata.resource_version,
                    listed: mark.metadata.annotations.contains_key(LISTED),
                }
            }
            "ERROR" => return Err(kube::Error::Api(read::<Status>(text)?.boxed()).into()),
            _ => return Err(Failure::Transport(UNKNOWN.to_owned())),
        })
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::json(&error))
}

/// Makes an event of its object.
type Event = fn(Object) -> Line;

/// What stands before the object of an event; behind it stands a brace.
const BEFORE: [(&str, Event); 3] = [
    (r#"{"type":"ADDED","object":"#, Line::Added),
    (r#"{"type":"MODIFIED","object":"#, Line::Modified),
    (r#"{"type":"DELETED","object":"#, Line::Deleted),
];

impl Line {
    fn read(line: String) -> Result<Self, Failure> {
        for (before, event) in BEFORE {
            if line.starts_with(before) && line.ends_with('}') {
                let object = before.len()..line.len().saturating_sub(1);
                return Ok(event(Object::Json(line, object)));
            }
        }
        if let Ok(parts) = serde_json::from_str::<Parts<'_>>(&line) {
            return parts.read();
        }
        // Some servers and proxies end a watch with a bare status.
        let status: Status = read(&line)?;
        if status.code == 0 {
            return Err(Failure::Transport(UNKNOWN.to_owned()));
        }
        Err(kube::Error::Api(status.boxed()).into())
    }
}

/// Opens a watch and follows its events, in protobuf form if the server has it.
pub(super) async fn open(
    client: &Client,
    mut request: Request<Vec<u8>>,
    protobuf: bool,
) -> Result<impl Stream<Item = Result<Line, Failure>> + Send + use<>, Failure> {
    // Compressed, an event would wait for the next one.
    let identity = HeaderValue::from_static("identity");
    request.headers_mut().insert(ACCEPT_ENCODING, identity);
    if protobuf {
        let either = HeaderValue::from_static(PROTOBUF_OR_JSON);
        request.headers_mut().insert(ACCEPT, either);
    }
    let response = client.send(request.map(Body::from)).await?;
    let response = frames::refusal(response).await?;
    let body = response.into_body().into_data_stream();
    Ok(lines(body.map_err(io::Error::other).into_async_read()))
}

/// What servers and proxies between do not know they do not send.
const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf,application/json;q=0.9";

pub(super) fn lines(
    reader: impl AsyncBufRead + Send,
) -> impl Stream<Item = Result<Line, Failure>> + Send {
    stream::try_unfold(Box::pin(reader), |mut reader| async move {
        loop {
            let next = match next(&mut reader).await {
                Err(error) if is_end(&error) => return Ok(None),
                Err(error) => return Err(Failure::Transport(chain(&error))),
                Ok(next) => next,
            };
            return match next {
                Next::End => Ok(None),
                Next::Line(line) if line.trim_ascii().is_empty() => continue,
                Next::Line(line) => {
                    let text = String::from_utf8(line);
                    let text = text.map_err(|_| Failure::Transport(NOT_TEXT.to_owned()))?;
                    Ok(Some((Line::read(text)?, reader)))
                }
                Next::Frame(frame) => Ok(Some((frames::read(frame)?, reader))),
            };
        }
    })
}

/// What comes next on a watch.
enum Next {
    /// The body ended, or was cut off in the middle.
    End,
    /// One event in JSON.
    Line(Vec<u8>),
    /// One event in protobuf form.
    Frame(Bytes),
}

async fn next(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Next> {
    // A frame begins with its length, which begins with a zero; no JSON does. The
    // form is seen here and not told by a header: a proxy may have changed that.
    if reader.fill_buf().await?.first() == Some(&0) {
        return frames::take(reader).await.map(Next::Frame);
    }
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).await?;
    // Nothing, or half a line: it was cut off.
    if line.pop() != Some(b'\n') {
        return Ok(Next::End);
    }
    Ok(Next::Line(line))
}

/// Annotation of the bookmark that ends a streaming list.
pub(super) const LISTED: &str = "k8s.io/initial-events-end";
pub(super) const UNKNOWN: &str = "an event of the watch is of an unknown type";
const NOT_TEXT: &str = "an event of the watch is not UTF-8 text";

/// A body that ends in the middle is how a watch ends with its connection.
fn is_end(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        // An `io::Error` made of another error leaves that one out of its sources.
        let inner = io.and_then(io::Error::get_ref);
        cause = inner.map_or_else(|| error.source(), |e| Some(e));
    }
    false
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    async fn all(text: &str) -> Result<Vec<Line>, Failure> {
        lines(text.as_bytes()).try_collect().await
    }

    #[tokio::test]
    async fn the_object_of_an_event_is_found_however_it_is_written() {
        let text = concat!(
            r#"{"type":"ADDED","object":{"a":{}}}"#,
            "\n\n",
            r#"{"object": {"a":{}}, "type": "DELETED"}"#,
            "\r\n",
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
        );
        let lines = all(text).await.expect("events");
        let [
            Line::Added(added),
            Line::Deleted(deleted),
            Line::Bookmark { version, listed },
        ] = lines.as_slice()
        else {
            panic!("{lines:?}");
        };
        assert_eq!(added.get(), Raw::Json(r#"{"a":{}}"#));
        assert_eq!(deleted.get(), Raw::Json(r#"{"a":{}}"#));
        assert_eq!((version.as_str(), *listed), ("7", true));
    }

    #[tokio::test]
    async fn an_event_that_is_cut_off_is_left_out() {
        let text = r#"{"type":"ADDED","object":{"a":{}}}"#;
        let cut = format!("{text}\n{text}");
        assert_eq!(all(&cut).await.expect("one event").len(), 1);
    }

    #[tokio::test]
    async fn an_error_is_told_with_its_code() {
        let status = r#"{"kind":"Status","code":410,"reason":"Expired","message":"old"}"#;
        let event = format!(r#"{{"type":"ERROR","object":{status}}}"#);
        for line in [status, &event] {
            let error = all(&format!("{line}\n")).await.expect_err("refused");
            assert!(error.is_expired(), "{error}");
        }
        let error = all("no JSON\n").await.expect_err("refused");
        assert!(!error.to_string().contains("no JSON"), "{error}");
    }

    #[tokio::test]
    async fn protobuf_is_asked_for_where_it_is_read_and_json_is_taken_all_the_same() {
        for (protobuf, expected) in [(true, Some(PROTOBUF_OR_JSON)), (false, None)] {
            let service = tower::service_fn(move |request: Request<Body>| async move {
                let asked = request.headers().get(ACCEPT);
                assert_eq!(asked.and_then(|a| a.to_str().ok()), expected);
                let event = br#"{"type":"ADDED","object":{"a":{}}}"#;
                let text = [&event[..], b"\n"].concat();
                Ok::<_, Infallible>(http::Response::new(Body::from(text)))
            });
            let client = Client::new(service, "default");
            let request = Request::get("/").body(Vec::new()).expect("a request");
            let lines = open(&client, request, protobuf).await.expect("a watch");
            let lines: Vec<Line> = lines.try_collect().await.expect("events");
            assert!(matches!(lines.as_slice(), [Line::Added(_)]));
        }
    }
}
