//! One simulated sidecar as a value: responses in, requests out. No socket.

use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::BytesMut;
use prost::Message;
use serde_json::json;
use tokio::time::Instant;

use super::churn::CLUSTER;
use super::ledger::Ledger;
use super::markers::{Markers, Seen};
use super::mesh::{cluster_name, network_name};
use super::offender::{Answer, Offence};
use super::request::{Names, answer, subscribe};
use super::walk::{Malformed, Response, Variant};
use super::watch_set::{WatchSet, is_of_mesh, spread};
use crate::client::{ProxySpec, SpecLocality};
use crate::model::TypeUrl;

const CDS: &[u8] = TypeUrl::Cluster.as_str().as_bytes();
const EDS: &[u8] = TypeUrl::ClusterLoadAssignment.as_str().as_bytes();

/// Where a sidecar learns the names of its watch set.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    /// From the clusters it is sent, as Envoy does: those whose host has this
    /// text in it.
    Sent(Arc<str>),
    /// It knows them, and asks for no clusters.
    Known(Arc<[Box<[u8]>]>),
}

/// What all sidecars of a run have in common.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) variant: Variant,
    pub(super) scope: Scope,
    /// Services that each watches; 0 is all.
    pub(super) watch: usize,
    pub(super) namespace: String,
    pub(super) service_account: String,
}

/// Which sidecar this is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) index: u32,
    pub(super) network: u32,
    /// None for a good one.
    pub(super) offence: Option<Offence>,
}

/// One sidecar.
#[derive(Debug)]
pub(super) struct Proxy {
    kind: Arc<Kind>,
    pub(super) ledger: Arc<Ledger>,
    markers: Arc<Markers>,
    pub(super) place: Place,
    node: Vec<u8>,
    set: WatchSet,
    answered: usize,
    /// The round that the stream was opened in, and whether all is served.
    round: u64,
    is_served: bool,
    is_registered: bool,
    seen: Seen,
    marked: Seen,
}

impl Proxy {
    pub(super) fn new(
        kind: &Arc<Kind>,
        ledger: &Arc<Ledger>,
        markers: &Arc<Markers>,
        place: Place,
    ) -> Self {
        Self {
            kind: Arc::clone(kind),
            ledger: Arc::clone(ledger),
            markers: Arc::clone(markers),
            place,
            node: spec(kind, place).node().encode_to_vec(),
            set: WatchSet::default(),
            answered: 0,
            round: 0,
            is_served: false,
            is_registered: false,
            seen: Seen::default(),
            marked: Seen::default(),
        }
    }

    /// Writes the requests that open a stream.
    pub(super) fn open(&mut self, out: &mut BytesMut) {
        self.round = self.ledger.round();
        self.set = WatchSet::default();
        self.answered = 0;
        let variant = self.kind.variant;
        let mut node = Some(&self.node[..]);
        if let Scope::Sent(_) = self.kind.scope {
            subscribe(out, variant, CDS, &Names::default(), node.take());
        }
        if let Scope::Known(names) = &self.kind.scope {
            let picked = spread(names.len(), self.kind.watch, self.place.index as usize);
            let picked = picked.filter_map(|at| names.get(at).map(|name| &**name));
            let names = self.set.add(picked);
            subscribe(out, variant, EDS, &names, node);
        }
    }

    /// Writes a subscription to names that no mesh has.
    pub(super) fn subscribe_to_nothing(&self, count: u32, out: &mut BytesMut) {
        let mut names = Names::default();
        for number in 0..count {
            let name = format!("outbound|80||nothing-{number}.load-0.svc.cluster.local");
            names.push(name.as_bytes());
        }
        subscribe(out, self.kind.variant, EDS, &names, None);
    }

    /// Takes a response and writes what it is answered with.
    pub(super) fn on_response(
        &mut self,
        message: &[u8],
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), Malformed> {
        let response = Response::read(self.kind.variant, message)?;
        self.count(&response, now);
        let fresh = match response.type_url {
            CDS => self.discover(&response),
            EDS => {
                self.answered += response.resources;
                None
            }
            _ => None,
        };
        self.answer(&response, out);
        if let Some(fresh) = fresh {
            // SotW: the names of a request are all there are.
            let names = match self.kind.variant {
                Variant::Delta => &fresh,
                Variant::Sotw => self.set.names(),
            };
            subscribe(out, self.kind.variant, EDS, names, None);
        }
        self.check_served();
        Ok(())
    }

    /// The stream ended; whether the sidecar had been served.
    pub(super) fn on_end(&mut self) -> bool {
        let was_served = self.is_served;
        if was_served && self.place.offence.is_none() {
            self.ledger.unserved(self.round);
        }
        self.is_served = false;
        was_served
    }

    fn answer(&self, response: &Response<'_>, out: &mut BytesMut) {
        let none = Names::default();
        let names = if response.type_url == EDS {
            self.set.names()
        } else {
            &none
        };
        let how = self.place.offence.map_or(Answer::Ack, Offence::answer);
        let error = match how {
            Answer::Nothing => return,
            Answer::Ack => None,
            Answer::Nack => Some("rejected by the load generator"),
        };
        answer(out, self.kind.variant, response, names, error);
    }

    /// What of the clusters is to be watched and is not yet.
    fn discover(&mut self, response: &Response<'_>) -> Option<Names> {
        let Scope::Sent(host_part) = &self.kind.scope else {
            return None;
        };
        let is_whole = self.kind.watch == 0;
        if !is_whole && self.set.len() > 0 {
            return None;
        }
        let names = response.names();
        let mut names: Vec<_> = names
            .filter(|name| is_of_mesh(name, host_part.as_bytes()))
            .collect();
        names.sort_unstable();
        let before = self.set.len();
        let start = if is_whole {
            0
        } else {
            self.place.index as usize
        };
        let picked = spread(names.len(), self.kind.watch, start);
        let picked = picked.filter_map(|at| names.get(at).copied());
        let fresh = self.set.add(picked);
        (self.set.len() > before).then_some(fresh)
    }

    fn check_served(&mut self) {
        let lacks = self.set.len() == 0 || self.answered < self.set.len();
        if self.is_served || lacks {
            return;
        }
        self.is_served = true;
        if self.place.offence.is_some() {
            return;
        }
        if !self.is_registered {
            self.is_registered = true;
            self.ledger
                .watches(self.place.network as usize, self.set.ids());
        }
        self.ledger.served(self.round);
    }

    fn count(&mut self, response: &Response<'_>, now: Instant) {
        let bytes = response.bytes();
        if let Some(offence) = self.place.offence {
            self.ledger.offended(offence, |met| met.pushes += 1);
            return;
        }
        self.ledger.received.fetch_add(1, Relaxed);
        if !self.ledger.is_steady() {
            self.note_marks(bytes);
            return;
        }
        let mut is_news = false;
        for number in self.markers.find(bytes) {
            if let Some(written) = self.ledger.written(number)
                && self.seen.insert(number)
            {
                is_news = true;
                // What was there when it came back is no delivery.
                if self.is_served {
                    self.ledger.delivered(written, now);
                }
            }
        }
        if self.is_served {
            let network = self.place.network as usize;
            self.ledger.responded(network, bytes.len(), !is_news);
        }
    }
}

impl Proxy {
    /// Before changes are made, each service has its first marker: what is
    /// still on its way would be taken for the answer to a change.
    fn note_marks(&mut self, bytes: &[u8]) {
        if self.place.network != CLUSTER {
            return;
        }
        for service in self.markers.find(bytes).filter_map(Markers::first_of) {
            let is_first = self.marked.insert(service);
            self.ledger.marked.fetch_add(u64::from(is_first), Relaxed);
        }
    }
}

/// What a sidecar that Istio injected says of itself.
fn spec(kind: &Kind, place: Place) -> ProxySpec {
    let Place { index, network, .. } = place;
    let namespace = &kind.namespace;
    let name = place.offence.map_or("client".to_owned(), |offence| {
        format!("{offence:?}").to_lowercase()
    });
    // 100.64.0.0/10 is no range of pods.
    let address = Ipv4Addr::from_bits(0x6440_0000 | index & 0x003f_ffff);
    let metadata = json!({
        "CLUSTER_ID": cluster_name(network),
        "NETWORK": network_name(network),
        "NAMESPACE": namespace,
        "ISTIO_VERSION": "1.32.0",
        "MESH_ID": "mesh",
        "SERVICE_ACCOUNT": kind.service_account,
        "LABELS": {
            "app": name,
            "topology.istio.io/network": network_name(network),
        },
        "PROXY_CONFIG": {},
    });
    ProxySpec {
        id: format!("sidecar~{address}~{name}-{index}.{namespace}~{namespace}.svc.cluster.local"),
        name: format!("{name}.{namespace}"),
        locality: SpecLocality {
            region: format!("region-{network}"),
            zone: format!("zone-{}", index % 3),
            sub_zone: String::new(),
        },
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        extensions: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
