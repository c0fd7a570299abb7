//! The events of a watch in protobuf form: each a length of four bytes and a
//! `meta.v1.WatchEvent`, whose object stands in an envelope of its own.

use std::{collections::BTreeMap, io};

use bytes::{Buf, Bytes};
use futures::{AsyncRead, AsyncReadExt};
use http::Response;
use http_body_util::{BodyExt, Collected, Limited};
use kube::{client::Body, core::Status};
use prost::Message;

use super::{
    api::Failure,
    lines::{LISTED, Line, Object, UNKNOWN},
};

/// Longest frame: more than etcd takes as one object. Its length begins with a
/// zero, which tells a frame from a line.
const LONGEST: u32 = (1 << 24) - 1;
/// Longest refusal that is read.
const REFUSAL: usize = 1 << 20;
/// What each object begins with, before its envelope.
const MAGIC: &[u8] = b"k8s\0";
const MALFORMED: &str = "an event of the watch is no protobuf message of its kind";

#[derive(Message)]
struct WatchEvent {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "2")]
    object: Option<RawExtension>,
}

#[derive(Message)]
struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    raw: Bytes,
}

/// `runtime.Unknown`: any object.
#[derive(Message)]
struct Envelope {
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

/// What all kinds begin with.
#[derive(Message)]
pub(super) struct AnyKind {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<Metadata>,
}

#[derive(Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
    #[prost(string, tag = "6")]
    pub(super) resource_version: String,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
}

#[derive(Message)]
struct StatusMessage {
    #[prost(string, tag = "3")]
    message: String,
    #[prost(string, tag = "4")]
    reason: String,
    #[prost(int32, tag = "6")]
    code: i32,
}

/// Takes one frame.
pub(super) async fn take(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        let text = format!("an event of the watch says that it has {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut frame = Vec::new();
    let length = u64::from(length);
    reader.take(length).read_to_end(&mut frame).await?;
    if (frame.len() as u64) < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame.into())
}

/// Reads the event in a frame.
pub(super) fn read(frame: Bytes) -> Result<Line, Failure> {
    let event: WatchEvent = decode(frame)?;
    let object = open(event.object.unwrap_or_default().raw)?;
    Ok(match &*event.kind {
        "ADDED" => Line::Added(Object::Protobuf(object)),
        "MODIFIED" => Line::Modified(Object::Protobuf(object)),
        "DELETED" => Line::Deleted(Object::Protobuf(object)),
        "BOOKMARK" => {
            let head: AnyKind = decode(object)?;
            let head = head.metadata.unwrap_or_default();
            Line::Bookmark {
                version: head.resource_version,
                listed: head.annotations.contains_key(LISTED),
            }
        }
        "ERROR" => return Err(refused(decode(object)?, 0)),
        _ => return Err(Failure::Transport(UNKNOWN.to_owned())),
    })
}

/// The message in an object's envelope.
fn open(mut object: Bytes) -> Result<Bytes, Failure> {
    if !object.starts_with(MAGIC) {
        return Err(malformed());
    }
    object.advance(MAGIC.len());
    let envelope: Envelope = decode(object)?;
    Ok(envelope.raw)
}

/// Without the decoder's words, which may quote the object.
fn decode<T: Message + Default>(bytes: Bytes) -> Result<T, Failure> {
    T::decode(bytes).map_err(|_| malformed())
}

fn malformed() -> Failure {
    Failure::Transport(MALFORMED.to_owned())
}

fn refused(status: StatusMessage, code: u16) -> Failure {
    Failure::Refused {
        code: u16::try_from(status.code)
            .ok()
            .filter(|code| *code > 0)
            .unwrap_or(code),
        reason: status.reason,
        message: status.message,
    }
}

/// The response, unless it is a refusal. kube reads those of JSON only.
pub(super) async fn refusal(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let body = Limited::new(response.into_body(), REFUSAL).collect().await;
    let text = body.map(Collected::to_bytes).unwrap_or_default();
    Err(why(status.as_u16(), &text))
}

fn why(code: u16, text: &Bytes) -> Failure {
    if let Ok(message) = open(text.clone()).and_then(decode) {
        return refused(message, code);
    }
    if let Ok(status) = serde_json::from_slice::<Status>(text) {
        return kube::Error::Api(status.boxed()).into();
    }
    // A proxy on the way may say it in words, or in HTML.
    let text = String::from_utf8_lossy(text);
    let message: String = text.trim().chars().take(200).collect();
    Failure::Refused {
        code,
        reason: "not from an API server".to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests;
