//! The streams that are open, for debug views.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::metrics::Number;
use crate::ads::{Nonce, Session, TypeStatus, Variant};
use crate::model::{Proxy, SpiffeId, TypeUrl, printable};

/// An open stream whose proxy is known.
#[derive(Debug)]
pub struct Connection {
    /// Pod, namespace and a number that is unique in this process (istiod:
    /// `connectionID`).
    pub id: Arc<str>,
    /// The other end.
    pub peer: SocketAddr,
    /// Who connects.
    pub proxy: Arc<Proxy>,
    /// By which identity it may be that proxy; none where nobody asked.
    pub identity: Option<SpiffeId>,
    /// Which variant it speaks.
    pub variant: Variant,
    /// When it came.
    pub since: Instant,
    status: Mutex<[TypeStatus; TypeUrl::ALL.len()]>,
}

impl Connection {
    /// State of each type that the proxy watches, in push order.
    pub fn status(&self) -> Vec<(TypeUrl, TypeStatus)> {
        let all = self.status.lock().clone();
        let all = TypeUrl::ALL.into_iter().zip(all);
        all.filter(|(_, status)| status.watched).collect()
    }

    /// Pod and namespace.
    pub(super) fn proxy_name(&self) -> &str {
        self.id.rsplit_once('-').map_or(&self.id, |(name, _)| name)
    }

    /// Whether the last answer to a response of some type was a rejection.
    pub(super) fn is_rejecting(&self) -> bool {
        self.status.lock().iter().any(|s| s.error.is_some())
    }

    /// A response that is neither accepted nor rejected.
    pub(super) fn unanswered(&self) -> Option<Nonce> {
        let all = self.status.lock();
        let open = all.iter().find(|s| s.sent != s.acked && s.error.is_none());
        open.and_then(|status| status.sent)
    }

    /// Notes the state of one type, after a request or a response of it.
    pub(super) fn note(&self, kind: TypeUrl, session: &Session) {
        let status = session.status(kind);
        let mut all = self.status.lock();
        let place = TypeUrl::ALL.iter().position(|one| *one == kind);
        if let Some(place) = place.and_then(|at| all.get_mut(at)) {
            *place = status;
        }
    }
}

/// All open streams. Written by the streams themselves, read by debug views.
#[derive(Debug, Default)]
pub struct Connections {
    open: DashMap<Arc<str>, Arc<Connection>>,
    counter: AtomicU64,
}

impl Connections {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All of them, by id.
    pub fn list(&self) -> Vec<Arc<Connection>> {
        let all = self.open.iter().map(|entry| Arc::clone(entry.value()));
        let mut all: Vec<_> = all.collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    pub(super) fn add(
        self: &Arc<Self>,
        peer: SocketAddr,
        variant: Variant,
        (proxy, identity): (&Arc<Proxy>, Option<SpiffeId>),
        gauge: Number,
    ) -> Registered {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let id: Arc<str> = Arc::from(format!("{}-{number}", proxy_name(proxy)));
        let connection = Arc::new(Connection {
            id: Arc::clone(&id),
            peer,
            proxy: Arc::clone(proxy),
            identity,
            variant,
            since: Instant::now(),
            status: Mutex::default(),
        });
        self.open.insert(id, Arc::clone(&connection));
        gauge.inc();
        Registered {
            connection,
            table: Arc::clone(self),
            gauge,
        }
    }
}

/// Pod and namespace of a proxy, safe to log.
pub(super) fn proxy_name(proxy: &Proxy) -> String {
    printable(proxy.id.split('~').nth(2).unwrap_or_default(), 256)
}

/// Keeps a stream in the table while it lives. Streams of one node do not
/// touch each other's entry (xDS rule 59).
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) connection: Arc<Connection>,
    table: Arc<Connections>,
    gauge: Number,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.table.open.remove(&self.connection.id);
        self.gauge.dec();
    }
}
