//! What all sidecars write into, and the report is made from.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Notify, time::Instant};

use super::figures::Durations;
use super::offender::Offence;

/// Figures of one run.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Changes are made now: responses count from here on.
    steady: AtomicBool,
    round: Mutex<Round>,
    all_served: Notify,
    sidecars: usize,
    /// When each change was written.
    written: RwLock<Vec<Instant>>,
    latencies: Mutex<Durations>,
    /// Streams that ended before all was served, and after.
    pub(super) refused: AtomicU64,
    pub(super) lost: AtomicU64,
    last_end: Mutex<Option<String>>,
    /// First markers that sidecars of the changed network have seen.
    pub(super) marked: AtomicU64,
    /// Responses to good sidecars, ever.
    pub(super) received: AtomicU64,
    /// Responses while changes are made, and those that had none.
    pub(super) responses: AtomicU64,
    pub(super) needless: AtomicU64,
    pub(super) bytes: AtomicU64,
    by_network: Vec<AtomicU64>,
    /// Sidecars that watch a cluster, by network.
    watchers: Mutex<HashMap<u64, Vec<u64>>>,
    offences: Mutex<BTreeMap<Offence, Offended>>,
}

/// Since when sidecars count as served: a reconnect storm begins a new round.
#[derive(Debug, Default)]
struct Round {
    number: u64,
    served: usize,
}

/// What came of one kind of bad client.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Offended {
    /// Streams they opened.
    pub streams: u64,
    /// Responses that were read.
    pub pushes: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How streams ended, and how many so.
    pub closed: BTreeMap<String, u64>,
}

impl Ledger {
    pub(super) fn new(sidecars: usize, networks: usize) -> Self {
        Self {
            steady: AtomicBool::new(false),
            round: Mutex::default(),
            all_served: Notify::new(),
            sidecars,
            written: RwLock::default(),
            latencies: Mutex::default(),
            refused: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            last_end: Mutex::default(),
            marked: AtomicU64::new(0),
            received: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            needless: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            by_network: (0..networks).map(|_| AtomicU64::new(0)).collect(),
            watchers: Mutex::default(),
            offences: Mutex::default(),
        }
    }

    /// From now on responses count.
    pub(super) fn set_steady(&self) {
        self.steady.store(true, Relaxed);
    }

    pub(super) fn is_steady(&self) -> bool {
        self.steady.load(Relaxed)
    }

    /// Begins a round, in which nobody is served yet; its number.
    pub(super) fn next_round(&self) -> u64 {
        let mut round = self.round.lock();
        round.number += 1;
        round.served = 0;
        round.number
    }

    /// The round that a stream opened now belongs to.
    pub(super) fn round(&self) -> u64 {
        self.round.lock().number
    }

    /// A sidecar has all it asked for.
    pub(super) fn served(&self, round: u64) {
        let mut now = self.round.lock();
        if now.number == round {
            now.served += 1;
            if now.served >= self.sidecars {
                self.all_served.notify_waiters();
            }
        }
    }

    /// A sidecar that was served lost its stream.
    pub(super) fn unserved(&self, round: u64) {
        let mut now = self.round.lock();
        if now.number == round {
            now.served = now.served.saturating_sub(1);
        }
    }

    /// Sidecars that are served in this round.
    pub(super) fn count_served(&self) -> usize {
        self.round.lock().served
    }

    /// Done when all sidecars are served.
    pub(super) async fn all_served(&self) {
        loop {
            let notified = self.all_served.notified();
            if self.count_served() >= self.sidecars {
                return;
            }
            notified.await;
        }
    }

    /// A stream ended by itself.
    pub(super) fn ended(&self, was_served: bool, why: String) {
        let count = if was_served {
            &self.lost
        } else {
            &self.refused
        };
        count.fetch_add(1, Relaxed);
        *self.last_end.lock() = Some(why);
    }

    /// Why the last stream that ended did so.
    pub(super) fn last_end(&self) -> Option<String> {
        self.last_end.lock().clone()
    }

    /// A sidecar of a network watches these clusters.
    pub(super) fn watches(&self, network: usize, clusters: impl Iterator<Item = u64>) {
        let mut watchers = self.watchers.lock();
        for cluster in clusters {
            let counts = watchers.entry(cluster);
            let counts = counts.or_insert_with(|| vec![0; self.by_network.len()]);
            if let Some(count) = counts.get_mut(network) {
                *count += 1;
            }
        }
    }

    /// Sidecars of a network that watch a cluster.
    pub(super) fn watching(&self, network: usize, cluster: u64) -> u64 {
        let watchers = self.watchers.lock();
        let counts = watchers.get(&cluster);
        counts
            .and_then(|counts| counts.get(network))
            .copied()
            .unwrap_or_default()
    }

    /// A change is about to be written; its number.
    pub(super) fn writes(&self, now: Instant) -> u32 {
        let mut written = self.written.write();
        written.push(now);
        u32::try_from(written.len() - 1).unwrap_or(u32::MAX)
    }

    /// When a change was written; none where this run did not write it.
    pub(super) fn written(&self, number: u32) -> Option<Instant> {
        self.written.read().get(number as usize).copied()
    }

    /// A change written then arrived now.
    pub(super) fn delivered(&self, written: Instant, now: Instant) {
        self.latencies
            .lock()
            .push(now.saturating_duration_since(written));
    }

    /// Changes that arrived.
    pub(super) fn deliveries(&self) -> u64 {
        self.latencies.lock().len() as u64
    }

    pub(super) fn latencies(&self) -> Durations {
        self.latencies.lock().clone()
    }

    /// A response came while changes are made.
    pub(super) fn responded(&self, network: usize, bytes: usize, is_needless: bool) {
        self.responses.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.needless.fetch_add(u64::from(is_needless), Relaxed);
        if let Some(count) = self.by_network.get(network) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Responses by network.
    pub(super) fn by_network(&self) -> Vec<u64> {
        self.by_network.iter().map(|n| n.load(Relaxed)).collect()
    }

    /// Writes down what a bad client met.
    pub(super) fn offended(&self, offence: Offence, write: impl FnOnce(&mut Offended)) {
        write(self.offences.lock().entry(offence).or_default());
    }

    pub(super) fn offences(&self) -> BTreeMap<Offence, Offended> {
        self.offences.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_of_an_earlier_round_is_not_served_in_this_one() {
        let ledger = Ledger::new(2, 1);
        ledger.served(0);
        let round = ledger.next_round();
        ledger.served(0);
        ledger.unserved(0);
        assert_eq!(ledger.count_served(), 0);
        ledger.served(round);
        assert_eq!(ledger.count_served(), 1);
        ledger.unserved(round);
        assert_eq!(ledger.count_served(), 0);
    }

    #[test]
    fn watchers_are_counted_by_network() {
        let ledger = Ledger::new(3, 2);
        ledger.watches(0, [7, 8].into_iter());
        ledger.watches(0, [7].into_iter());
        ledger.watches(1, [7].into_iter());
        assert_eq!((ledger.watching(0, 7), ledger.watching(1, 7)), (2, 1));
        assert_eq!((ledger.watching(1, 8), ledger.watching(0, 9)), (0, 0));
    }
}
