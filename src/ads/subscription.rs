//! What one stream wants of one type, and what was sent of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use envoy_types::pb::google::rpc::Status as RpcStatus;

use super::Nonce;
use super::entries::{Entries, Entry, State};
use crate::model::printable;
use crate::wire::Version;

/// Un-ACKed answers to requests that may be under way at once; pushes wait for
/// the last ACK, whatever their number.
const MAX_IN_FLIGHT: usize = 8;

/// Memory that an explicit name costs beside its text.
const NAME_COST: usize = 64;

/// A name that a session begins, or ceases, to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The resource name.
    pub name: Box<str>,
    /// Whether it begins.
    pub on: bool,
}

/// State of one type on one stream. Nothing of it is shared with another type
/// (xDS rule 1).
#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent fact about the stream"
)]
pub(super) struct Subscription {
    /// A request of this type has come.
    pub(super) active: bool,
    /// A name was given on this stream: an empty list now means "nothing"
    /// (xDS rule 15).
    pub(super) named: bool,
    /// Everything is wanted.
    pub(super) wildcard: bool,
    /// Hash of the last full list of names of a `SotW` client.
    pub(super) names_hash: Option<u64>,
    /// The wildcard was asked for and must be answered even if empty (44).
    pub(super) must_answer: bool,
    /// Names to answer whatever the client holds; `false` for a name that only
    /// the wildcard covers (25).
    pub(super) asked: BTreeMap<String, bool>,
    /// What the client says it holds from an earlier stream, until the first
    /// answer (57). `None` for a version that is not ours.
    pub(super) reported: BTreeMap<String, Option<Version>>,
    /// Every name may have changed.
    pub(super) look: bool,
    /// These names may have changed.
    pub(super) due: Vec<Arc<str>>,
    /// All names.
    pub(super) entries: Entries,
    /// Names whose last content the client rejected, to go along with the next
    /// real change (35).
    pub(super) rejected: Vec<Arc<str>>,
    /// Names to be removed when nothing refers to them any more (49).
    pub(super) leaving: BTreeSet<Arc<str>>,
    /// Responses without an ACK, oldest first.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Nonce of the last response.
    pub(super) sent: Option<Nonce>,
    /// Nonce of the last ACK.
    pub(super) acked: Option<Nonce>,
    /// Text of the last NACK, until the next ACK.
    pub(super) error: Option<Box<str>>,
    /// Memory of explicit names.
    cost: usize,
    /// It is told of changes name by name: explicit names are in `watches`.
    is_followed: bool,
    /// Names asked for and forgotten, in order, until the owner takes them.
    pub(super) watches: Vec<Watch>,
}

/// A response without an ACK.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: Nonce,
    pub(super) updated: Vec<Arc<str>>,
    pub(super) removed: Vec<Arc<str>>,
}

impl Subscription {
    /// Of a type that is told of changes name by name.
    pub(super) fn followed() -> Self {
        Self {
            is_followed: true,
            ..Self::default()
        }
    }

    fn note_watch(&mut self, name: &str, on: bool) {
        if self.is_followed {
            let name = name.into();
            self.watches.push(Watch { name, on });
        }
    }

    /// Whether a request waits for its answer.
    pub(super) fn is_asked(&self) -> bool {
        self.must_answer || !self.asked.is_empty()
    }

    /// Whether a change may have to be pushed.
    pub(super) fn is_changed(&self) -> bool {
        self.look || !self.due.is_empty()
    }

    /// Whether a push has to wait for an ACK.
    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether even an answer has to wait for an ACK.
    pub(super) fn is_flooded(&self) -> bool {
        self.in_flight.len() >= MAX_IN_FLIGHT
    }

    /// Memory that the client made this stream spend on names.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Whether this stream has sent `name`, and not merely learned that the
    /// client holds it.
    pub(super) fn has_sent(&self, name: &str) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|e| matches!(e.state, State::Sent | State::Rejected))
    }

    /// Subscribes to a name. It is answered even if the client holds it
    /// already: it may have forgotten (xDS rules 11, 23, 26).
    pub(super) fn ask(&mut self, name: &str) {
        let known = self.asked.get(name).copied();
        let held = self.entries.get(name).is_some_and(|e| e.explicit);
        if known != Some(true) && !held {
            self.cost += name.len() + NAME_COST;
            self.note_watch(name, true);
        }
        self.asked.insert(name.to_owned(), true);
    }

    /// Unsubscribes from a name; says whether it was subscribed to.
    pub(super) fn forget(&mut self, name: &str) -> bool {
        let asked = self.asked.remove(name) == Some(true);
        let held = self.entries.get(name).is_some_and(|e| e.explicit);
        if held && self.wildcard {
            self.entries.update(name, |_, entry| {
                entry.explicit = false;
                true
            });
        } else if held {
            self.entries.remove(name);
            self.leaving.remove(name);
        }
        if asked || held {
            self.cost = self.cost.saturating_sub(name.len() + NAME_COST);
            self.note_watch(name, false);
        }
        asked || held
    }

    /// Subscribes to everything; all of it is sent (xDS rule 17).
    pub(super) fn ask_for_all(&mut self) {
        self.wildcard = true;
        self.must_answer = true;
    }

    /// Drops the wildcard; names asked for explicitly stay.
    pub(super) fn forget_all(&mut self) {
        self.wildcard = false;
        self.must_answer = false;
        self.asked.retain(|_, explicit| *explicit);
        self.entries.update_all(|_, entry| entry.explicit);
        self.leaving.clear();
    }

    /// Pairs a nonce with the response it belongs to and records what the
    /// client says of it. An ACK of a later response covers earlier ones.
    /// Says whether the nonce was one of this stream's.
    pub(super) fn settle(&mut self, nonce: &str, error: Option<&RpcStatus>) -> bool {
        if let Some(error) = error {
            let text = printable(&error.message, 512);
            self.error = Some(format!("{}: {text}", error.code).into());
        }
        let Some(at) = self.in_flight.iter().position(|r| r.nonce.is(nonce)) else {
            return self.sent.is_some_and(|sent| sent.is(nonce));
        };
        let Some(response) = self.in_flight.drain(..=at).next_back() else {
            return false;
        };
        if error.is_some() {
            self.reject(response);
        } else {
            self.acked = Some(response.nonce);
            self.error = None;
        }
        true
    }

    /// Clients apply the valid part of a response they reject, and do not say
    /// which that is: none of it counts as held (xDS rule 35).
    fn reject(&mut self, response: InFlight) {
        for name in response.updated {
            self.entries.update(&name, |key, entry| {
                if entry.state == State::Sent {
                    entry.state = State::Rejected;
                    self.rejected.push(Arc::clone(key));
                }
                true
            });
        }
        for name in response.removed {
            let known = self.entries.get(&name).copied();
            let mut entry = known.unwrap_or(Entry::absent(false));
            if entry.state == State::Absent {
                entry.state = State::RejectedAbsent;
                self.entries.put(&name, entry);
                self.rejected.push(name);
            }
        }
    }
}
