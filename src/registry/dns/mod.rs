//! Resolves the host names of gateways in the background.
//!
//! Input is the set of names wanted, output one [`Change::Resolved`] whenever a
//! name's addresses differ. Every name has its own timer: the answer's TTL,
//! between 30 seconds and an hour.
//!
//! A failure, and an answer without addresses, keeps the last good answer for
//! as long as the name is wanted. (istiod keeps it over failures only: a record
//! that is missing for a moment, as when a load balancer is recreated, takes the
//! whole network away from all others.)

mod lookup;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

pub use lookup::{Answer, DnsError, DnsLookup, Lookup};

use super::jitter::spread;
use crate::mesh::{Change, Event};
use crate::model::ClusterId;

/// Shortest time between two lookups of a name.
const SHORTEST: Duration = Duration::from_secs(30);
/// Longest time between two lookups of a name.
const LONGEST: Duration = Duration::from_hours(1);
/// Longest pause after failures.
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// What is known of one name.
#[derive(Debug, Default)]
struct Name {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Lookups in a row that brought no address.
    failures: u32,
    /// When to ask again; none while asking.
    due: Option<Instant>,
    /// The index was told something.
    told: bool,
}

impl Name {
    /// Takes an answer; tells whether the index must hear of it.
    fn take(&mut self, answer: &Answer, now: Instant) -> bool {
        let before = (std::mem::take(&mut self.v4), std::mem::take(&mut self.v6));
        let found = |family: &Result<Vec<IpAddr>, DnsError>| {
            family.as_ref().is_ok_and(|addresses| !addresses.is_empty())
        };
        let good = found(&answer.v4) || found(&answer.v6);
        if good {
            // A family that failed keeps what it had; one that is empty beside
            // a good one is empty.
            self.v4 = answer.v4.clone().unwrap_or(before.0.clone());
            self.v6 = answer.v6.clone().unwrap_or(before.1.clone());
            self.v4.sort_unstable();
            self.v6.sort_unstable();
            self.failures = 0;
            self.due = Some(now + spread(answer.ttl.clamp(SHORTEST, LONGEST)));
        } else {
            (self.v4, self.v6) = before.clone();
            let pause = SHORTEST.saturating_mul(1 << self.failures.min(8));
            self.failures = self.failures.saturating_add(1);
            self.due = Some(now + spread(pause.min(LAST_PAUSE)));
        }
        let news = !self.told || (&self.v4, &self.v6) != (&before.0, &before.1);
        self.told = true;
        news
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().collect()
    }
}

type Asked = BoxFuture<'static, (Arc<str>, Answer)>;

struct Names<L> {
    cluster: ClusterId,
    lookup: Arc<L>,
    events: mpsc::Sender<Vec<Event>>,
    known: BTreeMap<Arc<str>, Name>,
    asked: FuturesUnordered<Asked>,
}

/// Resolves `wanted` until it, or `events`, is closed. `cluster` is named in the
/// events; addresses count for all clusters.
pub async fn run<L: Lookup>(
    cluster: ClusterId,
    lookup: L,
    mut wanted: watch::Receiver<BTreeSet<Arc<str>>>,
    events: mpsc::Sender<Vec<Event>>,
) {
    let mut names = Names {
        cluster,
        lookup: Arc::new(lookup),
        events,
        known: BTreeMap::new(),
        asked: FuturesUnordered::new(),
    };
    let first = wanted.borrow_and_update().clone();
    names.want(&first);
    loop {
        names.ask_due();
        let next = names.next_due();
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let now_wanted = wanted.borrow_and_update().clone();
                names.want(&now_wanted);
            }
            Some((name, answer)) = names.asked.next() => {
                if names.take(name, &answer).await.is_err() {
                    return;
                }
            }
            () = wait(next) => {}
        }
    }
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl<L: Lookup> Names<L> {
    fn want(&mut self, wanted: &BTreeSet<Arc<str>>) {
        self.known.retain(|name, _| wanted.contains(name));
        let now = Instant::now();
        for name in wanted {
            self.known.entry(Arc::clone(name)).or_insert_with(|| Name {
                due: Some(now),
                ..Name::default()
            });
        }
    }

    fn ask_due(&mut self) {
        let now = Instant::now();
        for (name, state) in &mut self.known {
            if state.due.is_some_and(|due| due <= now) {
                state.due = None;
                let (lookup, name) = (Arc::clone(&self.lookup), Arc::clone(name));
                self.asked.push(Box::pin(async move {
                    let answer = lookup.lookup(&name).await;
                    (name, answer)
                }));
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.known.values().filter_map(|state| state.due).min()
    }

    async fn take(&mut self, name: Arc<str>, answer: &Answer) -> Result<(), ()> {
        // Unwanted by now, or unwanted and wanted again: then it is asked twice.
        let Some(state) = self.known.get_mut(&name) else {
            return Ok(());
        };
        let news = state.take(answer, Instant::now());
        let addresses = state.addresses();
        report(&name, state, answer);
        if !news {
            return Ok(());
        }
        let event = Event {
            cluster: self.cluster.clone(),
            change: Change::Resolved(name, addresses),
        };
        self.events.send(vec![event]).await.map_err(|_| ())
    }
}

fn report(name: &str, state: &Name, answer: &Answer) {
    let addresses = state.addresses();
    if state.failures == 0 {
        debug!(name, ?addresses, "gateway host name resolved");
        return;
    }
    let error = match (&answer.v4, &answer.v6) {
        (Err(error), _) | (_, Err(error)) => error.to_string(),
        _ => "the answer has no addresses".to_owned(),
    };
    if state.failures > 1 {
        debug!(name, error, "gateway host name still does not resolve");
    } else if addresses.is_empty() {
        warn!(
            name,
            error, "the gateway host name does not resolve: its network cannot be reached"
        );
    } else {
        warn!(
            name,
            error,
            ?addresses,
            "the gateway host name does not resolve: keeping its last addresses"
        );
    }
}

#[cfg(test)]
mod tests;
