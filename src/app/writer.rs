//! The writer loop: events from all sources into the index, one publish a
//! batch.

use std::{collections::BTreeSet, sync::Arc, thread, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use crate::mesh::{Changes, Event, Index, Writer};

/// Batches taken into one publish; a source that sends more waits.
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
    /// Least time between two publishes.
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
        let mut quiet_until = Instant::now();
        while let Some((batch, flushes)) = self.collect(quiet_until).await {
            if self.publish(batch) {
                quiet_until = Instant::now() + self.debounce;
            }
            for flush in flushes {
                // The asker may have gone.
                let _ = flush.send(());
            }
        }
    }

    /// The next batch: at once after a quiet time, else when `quiet_until` is
    /// over or a flush is asked for. None when all sources are gone.
    async fn collect(&mut self, quiet_until: Instant) -> Option<(Vec<Vec<Event>>, Vec<Flush>)> {
        let (mut batch, mut flushes) = (Vec::new(), Vec::new());
        tokio::select! {
            received = self.events.recv_many(&mut batch, BATCHES) => {
                if received == 0 {
                    return None;
                }
            }
            Some(flush) = self.flushes.recv() => flushes.push(flush),
        }
        while flushes.is_empty() && batch.len() < BATCHES && Instant::now() < quiet_until {
            let room = BATCHES - batch.len();
            tokio::select! {
                () = sleep_until(quiet_until) => break,
                received = self.events.recv_many(&mut batch, room) => {
                    if received == 0 {
                        break;
                    }
                }
                Some(flush) = self.flushes.recv() => flushes.push(flush),
            }
        }
        while let Ok(more) = self.events.try_recv() {
            batch.push(more);
        }
        Some((batch, flushes))
    }

    /// Applies and publishes; false where nothing changed.
    fn publish(&mut self, batch: Vec<Vec<Event>>) -> bool {
        let started = Instant::now();
        let before = self.index.snapshot().generation();
        let next = self.index.apply(batch.into_iter().flatten());
        let wanted = self.index.hostnames_to_resolve();
        self.hostnames.send_if_modified(|held| {
            let differs = held != wanted;
            if differs {
                held.clone_from(wanted);
            }
            differs
        });
        let Some(snapshot) = next else { return false };
        let changes = snapshot.changes_since(before);
        let generation = snapshot.generation().0;
        self.writer.publish(snapshot);
        let took = started.elapsed();
        match changes {
            Changes::Since(set) if !set.config && !set.all_endpoints => {
                debug!(
                    generation,
                    hosts = set.hosts.len(),
                    ?took,
                    "published endpoints"
                );
            }
            Changes::Since(set) => {
                info!(
                    generation,
                    hosts = set.hosts.len(),
                    ?took,
                    "published configuration"
                );
            }
            Changes::Nothing | Changes::Unknown => debug!(generation, ?took, "published"),
        }
        true
    }
}

#[cfg(test)]
mod tests;
