//! Callers that are not let in: counted by reason, and told in bounded numbers.

use std::{net::SocketAddr, sync::Arc};

use prometheus_client::{encoding::EncodeLabelSet, metrics::family::Family, registry::Registry};
use tonic::{Code, Status};
use tracing::warn;

use super::metrics::Number;
use crate::telemetry::Throttle;

/// `reason`. No label for the caller: there is no end to those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Counts and tells who is not let in.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals {
    count: Family<ReasonLabel, Number>,
    lines: Arc<Throttle>,
}

impl Refusals {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Callers that were not let in, by reason";
        registry.register("isthmus_refused_callers", help, self.count.clone());
    }

    /// A connection that did not come about.
    pub(super) fn connection(&self, peer: SocketAddr, error: &std::io::Error) {
        self.note("handshake", peer, &error.to_string());
    }

    /// A request that was answered with this status and nothing else.
    pub(super) fn request(&self, peer: SocketAddr, status: &Status) {
        let reason = match status.code() {
            Code::Unauthenticated => "unauthenticated",
            Code::PermissionDenied => "permission_denied",
            Code::InvalidArgument => "invalid_argument",
            Code::ResourceExhausted => "resource_exhausted",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::Unavailable => "unavailable",
            Code::Unimplemented => "unimplemented",
            _ => "other",
        };
        self.note(reason, peer, status.message());
    }

    #[cfg(test)]
    pub(super) fn count(&self, reason: &'static str) -> i64 {
        let label = ReasonLabel { reason };
        self.count.get_or_create(&label).value()
    }

    fn note(&self, reason: &'static str, peer: SocketAddr, text: &str) {
        self.count.get_or_create(&ReasonLabel { reason }).inc();
        if let Some(not_told) = self.lines.pass() {
            warn!(reason, %peer, not_told, text, "caller refused");
        }
    }
}
