//! The body of a list, made while it is sent.

use std::{convert::Infallible, sync::Arc};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use serde_json::json;

use super::{cluster::Cluster, collection::Collection, request::Ask};

/// Bytes that are made at once.
const CHUNK: usize = 64 << 10;

/// The objects from `next` to `end` as far as one chunk takes them, each between
/// `before` and `behind`.
pub(super) fn chunk(
    cluster: &Cluster,
    collection: Collection,
    (next, end): (&mut usize, usize),
    (before, behind): (&[u8], &[u8]),
) -> Bytes {
    let mut text = BytesMut::with_capacity(CHUNK + CHUNK / 2);
    while *next < end && text.len() < CHUNK {
        text.extend_from_slice(before);
        text.extend_from_slice(&cluster.object(collection, *next));
        text.extend_from_slice(behind);
        *next += 1;
    }
    text.freeze()
}

/// A list, or a page of it.
pub(super) fn list((cluster, collection): (Arc<Cluster>, Collection), ask: &Ask) -> Body {
    let count = cluster.len(collection);
    let first = ask.first.min(count);
    let end = ask
        .limit
        .map_or(count, |limit| first.saturating_add(limit).min(count));
    let (api_version, kind) = collection.kind();
    let next = if end < count {
        end.to_string()
    } else {
        String::new()
    };
    let metadata = json!({"resourceVersion": cluster.version().to_string(), "continue": next});
    let head = format!(
        r#"{{"apiVersion":"{api_version}","kind":"{kind}List","metadata":{metadata},"items":["#
    );
    let items = stream::unfold(first, move |mut next| {
        let items = (next < end).then(|| {
            let all = (&mut next, end);
            let mut items = BytesMut::from(&*chunk(&cluster, collection, all, (b"", b",")));
            if next == end {
                items.truncate(items.len().saturating_sub(1));
            }
            (items.freeze(), next)
        });
        std::future::ready(items)
    });
    let all = stream::iter([Bytes::from(head)])
        .chain(items)
        .chain(stream::iter([Bytes::from_static(b"]}")]));
    Body::from_stream(all.map(Ok::<_, Infallible>))
}
