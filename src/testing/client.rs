//! A client that knows the xDS protocol and nothing of this server: what it
//! holds after a conversation tells whether the server kept the protocol.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;

use super::ads_world::{Held, Response, node};
use crate::ads::{Request, Variant};
use crate::model::TypeUrl;

/// What the client watches and holds of one type.
#[derive(Debug, Clone, Default)]
struct Watch {
    /// A request of this type was sent on this stream.
    open: bool,
    /// A name was given on this stream (`SotW`).
    named: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    held: BTreeMap<String, Held>,
    nonce: String,
    version: String,
}

impl Watch {
    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn drop_uncovered(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.retain(|name, _| self.covers(name));
        self.held = held;
    }
}

/// A client of either variant.
#[derive(Debug, Clone)]
pub struct ModelClient {
    variant: Variant,
    watches: BTreeMap<TypeUrl, Watch>,
    nonces: BTreeSet<String>,
    greeted: bool,
}

/// What the client makes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes all of it.
    Accept,
    /// It rejects the response, having taken the resources and removals whose
    /// position has its bit set here (xDS rule 35).
    Reject(u32),
}

impl Verdict {
    fn takes(self, position: usize) -> bool {
        match self {
            Self::Accept => true,
            Self::Reject(mask) => mask >> (position % 32) & 1 == 1,
        }
    }

    fn error(self) -> Option<Status> {
        let rejected = self != Self::Accept;
        rejected.then(|| Status {
            code: 3,
            message: "rejected".to_owned(),
            ..Status::default()
        })
    }
}

impl ModelClient {
    /// A client that holds nothing.
    pub fn new(variant: Variant) -> Self {
        Self {
            variant,
            watches: BTreeMap::new(),
            nonces: BTreeSet::new(),
            greeted: false,
        }
    }

    /// Content by name of what it holds.
    pub fn contents(&self, kind: TypeUrl) -> BTreeMap<String, String> {
        let held = self.watches.get(&kind).map(|w| w.held.clone());
        let held = held.unwrap_or_default().into_values();
        held.map(|h| (h.name, h.content)).collect()
    }

    /// Whether it wants everything of a type.
    pub fn has_wildcard(&self, kind: TypeUrl) -> bool {
        self.watches.get(&kind).is_some_and(|w| w.wildcard)
    }

    /// The names it asks for.
    pub fn names(&self, kind: TypeUrl) -> BTreeSet<String> {
        let names = self.watches.get(&kind).map(|w| w.names.clone());
        names.unwrap_or_default()
    }

    /// Delta: adds and drops names; no names and no earlier request is a
    /// wildcard of types that have one.
    pub fn subscribe(&mut self, kind: TypeUrl, add: &[String], drop: &[String]) -> Request {
        let watch = self.watches.entry(kind).or_default();
        let first = !std::mem::replace(&mut watch.open, true);
        watch.wildcard |= first && add.is_empty() && kind.has_wildcard();
        for name in add {
            if name == "*" {
                watch.wildcard |= kind.has_wildcard();
            } else {
                watch.names.insert(name.clone());
            }
        }
        let held = watch.held.clone();
        for name in drop {
            if name == "*" {
                watch.wildcard = false;
            } else {
                watch.names.remove(name);
                // It forgets the resource, even where a wildcard covers it:
                // the server has to say what is true (xDS rule 25).
                watch.held.remove(name);
            }
        }
        watch.drop_uncovered();
        let versions = held.into_values().map(|h| (h.name, h.version));
        let initial = first.then(|| versions.collect());
        self.delta(DeltaDiscoveryRequest {
            type_url: kind.as_str().to_owned(),
            resource_names_subscribe: add.to_vec(),
            resource_names_unsubscribe: drop.to_vec(),
            initial_resource_versions: initial.unwrap_or_default(),
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// `SotW`: asks for exactly these names; none and none before is a wildcard
    /// of types that have one.
    pub fn ask(&mut self, kind: TypeUrl, names: &[String]) -> Request {
        let watch = self.watches.entry(kind).or_default();
        watch.open = true;
        watch.named |= !names.is_empty();
        watch.names = names.iter().filter(|name| *name != "*").cloned().collect();
        let star = names.iter().any(|name| name == "*");
        watch.wildcard = kind.has_wildcard() && (star || !watch.named);
        watch.drop_uncovered();
        self.list(kind, None)
    }

    /// The full list of names, as a reaction to the last response.
    fn list(&mut self, kind: TypeUrl, error: Option<Status>) -> Request {
        let greeting = !std::mem::replace(&mut self.greeted, true);
        let watch = self.watches.entry(kind).or_default();
        let star = (watch.wildcard && watch.named).then(|| "*".to_owned());
        Request::Sotw(DiscoveryRequest {
            node: greeting.then(node),
            type_url: kind.as_str().to_owned(),
            resource_names: star.into_iter().chain(watch.names.clone()).collect(),
            response_nonce: watch.nonce.clone(),
            version_info: watch.version.clone(),
            error_detail: error,
            ..DiscoveryRequest::default()
        })
    }

    fn delta(&mut self, request: DeltaDiscoveryRequest) -> Request {
        let greeting = !std::mem::replace(&mut self.greeted, true);
        Request::Delta(DeltaDiscoveryRequest {
            node: greeting.then(node),
            ..request
        })
    }

    /// Starts a new stream: what the client asks for first, and what it holds.
    pub fn reconnect(&mut self) -> Vec<Request> {
        self.nonces.clear();
        self.greeted = false;
        let mut requests = Vec::new();
        for kind in TypeUrl::ALL {
            let Some(watch) = self.watches.get_mut(&kind) else {
                continue;
            };
            let wanted = watch.open && (watch.wildcard || !watch.names.is_empty());
            let mut names: Vec<String> = watch.names.iter().cloned().collect();
            if watch.wildcard && !names.is_empty() {
                names.push("*".to_owned());
            }
            (watch.open, watch.named) = (false, false);
            watch.nonce.clear();
            if wanted {
                requests.push(match self.variant {
                    Variant::Delta => self.subscribe(kind, &names, &[]),
                    Variant::Sotw => self.ask(kind, &names),
                });
            }
        }
        requests
    }

    /// Takes a response and says what to answer. An error is a breach of the
    /// protocol.
    pub fn receive(&mut self, response: &Response, verdict: Verdict) -> Result<Request, String> {
        check(response)?;
        if !self.nonces.insert(response.nonce.clone()) {
            return Err(format!("nonce {} twice", response.nonce));
        }
        let kind = TypeUrl::parse(&response.type_url).ok_or("a type never asked for")?;
        let watch = self
            .watches
            .get_mut(&kind)
            .ok_or("a type never asked for")?;
        let whole = self.variant == Variant::Sotw && kind.has_wildcard();
        if whole && verdict == Verdict::Accept {
            watch.held.clear();
        }
        for (at, held) in response.resources.iter().enumerate() {
            if watch.covers(&held.name) && verdict.takes(at) {
                watch.held.insert(held.name.clone(), held.clone());
            }
        }
        for (at, name) in response.removed.iter().enumerate() {
            if verdict.takes(at) {
                watch.held.remove(name);
            }
        }
        watch.nonce.clone_from(&response.nonce);
        if verdict == Verdict::Accept {
            watch.version.clone_from(&response.version);
        }
        Ok(match self.variant {
            Variant::Sotw => self.list(kind, verdict.error()),
            Variant::Delta => self.delta(DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                error_detail: verdict.error(),
                ..DeltaDiscoveryRequest::default()
            }),
        })
    }
}

/// What must be true of any response.
fn check(response: &Response) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let updated = response.resources.iter().map(|r| &r.name);
    for name in updated.chain(&response.removed) {
        if !names.insert(name) {
            return Err(format!("{name} stands twice in {response:?}"));
        }
    }
    if response.nonce.is_empty() || response.version.is_empty() {
        return Err(format!("no nonce or no version in {response:?}"));
    }
    Ok(())
}
