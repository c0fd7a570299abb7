//! One ADS stream: a session between its requests, the published world and
//! its response body.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use super::State;
use super::admission::Admission;
use super::body::Item;
use super::connections::{Registered, proxy_name};
use super::limit::Limits;
use super::message::Message;
use super::offenders::Offence;
use super::requests::Requests;
use super::standing::Standing;
use crate::ads::{ProtocolError, Received, Request, Resources, Session, StatusCode, Variant};
use crate::mesh::Generation;

/// The task of one stream.
pub(super) struct Stream<B> {
    state: Arc<State>,
    session: Session,
    variant: Variant,
    standing: Arc<Standing>,
    admission: Admission,
    requests: Requests<B>,
    out: mpsc::Sender<Box<Item>>,
    wake: watch::Receiver<Generation>,
    /// Generation that the session was told of last.
    seen: Generation,
    /// What the proxy gets of that generation; kept only while something is
    /// due, so that an idle stream pins no snapshot.
    resources: Option<Box<dyn Resources + Send>>,
    /// In the table of streams, once its proxy is known.
    registered: Option<Registered>,
    /// When a newer snapshot made something due.
    woken: Option<Instant>,
}

impl<B: Body<Data = Bytes> + Unpin> Stream<B> {
    pub(super) fn new(
        state: Arc<State>,
        variant: Variant,
        (standing, admission): (Arc<Standing>, Admission),
        requests: Requests<B>,
        out: mpsc::Sender<Box<Item>>,
    ) -> Box<Self> {
        let mut wake = state.snapshots.changed();
        let seen = *wake.borrow_and_update();
        Box::new(Self {
            session: Session::new(variant, Arc::clone(&state.sessions)),
            state,
            variant,
            standing,
            admission,
            requests,
            out,
            wake,
            seen,
            resources: None,
            registered: None,
            woken: None,
        })
    }

    /// Serves the stream to its end; the status goes to the client. Boxed, or
    /// the future would hold room for the stream more than once.
    pub(super) async fn run(mut self: Box<Self>, limits: Arc<Limits>, stop: CancellationToken) {
        let status = tokio::select! {
            status = self.serve(&limits) => status,
            () = stop.cancelled() => Status::unavailable("server is shutting down"),
        };
        self.log_end(&status);
        let out = self.out.clone();
        // The session's memory goes now, even if the client reads no more.
        drop(self);
        // Fails where the client is gone: nobody is left to be told.
        let _ = out.send(Box::new(Item::End(status))).await;
    }

    async fn serve(&mut self, limits: &Limits) -> Status {
        if let Err(status) = self.enter(limits).await {
            return status;
        }
        loop {
            let due = self.session.is_due();
            let step = tokio::select! {
                request = self.requests.next() => match request {
                    Ok(Some(request)) => self.take(request, limits),
                    // Half-close ends the stream (xDS rule 60).
                    Ok(None) => Err(Status::ok("")),
                    Err(status) => Err(status),
                },
                changed = self.wake.changed() => match changed {
                    Ok(()) => { self.catch_up(); Ok(()) }
                    Err(_) => Err(Status::unavailable("server is shutting down")),
                },
                room = has_room(&self.out), if due => if room {
                    self.send()
                } else {
                    Err(Status::cancelled("client went away"))
                },
            };
            if let Err(status) = step {
                return status;
            }
        }
    }

    /// Refuses what can be refused cheaply first. A caller has to say who it is
    /// before it takes a turn: strangers must not use up the turns of proxies,
    /// and what they cost here is bounded by the authenticators themselves.
    async fn enter(&mut self, limits: &Limits) -> Result<(), Status> {
        if !self.state.is_ready() {
            let text = "server is not ready to serve discovery information";
            return Err(Status::unavailable(text));
        }
        // Boxed: a stream needs this room only once.
        let authenticate = Box::pin(self.admission.authenticate(&self.state));
        limits.turns.during(authenticate).await?;
        limits.rate.turn().await
    }

    fn take(&mut self, request: Request, limits: &Limits) -> Result<(), Status> {
        let received = self.session.on_request(request);
        if let Err(ProtocolError::TooManyNames { .. }) = &received {
            self.offend(Offence::TooManyNames);
        }
        let received = received?;
        match &received {
            Received::Stale(_) => self.state.metrics.expired_nonce.inc(),
            Received::Rejected {
                kind,
                code,
                message,
            } => {
                self.state.metrics.rejected(*kind);
                if self.standing.reject() {
                    self.offend(Offence::Nack);
                }
                let (node, kind) = (self.node(), kind.short());
                warn!(node, kind, code, message, "response rejected by proxy");
            }
            Received::Accepted | Received::Ignored => {}
        }
        if self.registered.is_none() {
            self.register(limits)?;
        }
        self.note();
        Ok(())
    }

    /// Once the proxy is known: it must be one that the caller may be.
    fn register(&mut self, limits: &Limits) -> Result<(), Status> {
        let Some(proxy) = self.session.proxy() else {
            return Ok(());
        };
        let (state, peer) = (&self.state, self.standing.peer);
        let identity = self.admission.authorize(state, proxy)?;
        limits
            .reconnects
            .allow(peer.ip(), &proxy.id)
            .map_err(|often| {
                let name = proxy_name(proxy);
                let offenders = &state.metrics.offenders;
                offenders.note(Offence::Reconnects, Some(&name), peer);
                Status::resource_exhausted(often.to_string())
            })?;
        let gauge = state.metrics.clients(&proxy.version);
        let added = state
            .connections
            .add(peer, self.variant, (proxy, identity), gauge);
        let (id, variant) = (&added.connection.id, self.variant);
        let identity = added
            .connection
            .identity
            .as_ref()
            .map(tracing::field::display);
        info!(id = &**id, %peer, ?variant, identity, "proxy connected");
        self.standing.know(&added.connection);
        self.registered = Some(added);
        Ok(())
    }

    /// Tells the session what changed since it looked last.
    fn catch_up(&mut self) {
        let now = self.state.snapshots.latest();
        if now.generation() != self.seen {
            self.session.on_changes(&now.changes_since(self.seen));
            self.seen = now.generation();
            self.resources = None;
        }
        if !self.session.is_due() {
            return;
        }
        self.woken = self.woken.or_else(|| Some(Instant::now()));
        if self.resources.is_none()
            && let Some(proxy) = self.session.proxy()
        {
            self.resources = Some((self.state.resources)(&now, proxy));
        }
    }

    /// Hands the next response to the body, which has room for one.
    fn send(&mut self) -> Result<(), Status> {
        self.catch_up();
        let resources = self.resources.as_deref();
        let next = resources.and_then(|resources| self.session.poll(resources));
        if let Some(outgoing) = next {
            let (kind, nonce) = (outgoing.kind, outgoing.nonce);
            let (sent, removed) = (outgoing.frames.len(), outgoing.removed.len());
            let node = self.node();
            debug!(node, kind = kind.short(), %nonce, sent, removed, "push");
            self.state.metrics.pushed(kind);
            let item = Box::new(Item::Message(Message::new(outgoing)));
            let gone = |_| Status::cancelled("client went away");
            self.out.try_send(item).map_err(gone)?;
            self.note();
        }
        if !self.session.is_due() {
            self.resources = None;
            if let Some(woken) = self.woken.take() {
                let seconds = woken.elapsed().as_secs_f64();
                self.state.metrics.convergence.observe(seconds);
            }
        }
        Ok(())
    }

    fn note(&self) {
        if let Some(registered) = &self.registered {
            registered.connection.note(&self.session);
            if !registered.connection.is_rejecting() {
                self.standing.accept();
            }
        }
    }

    fn node(&self) -> &str {
        let known = self.registered.as_ref();
        known.map_or("", |registered| &registered.connection.id)
    }

    fn offend(&self, offence: Offence) {
        let (proxy, peer) = (self.standing.proxy(), self.standing.peer);
        self.state.metrics.offenders.note(offence, proxy, peer);
    }

    fn log_end(&self, status: &Status) {
        let (node, peer) = (self.node(), self.standing.peer);
        let (code, text) = (status.code(), status.message());
        match code {
            Code::Ok | Code::Cancelled => info!(node, %peer, "proxy disconnected"),
            Code::Internal => {
                self.state.metrics.internal_errors.inc();
                warn!(node, %peer, ?code, text, "stream failed");
            }
            _ if self.registered.is_none() => self.state.metrics.refusals.request(peer, status),
            _ => warn!(node, %peer, ?code, text, "stream ended"),
        }
    }
}

/// Waits until the body can take a message; `false` when there is no body.
async fn has_room(out: &mpsc::Sender<Box<Item>>) -> bool {
    out.reserve().await.is_ok()
}

impl From<ProtocolError> for Status {
    fn from(error: ProtocolError) -> Self {
        let code = match error.code() {
            StatusCode::InvalidArgument => Code::InvalidArgument,
            StatusCode::Unimplemented => Code::Unimplemented,
            StatusCode::ResourceExhausted => Code::ResourceExhausted,
        };
        Status::new(code, error.to_string())
    }
}
