//! The writer loop: events from all sources into the index, one publish a
//! batch.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{debug, info};

use self::pace::Pace;
use crate::mesh::{Change, Event, Index, Pending, Writer};
use crate::server::apart;

mod pace;

/// Batches taken in before a look at what is due.
const BATCHES: usize = 4096;

/// Objects that take so long that other tasks must not wait for them: some
/// milliseconds.
const MANY: usize = 256;

/// Asks the writer to publish all that was sent before and to say when it did.
pub(super) type Flush = oneshot::Sender<()>;

/// What the writer loop reads and writes.
#[derive(Debug)]
pub(super) struct WriterLoop {
    pub(super) index: Index,
    pub(super) writer: Writer,
    pub(super) events: mpsc::Receiver<Vec<Event>>,
    pub(super) flushes: mpsc::Receiver<Flush>,
    /// Gateway host names that the resolver is to keep resolved.
    pub(super) hostnames: watch::Sender<BTreeSet<Arc<str>>>,
    /// Least time between two publishes of configuration.
    pub(super) debounce: Duration,
}

impl WriterLoop {
    /// Runs until all sources are gone. A task like any other, so that a change
    /// gets from the watch to the streams without a change of threads; what
    /// takes long is done apart (ADR-0018).
    pub(super) async fn run(mut self) {
        let mut pace = Pace::new(self.debounce);
        while let Some(flush) = self.collect(&mut pace).await {
            self.publish(&mut pace);
            if let Some(flush) = flush {
                // The asker may have gone.
                let _ = flush.send(());
            }
        }
    }

    /// Takes events in until it is time to publish them, or until a flush is
    /// asked for. None when all sources are gone.
    async fn collect(&mut self, pace: &mut Pace) -> Option<Option<Flush>> {
        let mut oldest = None;
        loop {
            self.take_waiting();
            let pending = self.index.pending();
            let since = match pending {
                Pending::Nothing => Instant::now(),
                _ => *oldest.get_or_insert_with(Instant::now),
            };
            tokio::select! {
                biased;
                Some(flush) = self.flushes.recv() => {
                    self.take_waiting();
                    return Some(Some(flush));
                }
                () = pace.turn(pending, since) => return Some(None),
                events = self.events.recv() => self.take(events?),
            }
        }
    }

    /// Takes in what was sent already: it shares a publish.
    fn take_waiting(&mut self) {
        for _ in 0..BATCHES {
            let Ok(events) = self.events.try_recv() else {
                return;
            };
            self.take(events);
        }
    }

    fn take(&mut self, events: Vec<Event>) {
        let weight: usize = events.iter().map(weight).sum();
        apart(weight >= MANY, || self.index.take(events));
    }

    /// Publishes what was taken in, if it changes anything.
    fn publish(&mut self, pace: &mut Pace) {
        let started = Instant::now();
        let many = self.index.touched() >= MANY;
        let next = apart(many, || self.index.make_next());
        let wanted = self.index.hostnames_to_resolve();
        self.hostnames.send_if_modified(|held| {
            let differs = held != wanted;
            if differs {
                held.clone_from(wanted);
            }
            differs
        });
        let Some(snapshot) = next else { return };
        let changes = snapshot.changes();
        let config = changes.config || changes.all_endpoints;
        let read = apart(many || config, || {
            self.writer.publish(Arc::clone(&snapshot))
        });
        pace.published(read, config);
        let (generation, took) = (snapshot.generation().0, started.elapsed());
        let hosts = changes.hosts.len();
        if config {
            info!(generation, hosts, ?took, "published configuration");
        } else {
            debug!(generation, hosts, ?took, "published endpoints");
        }
    }
}

/// About how many objects an event is about.
fn weight(event: &Event) -> usize {
    match &event.change {
        Change::Reset(_, objects) => objects.len(),
        Change::ClusterRemoved => MANY,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
