//! Clients that cost more than they should: counted, and named in bounded
//! numbers.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{encoding::EncodeLabelSet, metrics::family::Family, registry::Registry};
use tokio::time::Instant;
use tracing::warn;

use super::metrics::Number;
use crate::model::printable;
use crate::telemetry::Throttle;

/// Offenders that have a name in the metrics; of more, those noted last.
const MOST: usize = 100;
/// Bytes of such a name.
const NAME: usize = 128;
/// One offender is told of again after this time.
const AGAIN: Duration = Duration::from_mins(1);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offence {
    /// Takes no bytes of its responses.
    Slow,
    /// Opens a stream and does not say who it is.
    Silent,
    /// Answers no response.
    NoAck,
    /// Rejects one response after the other.
    Nack,
    /// Subscribes to more names than a stream may hold.
    TooManyNames,
    /// Opens one stream after the other.
    Reconnects,
}

impl Offence {
    fn reason(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::NoAck => "no_ack",
            Self::Nack => "nack",
            Self::TooManyNames => "too_many_names",
            Self::Reconnects => "reconnects",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Slow => {
                "it takes no responses: look for an Envoy without CPU, or a network that drops"
            }
            Self::Silent => "it sends no first request: look for what connects there",
            Self::NoAck => "it gets no changes until it answers: look for an Envoy that hangs",
            Self::Nack => "it rejects what it is sent: its last words are in its log and ours",
            Self::TooManyNames => "it asks for too many names: narrow its Sidecar egress hosts",
            Self::Reconnects => "its streams end early: look for why in its log",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OffenderLabel {
    reason: &'static str,
    proxy: String,
}

/// Counts and names offenders.
#[derive(Debug, Clone, Default)]
pub(super) struct Offenders {
    all: Family<ReasonLabel, Number>,
    named: Family<OffenderLabel, Number>,
    /// Who stands in `named`, and when it was told of; noted last stands last.
    order: Arc<Mutex<VecDeque<(OffenderLabel, Instant)>>>,
    lines: Arc<Throttle>,
}

impl Offenders {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Times that clients cost more than they should, by reason";
        registry.register("isthmus_offences", help, self.all.clone());
        let help = "The same by proxy, for the proxies noted last";
        registry.register("isthmus_offenders", help, self.named.clone());
    }

    /// Notes an offence of a proxy; of its address, where it has no name.
    pub(super) fn note(&self, offence: Offence, proxy: Option<&str>, peer: SocketAddr) {
        let reason = offence.reason();
        self.all.get_or_create(&ReasonLabel { reason }).inc();
        let proxy = match proxy {
            Some(name) => printable(name, NAME),
            None => peer.ip().to_string(),
        };
        let label = OffenderLabel { reason, proxy };
        if self.stand(&label)
            && let Some(not_told) = self.lines.pass()
        {
            let (proxy, advice) = (&label.proxy, offence.advice());
            warn!(reason, proxy, %peer, not_told, advice, "a client costs more than it should");
        }
    }

    /// Counts one of the named, and makes room for it; whether to tell of it.
    fn stand(&self, label: &OffenderLabel) -> bool {
        let now = Instant::now();
        let mut order = self.order.lock();
        let known = order.iter().position(|(known, _)| known == label);
        let told = known.and_then(|at| order.remove(at)).map(|(_, told)| told);
        if order.len() >= MOST
            && let Some((oldest, _)) = order.pop_front()
        {
            self.named.remove(&oldest);
        }
        let tell = told.is_none_or(|told| now - told >= AGAIN);
        let told = told.filter(|_| !tell).unwrap_or(now);
        order.push_back((label.clone(), told));
        // Within the lock, or one that leaves could come back uncounted.
        self.named.get_or_create(label).inc();
        tell
    }

    #[cfg(test)]
    pub(super) fn count(&self, offence: Offence) -> i64 {
        let reason = offence.reason();
        self.all.get_or_create(&ReasonLabel { reason }).value()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus_client::encoding::text::encode;

    use super::*;

    fn text(offenders: &Offenders) -> String {
        let mut registry = Registry::default();
        offenders.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn offenders_are_named_and_the_oldest_leave() {
        let offenders = Offenders::default();
        let peer = SocketAddr::from((Ipv4Addr::new(10, 1, 2, 3), 4));
        for n in 0..MOST {
            offenders.note(Offence::Slow, Some(&format!("web-{n}.shop")), peer);
        }
        offenders.note(Offence::Slow, Some("web-0.shop"), peer);
        offenders.note(Offence::Silent, None, peer);
        let shown = text(&offenders);
        let named = |line: &str| shown.lines().any(|l| l == line);
        assert!(named("isthmus_offences{reason=\"slow\"} 101"), "{shown}");
        assert!(named(
            "isthmus_offenders{reason=\"silent\",proxy=\"10.1.2.3\"} 1"
        ));
        assert!(named(
            "isthmus_offenders{reason=\"slow\",proxy=\"web-0.shop\"} 2"
        ));
        assert!(!shown.contains("\"web-1.shop\""), "{shown}");
        assert_eq!(shown.matches("isthmus_offenders{").count(), MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_clients_choose_stay_short_and_clean() {
        let offenders = Offenders::default();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 4));
        let name = format!("web\"\n\u{1b}{}", "x".repeat(1000));
        offenders.note(Offence::Nack, Some(&name), peer);
        let shown = text(&offenders);
        assert!(!shown.contains('\u{1b}') && shown.len() < 1000, "{shown}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_offender_is_told_of_once_a_minute() {
        let offenders = Offenders::default();
        let label = OffenderLabel {
            reason: "slow",
            proxy: "web".to_owned(),
        };
        let mut told = 0;
        for _ in 0..300 {
            told += usize::from(offenders.stand(&label));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, 5);
    }
}
