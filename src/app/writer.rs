//! The writer loop: events from all sources into the index, one publish a
//! batch.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{debug, info};

use self::pace::Pace;
use crate::mesh::{Event, Index, Pending, Writer};

mod pace;

/// Batches taken in before a look at what is due.
const BATCHES: usize = 4096;

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
    /// Runs on a thread of its own until all sources are gone: a storm of
    /// pushes on the runtime must not delay ingest (ADR-0011). `done` resolves
    /// when the thread ends, however it does.
    pub(super) fn spawn(self) -> std::io::Result<oneshot::Receiver<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (ended, done) = oneshot::channel();
        thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                let _ended = ended;
                runtime.block_on(self.run());
            })?;
        Ok(done)
    }

    async fn run(mut self) {
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
                events = self.events.recv() => self.index.take(events?),
            }
        }
    }

    /// Takes in what was sent already: it shares a publish.
    fn take_waiting(&mut self) {
        for _ in 0..BATCHES {
            let Ok(events) = self.events.try_recv() else {
                return;
            };
            self.index.take(events);
        }
    }

    /// Publishes what was taken in, if it changes anything.
    fn publish(&mut self, pace: &mut Pace) {
        let started = Instant::now();
        let next = self.index.make_next();
        self.hostnames.send_if_modified(|held| {
            let wanted = self.index.hostnames_to_resolve();
            let differs = *held != wanted;
            *held = wanted;
            differs
        });
        let Some(snapshot) = next else { return };
        let read = self.writer.publish(Arc::clone(&snapshot));
        let changes = snapshot.changes();
        let config = changes.config || changes.all_endpoints;
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

#[cfg(test)]
mod tests;
