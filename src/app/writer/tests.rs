use std::future::poll_fn;
use std::task::{Context, Waker};

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pace::LONGEST_WAIT;
use super::*;
use crate::mesh::{Change, SnapshotReader, Watcher};
use crate::model::{ClusterId, Features, Object};
use crate::testing::world::{service, slice};

const DEBOUNCE: Duration = Duration::from_millis(10);

/// The host name of service a.
const A: &str = "a.default.svc.cluster.local";

/// A writer loop on the paused clock.
struct Running {
    events: mpsc::Sender<Vec<Event>>,
    flushes: mpsc::Sender<Flush>,
    snapshots: SnapshotReader,
    /// Sees every publish that changes service a, or configuration.
    seen: Watcher,
    _tasks: JoinSet<()>,
}

impl Running {
    fn start() -> Self {
        let (events, received) = mpsc::channel(16);
        let (flushes, asked) = mpsc::channel(1);
        let (writer, snapshots) = Writer::new();
        let mut seen = snapshots.watch();
        seen.watch([A]);
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
            seen,
            _tasks: tasks,
        }
    }

    async fn put(&self, name: &str) {
        self.upsert(service(name, &[("http", 80, 8080)])).await;
    }

    /// Sets the addresses of service a.
    async fn endpoints(&self, addresses: &[&str]) {
        let bare: Vec<_> = addresses.iter().map(|ip| ("", *ip)).collect();
        let slice = slice("a", &[("http", 8080)], &bare);
        self.upsert(slice).await;
    }

    async fn upsert(&self, object: impl Into<Object>) {
        self.send(Change::Upsert(object.into())).await;
    }

    async fn send(&self, change: Change) {
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

    /// Waits until nothing is pending.
    async fn settle(&mut self) {
        let (flush, published) = oneshot::channel();
        self.flushes.send(flush).await.expect("the writer runs");
        published.await.expect("the writer answers");
        let mut cx = Context::from_waker(Waker::noop());
        let _ = self.seen.poll_news(&mut cx);
        self.seen.look_away();
    }

    /// A reader of service a that waits for news and never looks by itself.
    fn reader(&self) -> Watcher {
        let mut watcher = self.snapshots.watch();
        watcher.watch([A]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(watcher.poll_news(&mut cx).is_pending());
        watcher
    }

    /// How long until the next publish.
    async fn published(&mut self) -> Duration {
        let since = Instant::now();
        poll_fn(|cx| self.seen.poll_news(cx)).await;
        since.elapsed()
    }
}

fn read(watcher: &Watcher) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(watcher.poll_news(&mut cx).is_ready(), "something is told");
}

async fn settled() -> Running {
    let mut running = Running::start();
    running.put("a").await;
    running.endpoints(&["10.0.0.1"]).await;
    running.settle().await;
    running
}

#[tokio::test(start_paused = true)]
async fn endpoints_wait_until_the_publish_before_was_read_and_for_no_clock() {
    let mut running = settled().await;
    let reader = running.reader();
    running.endpoints(&["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(running.published().await, Duration::ZERO);
    running
        .endpoints(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])
        .await;
    let early = timeout(LONGEST_WAIT / 2, running.published()).await;
    assert!(early.is_err(), "published before it was read");
    read(&reader);
    assert_eq!(running.published().await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_stuck_holds_up_one_publish() {
    let mut running = settled().await;
    let _stuck = running.reader();
    running.endpoints(&["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(running.published().await, Duration::ZERO);
    running
        .endpoints(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])
        .await;
    let waited = running.published().await;
    assert!(
        waited >= LONGEST_WAIT && waited < LONGEST_WAIT * 2,
        "{waited:?}"
    );
    running
        .endpoints(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"])
        .await;
    assert_eq!(running.published().await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_removal_waits_for_nobody() {
    let mut running = settled().await;
    let _stuck = running.reader();
    running.endpoints(&["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(running.published().await, Duration::ZERO);
    running.endpoints(&["10.0.0.1"]).await;
    assert_eq!(running.published().await, Duration::ZERO);
    let service = Object::from(service("a", &[("http", 80, 8080)]));
    running.send(Change::Delete(service.key())).await;
    assert_eq!(running.published().await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_quiet_time_is_published_at_once() {
    let mut running = Running::start();
    running.put("a").await;
    assert_eq!(running.published().await, Duration::ZERO);
    assert!(running.knows("a"));
}

#[tokio::test(start_paused = true)]
async fn changes_of_configuration_close_together_share_a_publish() {
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

#[tokio::test(start_paused = true)]
async fn who_follows_configuration_sleeps_while_endpoints_change() {
    let mut running = settled().await;
    let mut config = running.snapshots.config_changed();
    config.mark_unchanged();
    running.endpoints(&["10.0.0.1", "10.0.0.2"]).await;
    running.published().await;
    assert!(!config.has_changed().expect("the writer runs"));
    running.put("b").await;
    running.published().await;
    assert!(config.has_changed().expect("the writer runs"));
}
