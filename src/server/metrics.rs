//! Counters of the ADS server, with istiod's names.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::offenders::Offenders;
use super::refusals::Refusals;
use crate::model::TypeUrl;

/// A number that is exposed under its name as it is: istiod's counters have no
/// `_total` at the end, which the counters of `prometheus-client` always get.
#[derive(Clone, Default)]
pub struct Number(Arc<AtomicI64>);

impl Number {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets it.
    pub(super) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.value(), f)
    }
}

impl TypedMetric for Number {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Number {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.value())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

/// `version` of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VersionLabel {
    version: String,
}

/// Short name of a resource type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TypeLabel {
    r#type: &'static str,
}

/// Metrics of the ADS server, made once and passed in.
#[derive(Debug, Clone)]
pub struct Metrics {
    clients: Family<VersionLabel, Number>,
    pushes: Family<TypeLabel, Number>,
    /// The same by place in [`TypeUrl::ALL`]: found without a lock that all
    /// streams share.
    pushed: [Number; TypeUrl::ALL.len()],
    rejects: Family<TypeLabel, Number>,
    /// Requests with a nonce that is not the last one sent.
    pub(super) expired_nonce: Number,
    /// Streams that ended by an error on this side.
    pub(super) internal_errors: Number,
    /// From the wake-up by a newer snapshot to the hand-over of all it changed.
    pub(super) convergence: Histogram,
    /// Callers that were not let in.
    pub(super) refusals: Refusals,
    /// Clients that cost more than they should.
    pub(super) offenders: Offenders,
    /// Streams whose clients have not taken a byte for long.
    pub(super) slow_streams: Number,
    /// Bytes that streams hold of requests and responses.
    pub(super) held_bytes: Number,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self {
            clients,
            pushes,
            pushed: _,
            rejects,
            expired_nonce,
            internal_errors,
            convergence,
            refusals,
            offenders,
            slow_streams,
            held_bytes,
        } = &metrics;
        refusals.register(registry);
        offenders.register(registry);
        let help = "Streams whose clients have not taken a byte for long";
        registry.register("isthmus_slow_streams", help, slow_streams.clone());
        let help = "Bytes of requests and responses that streams hold";
        registry.register("isthmus_held_bytes", help, held_bytes.clone());
        let name = "pilot_xds";
        let help = "Number of endpoints connected to this pilot using XDS";
        registry.register(name, help, clients.clone());
        let (name, help) = ("pilot_xds_pushes", "Responses sent, by type");
        registry.register(name, help, pushes.clone());
        let name = "pilot_total_xds_rejects";
        let help = "Responses rejected by proxies, by type";
        registry.register(name, help, rejects.clone());
        let (name, help) = ("pilot_xds_expired_nonce", "Requests with an expired nonce");
        registry.register(name, help, expired_nonce.clone());
        let name = "pilot_total_xds_internal_errors";
        let help = "Streams ended by an internal error";
        registry.register(name, help, internal_errors.clone());
        let name = "pilot_proxy_convergence_time";
        let help = "Seconds between a change and a proxy being sent all of it";
        registry.register(name, help, convergence.clone());
        metrics
    }

    pub(super) fn clients(&self, version: &str) -> Number {
        // A label value that clients choose must stay small and clean.
        let clean = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        let known = !version.is_empty() && version.len() <= 40 && version.chars().all(clean);
        let version = if known { version } else { "unknown" }.to_owned();
        self.clients.get_or_create_owned(&VersionLabel { version })
    }

    pub(super) fn pushed(&self, kind: TypeUrl) {
        if let Some(pushed) = self.pushed.get(kind as usize) {
            pushed.inc();
        }
    }

    pub(super) fn rejected(&self, kind: TypeUrl) {
        self.rejects.get_or_create(&label(kind)).inc();
    }
}

fn label(kind: TypeUrl) -> TypeLabel {
    let r#type = kind.short();
    TypeLabel { r#type }
}

impl Default for Metrics {
    /// Counted, but shown nowhere.
    fn default() -> Self {
        let seconds = [
            0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0,
        ];
        let pushes = Family::<TypeLabel, Number>::default();
        Self {
            clients: Family::default(),
            pushed: TypeUrl::ALL.map(|kind| pushes.get_or_create_owned(&label(kind))),
            pushes,
            rejects: Family::default(),
            expired_nonce: Number::default(),
            internal_errors: Number::default(),
            convergence: Histogram::new(seconds),
            refusals: Refusals::default(),
            offenders: Offenders::default(),
            slow_streams: Number::default(),
            held_bytes: Number::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn names_are_those_of_istiod() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.pushed(TypeUrl::Cluster);
        metrics.rejected(TypeUrl::Listener);
        metrics.clients("1.32.0").inc();
        metrics.clients("bad\"\nlabel").inc();
        metrics.convergence.observe(0.01);
        let mut text = String::new();
        encode(&mut text, &registry).expect("encodes");
        for line in [
            "pilot_xds_pushes{type=\"cds\"} 1",
            "pilot_total_xds_rejects{type=\"lds\"} 1",
            "pilot_xds{version=\"1.32.0\"} 1",
            "pilot_xds{version=\"unknown\"} 1",
            "pilot_xds_expired_nonce 0",
            "pilot_total_xds_internal_errors 0",
            "pilot_proxy_convergence_time_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
