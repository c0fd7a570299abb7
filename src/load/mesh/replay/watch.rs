//! The body of a watch.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

use super::{
    body::chunk,
    cluster::{Cluster, Tick, bookmark},
    collection::Collection,
    request::{Ask, status},
};

/// How long a watch lasts that does not say it, in seconds.
const LASTS: u64 = 30 * 60;
/// How long a watch lasts at most, in seconds.
const LONGEST: u64 = 7 * 24 * 60 * 60;
/// How often a quiet watch gets a bookmark, as of a real API server.
const BOOKMARKS: Duration = Duration::from_mins(1);

/// A watch on its way.
struct Watch {
    cluster: Arc<Cluster>,
    collection: Collection,
    /// The next object that was there at the start, while there are any.
    next: Option<usize>,
    /// The end of the objects is to be marked.
    mark: bool,
    bookmarks: bool,
    version: u64,
    news: Receiver<Tick>,
    epoch: u64,
    ends: Instant,
    over: bool,
}

/// The events of a watch.
pub(super) fn body((cluster, collection): (Arc<Cluster>, Collection), ask: &Ask) -> Body {
    let news = cluster.news();
    let epoch = news.borrow().epoch;
    let lists = ask.initial || ask.version.is_none();
    let seconds = Duration::from_secs(ask.seconds.unwrap_or(LASTS).min(LONGEST));
    let watch = Watch {
        // What changes while the objects are sent is told once more behind them.
        version: ask
            .version
            .filter(|_| !lists)
            .unwrap_or_else(|| cluster.version()),
        next: lists.then_some(0),
        mark: ask.initial,
        bookmarks: ask.bookmarks,
        ends: Instant::now() + seconds,
        over: false,
        cluster,
        collection,
        news,
        epoch,
    };
    let events = stream::unfold(watch, |mut watch| async {
        let bytes = watch.advance().await?;
        Some((bytes, watch))
    });
    Body::from_stream(events.map(Ok::<_, Infallible>))
}

impl Watch {
    /// What is to be sent next; none at the end.
    async fn advance(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        match self.next {
            Some(next) => Some(self.list(next)),
            None => self.follow().await,
        }
    }

    fn list(&mut self, mut next: usize) -> Bytes {
        const ADDED: (&[u8], &[u8]) = (br#"{"type":"ADDED","object":"#, b"}\n");
        let end = self.cluster.len(self.collection);
        let objects = chunk(&self.cluster, self.collection, (&mut next, end), ADDED);
        if next < end {
            self.next = Some(next);
            return objects;
        }
        self.next = None;
        if !self.mark {
            return objects;
        }
        let mark = bookmark(self.collection, self.version, true);
        [objects, mark].concat().into()
    }

    async fn follow(&mut self) -> Option<Bytes> {
        loop {
            if self.news.borrow_and_update().epoch != self.epoch {
                return None;
            }
            if let Some(events) = self.events() {
                return Some(events);
            }
            let bookmark_at = Instant::now() + BOOKMARKS;
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = sleep_until(self.ends) => {
                    self.over = true;
                    return Some(self.bookmark());
                }
                () = sleep_until(bookmark_at), if self.bookmarks => {
                    return Some(self.bookmark());
                }
            }
        }
    }

    /// The events that were not sent yet, or that they are no longer kept.
    fn events(&mut self) -> Option<Bytes> {
        if self.collection != Collection::Slices {
            return None;
        }
        let Ok((events, version)) = self.cluster.events_after(self.version) else {
            self.over = true;
            let gone = status(410, "Expired", "too old resource version");
            let line = json!({"type": "ERROR", "object": gone});
            return Some(Bytes::from(format!("{line}\n")));
        };
        self.version = version;
        match events.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => {
                let mut all = BytesMut::new();
                for event in several {
                    all.extend_from_slice(event);
                }
                Some(all.freeze())
            }
        }
    }

    fn bookmark(&self) -> Bytes {
        if self.bookmarks {
            bookmark(self.collection, self.version, false)
        } else {
            Bytes::new()
        }
    }
}
