//! Requests of the state-of-the-world variant.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use xxhash_rust::xxh3::Xxh3Default;

use super::Received;
use super::subscription::Subscription;
use crate::model::TypeUrl;

#[cfg(test)]
mod tests;

/// Most requests are ACKs that repeat the list of the last one: its hash saves
/// comparing it name by name.
fn hash(names: &[String]) -> u64 {
    let mut hash = Xxh3Default::new();
    for name in names {
        hash.update(name.as_bytes());
        hash.update(&[0xff]);
    }
    hash.digest()
}

impl Subscription {
    /// Takes a `SotW` request.
    pub(super) fn on_sotw(&mut self, kind: TypeUrl, request: &DiscoveryRequest) -> Received {
        let (nonce, error) = (
            request.response_nonce.as_str(),
            request.error_detail.as_ref(),
        );
        // A nonce of an earlier stream makes no request stale (38).
        let sent = self.sent;
        if sent.is_some_and(|sent| !nonce.is_empty() && !sent.is(nonce)) {
            // The ACK of the newer response carries the list again (36).
            return Received::Stale(kind);
        }
        // No nonce after a response: the client starts anew (39).
        let anew = sent.is_some() && nonce.is_empty() && error.is_none();
        if anew {
            self.in_flight.clear();
        }
        let mut received = Received::Accepted;
        if sent.is_some() && !anew {
            let ours = self.settle(nonce, error);
            received = Received::of(kind, ours, error);
        }
        self.active = true;
        let names = hash(&request.resource_names);
        if self.names_hash.replace(names) != Some(names) || anew {
            self.set_names(kind, &request.resource_names, anew);
        }
        received
    }

    /// The list is the whole subscription each time (xDS rule 11).
    fn set_names(&mut self, kind: TypeUrl, names: &[String], anew: bool) {
        let wanted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let legacy = wanted.is_empty() && !self.named;
        let wildcard = kind.has_wildcard() && (legacy || wanted.contains("*"));
        self.named |= !wanted.is_empty();
        if wildcard && (anew || !self.wildcard) {
            self.ask_for_all();
        } else if !wildcard && self.wildcard {
            self.forget_all();
        }
        let held = self.entries.explicit().map(|name| &**name);
        let held = held.chain(self.asked.keys().map(String::as_str));
        let gone: Vec<String> = held
            .filter(|name| !wanted.contains(name))
            .map(str::to_owned)
            .collect();
        for name in gone {
            self.forget(&name);
        }
        for name in wanted.into_iter().filter(|name| *name != "*") {
            let held = self.entries.get(name).is_some_and(|e| e.explicit);
            if anew || !(held || self.asked.contains_key(name)) {
                self.ask(name);
            }
        }
    }
}
