//! One ADS stream.

use std::{collections::BTreeSet, fmt, sync::Arc};

use envoy_types::pb::envoy::config::core::v3::Node;

use super::collect::{Draft, Phase, Source};
use super::entries::State;
use super::request::{Request, Variant};
use super::stirred::Stirred;
use super::subscription::{Subscription, Watch};
use super::{NodeError, NodeReader, Nonce, Outgoing, ProtocolError, Received};
use crate::mesh::News;
use crate::model::{Proxy, TypeUrl};
use crate::wire::EncodedResource;

#[cfg(test)]
mod tests;

/// What a session can ask of one generation of the world for its proxy.
pub trait Resources {
    /// All resources of a type with a wildcard, sorted by name.
    fn all(&self, kind: TypeUrl) -> Arc<[Arc<EncodedResource>]>;

    /// One resource. EDS answers every name of a cluster's form and RDS every
    /// name, if need be with an empty resource: Envoy would wait for ever
    /// (xDS rules 21, 45).
    fn named(&self, kind: TypeUrl, name: &str) -> Option<Arc<EncodedResource>>;
}

impl<T: Resources + ?Sized> Resources for Arc<T> {
    fn all(&self, kind: TypeUrl) -> Arc<[Arc<EncodedResource>]> {
        (**self).all(kind)
    }

    fn named(&self, kind: TypeUrl, name: &str) -> Option<Arc<EncodedResource>> {
        (**self).named(kind, name)
    }
}

/// What sessions of one server share.
#[derive(Debug)]
pub struct Options {
    /// Reads nodes.
    pub nodes: NodeReader,
    /// Bytes of explicit names, with 64 for each, that one type may hold on one
    /// stream (xDS rule 65).
    pub names_limit: usize,
}

impl Default for Options {
    /// Room for about 100,000 names.
    fn default() -> Self {
        Self {
            nodes: NodeReader::default(),
            names_limit: 16 << 20,
        }
    }
}

/// State of one type, for debug views.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypeStatus {
    /// A request of this type has come.
    pub watched: bool,
    /// Names that the session knows of.
    pub names: usize,
    /// Nonce of the last response.
    pub sent: Option<Nonce>,
    /// Nonce of the last ACK.
    pub acked: Option<Nonce>,
    /// Last NACK, until the next ACK.
    pub error: Option<Box<str>>,
}

/// The subscriptions of a stream, one of each type.
#[derive(Debug)]
struct Subscriptions {
    cds: Subscription,
    eds: Subscription,
    lds: Subscription,
    rds: Subscription,
    nds: Subscription,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            cds: Subscription::default(),
            eds: Subscription::followed(),
            lds: Subscription::default(),
            rds: Subscription::default(),
            nds: Subscription::default(),
        }
    }
}

impl Subscriptions {
    fn of(&self, kind: TypeUrl) -> &Subscription {
        match kind {
            TypeUrl::Cluster => &self.cds,
            TypeUrl::ClusterLoadAssignment => &self.eds,
            TypeUrl::Listener => &self.lds,
            TypeUrl::RouteConfiguration => &self.rds,
            TypeUrl::NameTable => &self.nds,
        }
    }

    fn of_mut(&mut self, kind: TypeUrl) -> &mut Subscription {
        match kind {
            TypeUrl::Cluster => &mut self.cds,
            TypeUrl::ClusterLoadAssignment => &mut self.eds,
            TypeUrl::Listener => &mut self.lds,
            TypeUrl::RouteConfiguration => &mut self.rds,
            TypeUrl::NameTable => &mut self.nds,
        }
    }

    /// A cluster that is sent warms until endpoints come on this stream, even
    /// unchanged ones (xDS rule 50). The first answer of a reconnecting client
    /// may find endpoints answered before it (51): they are sent again, save
    /// those of clusters that were left out.
    fn warm(&mut self, sent: &Draft, first: bool) {
        let Self { cds, eds, .. } = self;
        if !first {
            for update in &sent.updates {
                eds.entries.force(update.name(), &mut eds.due);
            }
            return;
        }
        let due = &mut eds.due;
        eds.entries.update_all(|name, entry| {
            let left_out = cds
                .entries
                .get(name)
                .is_some_and(|e| e.state == State::Kept);
            if !left_out {
                entry.forced = true;
                if !std::mem::replace(&mut entry.due, true) {
                    due.push(Arc::clone(name));
                }
            }
            true
        });
    }
}

/// One ADS stream of either variant. Written by its stream's task only.
///
/// Invariants: nothing is sent without a request or a change behind it; a push
/// waits for the ACK of the response before; the state of one type never
/// touches another's, save that clusters sent make their endpoints due.
pub struct Session {
    variant: Variant,
    options: Arc<Options>,
    proxy: Option<Arc<Proxy>>,
    types: Subscriptions,
    stirred: Stirred,
    nonce: u64,
}

impl Session {
    /// A stream before its first request.
    pub fn new(variant: Variant, options: Arc<Options>) -> Self {
        Self {
            variant,
            options,
            proxy: None,
            types: Subscriptions::default(),
            stirred: Stirred::default(),
            nonce: 0,
        }
    }

    /// The proxy, once its first request was taken.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.proxy.as_ref()
    }

    /// Names that it knows of, of all types.
    pub fn names(&self) -> usize {
        let names = |kind| {
            let sub = self.types.of(kind);
            sub.entries.len() + sub.asked.len() + sub.reported.len()
        };
        TypeUrl::ALL.into_iter().map(names).sum()
    }

    /// State of one type.
    pub fn status(&self, kind: TypeUrl) -> TypeStatus {
        let sub = self.types.of(kind);
        TypeStatus {
            watched: sub.active,
            names: sub.entries.len(),
            sent: sub.sent,
            acked: sub.acked,
            error: sub.error.clone(),
        }
    }

    /// Takes a request. An error ends the stream.
    pub fn on_request(&mut self, request: Request) -> Result<Received, ProtocolError> {
        let (type_url, node) = match &request {
            Request::Delta(request) => (&request.type_url, request.node.as_ref()),
            Request::Sotw(request) => (&request.type_url, request.node.as_ref()),
        };
        if type_url.is_empty() {
            return Err(ProtocolError::MissingTypeUrl);
        }
        if self.proxy.is_none() {
            // Agents may report health before Envoy's first request (3).
            if type_url.ends_with("istio.v1.HealthInformation") {
                return Ok(Received::Ignored);
            }
            self.identify(node)?;
        }
        let Some(kind) = TypeUrl::parse(type_url) else {
            return Ok(Received::Ignored);
        };
        let sub = self.types.of_mut(kind);
        let received = match request {
            Request::Delta(request) => sub.on_delta(kind, request),
            Request::Sotw(request) => sub.on_sotw(kind, &request),
        };
        let limit = self.options.names_limit;
        if sub.cost() > limit {
            return Err(ProtocolError::TooManyNames { kind, limit });
        }
        self.stir(kind);
        Ok(received)
    }

    /// After anything was done to a subscription.
    fn stir(&mut self, kind: TypeUrl) {
        let sub = self.types.of(kind);
        self.stirred.set(kind, sub.is_asked() || sub.is_changed());
        if kind == TypeUrl::Cluster {
            self.stirred.leaving = !sub.leaving.is_empty();
        }
    }

    /// Only the first request has to carry the node (xDS rule 2).
    fn identify(&mut self, node: Option<&Node>) -> Result<(), NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let proxy = self.options.nodes.read(node)?;
        self.proxy = Some(Arc::new(proxy));
        Ok(())
    }

    /// Names of endpoint answers followed since the last call, or no longer: to
    /// be acted on before the snapshot is taken that answers them.
    pub fn take_watches(&mut self) -> Vec<Watch> {
        std::mem::take(&mut self.types.eds.watches)
    }

    /// Takes note of what changed since the snapshot that was polled last.
    pub fn on_news(&mut self, news: &News) {
        let types = &mut self.types;
        if news.config {
            for sub in [&mut types.cds, &mut types.lds, &mut types.rds] {
                sub.look |= sub.active;
            }
        }
        if news.name_tables {
            types.nds.look |= types.nds.active;
        }
        let eds = &mut types.eds;
        eds.look |= news.all_endpoints && eds.active;
        for name in &news.names {
            eds.entries.mark(name, &mut eds.due);
        }
        if news.config || news.name_tables {
            for kind in TypeUrl::ALL {
                self.stir(kind);
            }
        } else {
            self.stir(TypeUrl::ClusterLoadAssignment);
        }
    }

    /// Whether `poll` may have something to send.
    pub fn is_due(&self) -> bool {
        let mut held = false;
        let mut stirred = self.stirred.types();
        stirred.any(|kind| self.is_ready(kind, &mut held)) || (!held && self.can_break())
    }

    /// Whether a client waits for an answer that may go.
    pub fn is_answering(&self) -> bool {
        let may = |kind| {
            let sub = self.types.of(kind);
            sub.is_asked() && !sub.is_flooded()
        };
        self.stirred.types().any(may)
    }

    /// Whether a response of this type may go; `held` tells whether an earlier
    /// type has a push that waits for an ACK, which later types must not
    /// overtake (xDS rule 49). Answers to requests wait for nothing.
    fn is_ready(&self, kind: TypeUrl, held: &mut bool) -> bool {
        let sub = self.types.of(kind);
        let asked = sub.is_asked() && !sub.is_flooded();
        *held |= sub.is_changed() && sub.is_waiting();
        asked || (sub.is_changed() && !*held)
    }

    fn can_break(&self) -> bool {
        self.stirred.leaving && !self.types.cds.is_waiting()
    }

    /// The next response, in push order; `None` when nothing is due.
    pub fn poll(&mut self, resources: &dyn Resources) -> Option<Outgoing> {
        let mut held = false;
        for kind in self.stirred.types() {
            if self.is_ready(kind, &mut held)
                && let Some(outgoing) = self.compose(kind, Phase::Make, resources)
            {
                return Some(outgoing);
            }
        }
        if held || !self.can_break() {
            return None;
        }
        self.compose(TypeUrl::ClusterLoadAssignment, Phase::Break, resources)
            .or_else(|| self.compose(TypeUrl::Cluster, Phase::Break, resources))
    }

    /// Composes a response of one type, if there is anything to say.
    fn compose(
        &mut self,
        kind: TypeUrl,
        phase: Phase,
        resources: &dyn Resources,
    ) -> Option<Outgoing> {
        let outgoing = self.draft(kind, phase, resources);
        self.stir(kind);
        if kind == TypeUrl::Cluster {
            self.stir(TypeUrl::ClusterLoadAssignment);
        }
        outgoing
    }

    fn draft(
        &mut self,
        kind: TypeUrl,
        phase: Phase,
        resources: &dyn Resources,
    ) -> Option<Outgoing> {
        let types = &mut self.types;
        let cds = &mut types.cds;
        let none = BTreeSet::new();
        let (sub, later) = match kind {
            TypeUrl::Cluster => (cds, &none),
            TypeUrl::ClusterLoadAssignment => {
                // A cluster sent on this stream warms and waits for endpoints,
                // even for those that the client holds (57, envoy#22418).
                let eds = &mut types.eds;
                eds.reported.retain(|name, _| !cds.has_sent(name));
                let later = match phase {
                    Phase::Make => &cds.leaving,
                    Phase::Break => &none,
                };
                (eds, later)
            }
            TypeUrl::Listener => (&mut types.lds, &none),
            TypeUrl::RouteConfiguration => (&mut types.rds, &none),
            TypeUrl::NameTable => (&mut types.nds, &none),
        };
        let first = sub.sent.is_none();
        let all = sub.wildcard.then(|| resources.all(kind));
        let world = Source {
            kind,
            variant: self.variant,
            all: all.unwrap_or_default(),
            resources,
        };
        let draft = sub.draft(&world, phase, later)?;
        self.nonce += 1;
        let outgoing = sub.send(&world, &draft, Nonce(self.nonce));
        if kind == TypeUrl::Cluster {
            self.types.warm(&draft, first);
        }
        Some(outgoing)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("variant", &self.variant)
            .field("proxy", &self.proxy().map(|proxy| &proxy.id))
            .finish_non_exhaustive()
    }
}
