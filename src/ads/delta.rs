//! Requests of the incremental variant.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::Received;
use super::subscription::Subscription;
use crate::model::TypeUrl;
use crate::wire::Version;

#[cfg(test)]
mod tests;

/// A version of ours, if it is one. istiod sends empty versions, which then
/// count as unknown.
fn version(text: &str) -> Option<Version> {
    let ours = text.len() == 16;
    let number = ours.then(|| u64::from_str_radix(text, 16).ok())??;
    Some(Version(number))
}

impl Subscription {
    /// Takes a delta request.
    pub(super) fn on_delta(&mut self, kind: TypeUrl, request: DeltaDiscoveryRequest) -> Received {
        let first = !self.active;
        self.active = true;
        let mut received = Received::Accepted;
        if first {
            // The nonce of a first request is one of an earlier stream (38).
            let held = request.initial_resource_versions.into_iter();
            self.reported = held.map(|(name, text)| (name, version(&text))).collect();
            if request.resource_names_subscribe.is_empty() && kind.has_wildcard() {
                self.ask_for_all();
            }
        } else if !request.response_nonce.is_empty() || request.error_detail.is_some() {
            let error = request.error_detail.as_ref();
            // A stale nonce pairs with nothing, but the subscription change
            // that rides on it counts (37).
            let ours = self.settle(&request.response_nonce, error);
            received = Received::of(kind, ours, error);
        }
        for name in &request.resource_names_subscribe {
            if name != "*" {
                // Asked for again: to be sent whatever it holds (23).
                if !first {
                    self.reported.remove(name);
                }
                self.ask(name);
            } else if kind.has_wildcard() {
                self.ask_for_all();
            }
        }
        // Behind the subscriptions, so that `sub: [*] unsub: [*]` is nothing (27).
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                self.forget_all();
                continue;
            }
            let known = self.forget(name) || self.entries.get(name).is_some();
            self.reported.remove(name);
            if self.wildcard && known {
                // The client has dropped what the wildcard still covers (25).
                self.asked.insert(name.clone(), false);
            }
        }
        received
    }
}
