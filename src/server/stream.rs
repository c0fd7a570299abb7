//! One ADS stream: a session between its requests, the published world and
//! its response body.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use tokio::{task::coop::poll_proceed, time::Instant};
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use super::admission::Admission;
use super::apart::apart;
use super::body::{Item, Source};
use super::connections::{Registered, proxy_name};
use super::limit::Limits;
use super::message::Message;
use super::offenders::Offence;
use super::requests::Requests;
use super::standing::Standing;
use super::turns::Place;
use super::{Class, State};
use crate::ads::{ProtocolError, Received, Request, Resources, Session, StatusCode, Variant};
use crate::mesh::{Lens, PodKey, Watcher};
use crate::model::TypeUrl;

/// Names that take so long to take in, and to forget, that other tasks must not
/// wait for it.
const MANY: usize = 4096;

/// The source of the messages of one stream. What is said here is said when the
/// client has room for it: everything else waits in the session, as a set.
pub(super) struct Stream<B> {
    state: Arc<State>,
    session: Session,
    variant: Variant,
    standing: Arc<Standing>,
    limits: Arc<Limits>,
    /// Where it waits for turns.
    place: Place,
    /// Until the caller is let in.
    entering: Option<BoxFuture<'static, Result<Admission, Status>>>,
    admission: Admission,
    requests: Requests<B>,
    watcher: Watcher,
    /// How the proxy sees the world, once it is known.
    class: Option<Arc<dyn Class>>,
    /// What the proxy gets, newer than all that the session was told; kept only
    /// while something is due, so that an idle stream pins no snapshot.
    resources: Option<Box<dyn Resources + Send>>,
    /// In the table of streams, once its proxy is known.
    registered: Option<Registered>,
    /// When news made something due.
    woken: Option<Instant>,
    ended: bool,
}

impl<B: Body<Data = Bytes> + Send + Unpin> Stream<B> {
    pub(super) fn new(
        state: Arc<State>,
        variant: Variant,
        (standing, admission): (Arc<Standing>, Admission),
        requests: Requests<B>,
        limits: Arc<Limits>,
    ) -> Box<Self> {
        let entering = enter(Arc::clone(&state), admission, Arc::clone(&limits));
        Box::new(Self {
            session: Session::new(variant, Arc::clone(&state.sessions)),
            watcher: state.snapshots.watch(),
            state,
            variant,
            standing,
            place: limits.turns.place(),
            limits,
            entering: Some(Box::pin(entering)),
            admission: Admission::Done,
            requests,
            class: None,
            resources: None,
            registered: None,
            woken: None,
            ended: false,
        })
    }

    /// The next message, or the status that ends the stream.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Status>> {
        if let Some(status) = self.standing.poll_end(cx) {
            return Poll::Ready(Err(status));
        }
        if let Some(entering) = &mut self.entering {
            self.admission = ready!(entering.as_mut().poll(cx))?;
            self.entering = None;
        }
        loop {
            self.hear(cx);
            let _turn = if self.session.is_answering() {
                Some(ready!(self.place.poll_turn(cx)))
            } else {
                None
            };
            if let Some(message) = self.next_message() {
                // Until the client has room again, nobody waits for it.
                self.watcher.look_away();
                return Poll::Ready(Ok(message));
            }
            // A client that floods shares its thread with others.
            let turn = ready!(poll_proceed(cx));
            match ready!(self.requests.poll_next(cx))? {
                Some(request) => self.take(request)?,
                // Half-close ends the stream (xDS rule 60).
                None => return Poll::Ready(Err(Status::ok(""))),
            }
            turn.made_progress();
        }
    }

    fn take(&mut self, request: Request) -> Result<(), Status> {
        apart(request.names() >= MANY, || self.take_now(request))
    }

    fn take_now(&mut self, request: Request) -> Result<(), Status> {
        let kind = request.kind();
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
                let (node, kind) = (self.node(), kind.short());
                if let Some(not_told) = self.standing.lines.pass() {
                    warn!(
                        node,
                        kind, code, message, not_told, "response rejected by proxy"
                    );
                }
                if self.standing.reject() {
                    self.offend(Offence::Nack);
                }
            }
            Received::Accepted | Received::Ignored => {}
        }
        if self.registered.is_none() {
            self.register()?;
        }
        self.follow();
        if let Some(kind) = kind {
            self.note(kind);
        }
        Ok(())
    }

    /// Once the proxy is known: it must be one that the caller may be.
    fn register(&mut self) -> Result<(), Status> {
        let Some(proxy) = self.session.proxy() else {
            return Ok(());
        };
        let (state, peer) = (&self.state, self.standing.peer);
        let identity = self.admission.authorize(state, proxy)?;
        if let Err(often) = self.limits.reconnects.allow(peer.ip(), &proxy.id) {
            let (offenders, name) = (&state.metrics.offenders, proxy_name(proxy));
            offenders.note(Offence::Reconnects, Some(&name), peer);
            return Err(Status::resource_exhausted(often.to_string()));
        }
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
        self.watcher.watch_pod(PodKey::of(proxy));
        self.standing.know(&added.connection);
        self.registered = Some(added);
        self.classify();
        Ok(())
    }

    /// Finds the proxy's class, which may change with its workload. What is
    /// read next must be newer than that.
    fn classify(&mut self) {
        if let Some(proxy) = self.session.proxy() {
            let class = (self.state.classify)(&self.state.snapshots.latest(), proxy);
            self.watcher
                .look_through(Arc::clone(&class) as Arc<dyn Lens>);
            self.class = Some(class);
            self.resources = None;
        }
    }

    /// Watches the names that the client asked for. What is read
    /// next must be newer than that.
    fn follow(&mut self) {
        let watches = self.session.take_watches();
        if watches.is_empty() {
            return;
        }
        let of = |on| watches.iter().filter(move |w| w.on == on).map(|w| &*w.name);
        self.watcher.watch(of(true));
        self.watcher.unwatch(of(false));
        self.resources = None;
    }

    /// Tells the session what changed.
    fn hear(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(news) = self.watcher.poll_news(cx) {
            self.session.on_news(&news);
            self.resources = None;
            if news.workload {
                self.classify();
            }
            if self.session.is_due() {
                self.woken = self.woken.or_else(|| Some(Instant::now()));
            }
        }
    }

    /// The next response, if one is due.
    fn next_message(&mut self) -> Option<Message> {
        if !self.session.is_due() {
            return None;
        }
        let (proxy, class) = (self.session.proxy()?, self.class.as_ref()?);
        let latest = || {
            let latest = self.state.snapshots.latest();
            Arc::clone(class).resources(latest, Arc::clone(proxy))
        };
        let resources = self.resources.get_or_insert_with(latest);
        let next = self.session.poll(&**resources);
        if !self.session.is_due() {
            self.resources = None;
            if let Some(woken) = self.woken.take() {
                let seconds = woken.elapsed().as_secs_f64();
                self.state.metrics.convergence.observe(seconds);
            }
        }
        let outgoing = next?;
        let (kind, nonce) = (outgoing.kind, outgoing.nonce);
        let (sent, removed) = (outgoing.frames.len(), outgoing.removed.len());
        let node = self.node();
        debug!(node, kind = kind.short(), %nonce, sent, removed, "push");
        self.state.metrics.pushed(kind);
        self.note(kind);
        Some(Message::new(outgoing))
    }
}

impl<B> Stream<B> {
    fn note(&self, kind: TypeUrl) {
        if let Some(registered) = &self.registered {
            registered.connection.note(kind, &self.session);
            if !registered.connection.is_rejecting() {
                self.standing.accept();
            }
        }
    }

    fn offend(&self, offence: Offence) {
        let (proxy, peer) = (self.standing.proxy(), self.standing.peer);
        self.state.metrics.offenders.note(offence, proxy, peer);
    }

    fn node(&self) -> &str {
        let known = self.registered.as_ref();
        known.map_or("", |registered| &registered.connection.id)
    }

    fn log_end(&mut self, status: &Status) {
        self.ended = true;
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

impl<B: Body<Data = Bytes> + Send + Unpin> Source for Stream<B> {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        Poll::Ready(match ready!(self.poll_message(cx)) {
            Ok(message) => Item::Message(message),
            Err(status) => {
                self.log_end(&status);
                Item::End(status)
            }
        })
    }
}

impl<B> Drop for Stream<B> {
    /// A client that goes away is not read to its end.
    fn drop(&mut self) {
        if !self.ended {
            let asked = self.standing.end_status();
            self.log_end(&asked.unwrap_or_else(|| Status::cancelled("client went away")));
        }
        // The memory of very many names is given back where nobody waits for it.
        if self.session.names() >= MANY {
            apart(true, || {
                self.watcher.unwatch_all();
                self.session = Session::new(self.variant, Arc::clone(&self.state.sessions));
            });
        }
    }
}

/// Refuses what can be refused cheaply first. A caller has to say who it is
/// before it takes a turn: strangers must not use up the turns of proxies,
/// and what they cost here is bounded by the authenticators themselves.
async fn enter(
    state: Arc<State>,
    mut admission: Admission,
    limits: Arc<Limits>,
) -> Result<Admission, Status> {
    if !state.is_ready() {
        let text = "server is not ready to serve discovery information";
        return Err(Status::unavailable(text));
    }
    let authenticate = Box::pin(admission.authenticate(&state));
    limits.turns.during(authenticate).await?;
    limits.rate.turn().await?;
    Ok(admission)
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
