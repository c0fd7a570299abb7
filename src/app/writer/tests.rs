use tokio::task::JoinSet;

use super::*;
use crate::mesh::{Change, Generation, SnapshotReader};
use crate::model::{ClusterId, Features, Object};
use crate::testing::world::service;

const DEBOUNCE: Duration = Duration::from_millis(10);

/// A writer loop on the paused clock.
struct Running {
    events: mpsc::Sender<Vec<Event>>,
    flushes: mpsc::Sender<Flush>,
    snapshots: SnapshotReader,
    wake: watch::Receiver<Generation>,
    _tasks: JoinSet<()>,
}

impl Running {
    fn start() -> Self {
        let (events, received) = mpsc::channel(16);
        let (flushes, asked) = mpsc::channel(1);
        let (writer, snapshots) = Writer::new();
        let wake = snapshots.changed();
        let run = WriterLoop {
            index: Index::new(ClusterId::from("c1"), Features::default()),
            writer,
            events: received,
            flushes: asked,
            hostnames: watch::channel(BTreeSet::new()).0,
            debounce: DEBOUNCE,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(run.run());
        Self {
            events,
            flushes,
            snapshots,
            wake,
            _tasks: tasks,
        }
    }

    async fn put(&self, name: &str) {
        let object = Object::from(service(name, &[("http", 80, 8080)]));
        let change = Change::Upsert(object);
        let event = Event {
            cluster: ClusterId::from("c1"),
            change,
        };
        self.events
            .send(vec![event])
            .await
            .expect("the writer runs");
    }

    fn knows(&self, name: &str) -> bool {
        let host = format!("{name}.default.svc.cluster.local");
        !self.snapshots.latest().host(&host).is_empty()
    }

    /// How long until the next publish.
    async fn published(&mut self) -> Duration {
        let since = Instant::now();
        self.wake.changed().await.expect("the writer runs");
        since.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_quiet_time_is_published_at_once() {
    let mut running = Running::start();
    running.put("a").await;
    assert_eq!(running.published().await, Duration::ZERO);
    assert!(running.knows("a"));
}

#[tokio::test(start_paused = true)]
async fn changes_close_together_share_a_publish() {
    let mut running = Running::start();
    running.put("a").await;
    running.published().await;
    running.put("b").await;
    running.put("c").await;
    let waited = running.published().await;
    assert!(
        waited >= DEBOUNCE / 2 && waited <= DEBOUNCE * 2,
        "{waited:?}"
    );
    assert!(running.knows("b") && running.knows("c"));
}

#[tokio::test(start_paused = true)]
async fn a_flush_publishes_what_was_sent_before_it() {
    let mut running = Running::start();
    running.put("a").await;
    running.published().await;
    running.put("b").await;
    let (flush, published) = oneshot::channel();
    running.flushes.send(flush).await.expect("the writer runs");
    published.await.expect("the writer answers");
    assert!(running.knows("b"));
}
