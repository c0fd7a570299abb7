//! Tells a session what changes, as far as it watches it: the real watchers
//! without a stream.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::ads::Session;
use crate::mesh::{ChangeSet, PodKey, SnapshotReader, Update, Watcher, Writer};

/// What stands between a writer and one session.
#[derive(Debug)]
pub struct Told {
    writer: Writer,
    snapshots: SnapshotReader,
    watcher: Watcher,
    knows_pod: bool,
}

impl Default for Told {
    fn default() -> Self {
        let (writer, snapshots) = Writer::new();
        Self {
            watcher: snapshots.watch(),
            writer,
            snapshots,
            knows_pod: false,
        }
    }
}

impl Told {
    /// Watches what the session's last request asked for.
    pub fn follow(&mut self, session: &mut Session) {
        if let Some(proxy) = session.proxy().filter(|_| !self.knows_pod) {
            self.watcher.watch_pod(PodKey::of(proxy));
            self.knows_pod = true;
        }
        let watches = session.take_watches();
        let of = |on| watches.iter().filter(move |w| w.on == on).map(|w| &*w.name);
        self.watcher.watch(of(true));
        self.watcher.unwatch(of(false));
    }

    /// Publishes `changes` and tells the session of them.
    pub fn tell(&self, session: &mut Session, changes: ChangeSet) {
        let next = self.snapshots.latest().next(Update {
            changes,
            ..Update::default()
        });
        self.writer.publish(Arc::new(next));
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(news) = self.watcher.poll_news(&mut cx) {
            session.on_news(&news);
        }
    }
}
