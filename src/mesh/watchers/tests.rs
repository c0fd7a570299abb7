use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Waker,
};

use proptest::prelude::*;

use super::*;
use crate::mesh::{Read, SnapshotReader, Update, Writer};
use crate::testing::ads_world::{config_change, endpoint_change};

struct Mesh {
    writer: Writer,
    snapshots: SnapshotReader,
}

impl Mesh {
    fn new() -> Self {
        let (writer, snapshots) = Writer::new();
        Self { writer, snapshots }
    }

    fn publish(&self, changes: ChangeSet) -> Read {
        let next = self.snapshots.latest().next(Update {
            changes,
            ..Update::default()
        });
        self.writer.publish(next.into())
    }

    fn watching(&self, names: &[&str]) -> Watcher {
        let mut watcher = self.snapshots.watch();
        watcher.watch(names.iter().copied());
        assert_eq!(news(&watcher), None);
        watcher
    }
}

fn news(watcher: &Watcher) -> Option<News> {
    let mut cx = Context::from_waker(Waker::noop());
    match watcher.poll_news(&mut cx) {
        Poll::Ready(news) => Some(news),
        Poll::Pending => None,
    }
}

fn names(watcher: &Watcher) -> Vec<String> {
    let news = news(watcher).unwrap_or_default();
    assert!(!news.config && !news.all_endpoints);
    news.names.iter().map(ToString::to_string).collect()
}

fn pod(name: &str) -> PodKey {
    PodKey {
        cluster: "c1".into(),
        namespace: "default".into(),
        name: name.into(),
    }
}

fn is_read(read: &mut Read) -> bool {
    read.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Closed)
}

/// Says that answers differ for all names but one, and counts how often it is
/// asked.
struct Blind {
    to: &'static str,
    asked: AtomicUsize,
}

impl Lens for Blind {
    fn differs(&self, name: &Arc<str>, old: &Arc<Snapshot>, new: &Arc<Snapshot>) -> bool {
        assert_eq!(old.generation().0 + 1, new.generation().0);
        self.asked.fetch_add(1, Ordering::Relaxed);
        **name != *self.to
    }
}

fn blind(to: &'static str) -> Arc<Blind> {
    let asked = AtomicUsize::new(0);
    Arc::new(Blind { to, asked })
}

#[test]
fn only_those_who_watch_a_name_of_a_changed_host_are_told() {
    let mesh = Mesh::new();
    let all = [
        "outbound|80||a",
        "outbound|80|v1|a",
        "outbound_.80_._.a",
        "a",
        "outbound|80||x",
    ];
    let (a, b) = (mesh.watching(&all), mesh.watching(&["outbound|80||b"]));
    mesh.publish(endpoint_change(&["a", "c"]));
    let mut expected = all[..4].to_vec();
    expected.sort_unstable();
    assert_eq!(names(&a), expected);
    assert_eq!(news(&b), None);
    assert_eq!(news(&a), None, "told once");
}

#[test]
fn only_those_whose_view_of_it_differs_are_told() {
    let mesh = Mesh::new();
    let lenses = [blind("outbound|80||a"), blind("")];
    let watchers: Vec<_> = (0..6)
        .map(|n| {
            let watcher = mesh.watching(&["outbound|80||a", "outbound|81||a"]);
            watcher.look_through(Arc::clone(&lenses[n % 2]) as Arc<dyn Lens>);
            watcher
        })
        .collect();
    mesh.publish(endpoint_change(&["a"]));
    for (n, watcher) in watchers.iter().enumerate() {
        let all: &[&str] = &["outbound|80||a", "outbound|81||a"];
        assert_eq!(names(watcher), all[1 - n % 2..], "{n}");
    }
    let asked = lenses.map(|lens| lens.asked.load(Ordering::Relaxed));
    assert_eq!(asked, [2, 2], "once for each name and class");
}

#[test]
fn a_storm_is_told_without_a_look() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&["a"]);
    watcher.look_through(blind("a"));
    let hosts: Vec<String> = (0..100).map(|n| format!("h{n}")).collect();
    let hosts = hosts.iter().map(String::as_str).chain(["a"]);
    mesh.publish(endpoint_change(&hosts.collect::<Vec<_>>()));
    assert_eq!(names(&watcher), ["a"]);
}

#[test]
fn a_name_that_is_dropped_is_not_told() {
    let mesh = Mesh::new();
    let mut watcher = mesh.watching(&["a", "a", "b"]);
    watcher.unwatch(["a", "never watched"]);
    mesh.publish(endpoint_change(&["a", "b"]));
    assert_eq!(names(&watcher), ["b"]);
}

#[test]
fn configuration_is_told_to_everyone() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&[]);
    mesh.publish(config_change());
    let told = news(&watcher).expect("news");
    assert!(told.config && told.name_tables && !told.all_endpoints);
}

#[test]
fn a_change_of_the_own_pod_means_everything() {
    let mesh = Mesh::new();
    let (mut own, mut other) = (mesh.watching(&[]), mesh.watching(&[]));
    own.watch_pod(pod("web-1"));
    other.watch_pod(pod("web-2"));
    let mut changes = ChangeSet::default();
    changes.workloads.insert(pod("web-1"));
    mesh.publish(changes);
    assert_eq!(news(&own), Some(News::own()));
    assert_eq!(news(&other), None);
}

#[test]
fn news_that_wait_are_a_set() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&["a", "b"]);
    for _ in 0..1000 {
        mesh.publish(endpoint_change(&["a", "b"]));
    }
    assert_eq!(names(&watcher), ["a", "b"]);
    mesh.publish(endpoint_change(&["a"]));
    mesh.publish(ChangeSet {
        all_endpoints: true,
        ..ChangeSet::default()
    });
    mesh.publish(endpoint_change(&["b"]));
    let told = news(&watcher).expect("news");
    assert!(told.all_endpoints);
    assert_eq!(told.names.len(), 2);
}

#[test]
fn generations_that_were_left_out_mean_everything() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&[]);
    let next = mesh.snapshots.latest().next(Update::default());
    mesh.writer.publish(next.next(Update::default()).into());
    assert_eq!(news(&watcher), Some(News::own()));
}

#[test]
fn a_publish_is_read_when_all_whom_it_woke_have_looked() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.watching(&["a"]), mesh.watching(&["a"]));
    let _bystander = mesh.watching(&["b"]);
    let mut read = mesh.publish(endpoint_change(&["a"]));
    news(&a);
    assert!(!is_read(&mut read));
    drop(b);
    assert!(is_read(&mut read));
    assert!(is_read(&mut mesh.publish(endpoint_change(&["nobody's"]))));
}

#[test]
fn who_does_not_read_holds_up_one_publish_only() {
    let mesh = Mesh::new();
    let (_stuck, reader) = (mesh.watching(&["a"]), mesh.watching(&["a"]));
    assert!(!is_read(&mut mesh.publish(endpoint_change(&["a"]))));
    let _first = news(&reader);
    let mut second = mesh.publish(endpoint_change(&["a"]));
    news(&reader);
    assert!(is_read(&mut second));
}

#[test]
fn nobody_waits_for_who_does_not_wait_for_news() {
    let mesh = Mesh::new();
    let (busy, waiting) = (mesh.watching(&["a"]), mesh.watching(&["a"]));
    busy.look_away();
    let mut read = mesh.publish(endpoint_change(&["a"]));
    assert!(!is_read(&mut read));
    assert!(news(&waiting).is_some());
    assert!(is_read(&mut read));
    // It is told all the same.
    assert_eq!(names(&busy), ["a"]);
}

#[test]
fn who_leaves_leaves_nothing_behind() {
    let mesh = Mesh::new();
    let mut watcher = mesh.watching(&["a", "b"]);
    watcher.watch_pod(pod("web-1"));
    let all = Arc::clone(&watcher.all);
    drop(watcher);
    let table = all.0.lock();
    assert!(table.readers.is_empty() && table.names.is_empty());
    assert!(table.ids.is_empty() && table.of_host.is_empty() && table.pods.is_empty());
}

proptest! {
    #[test]
    fn readers_hear_of_what_they_watch_and_of_nothing_else(
        steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..3_u8), 0..60),
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mesh = Mesh::new();
        let mut watchers = [mesh.watching(&[]), mesh.watching(&[]), mesh.watching(&[])];
        let mut watched = [[false; 4]; 3];
        for (reader, host, act) in steps {
            match act {
                0 => {
                    watchers[reader].watch([NAMES[host]]);
                    watched[reader][host] = true;
                }
                1 => {
                    watchers[reader].unwatch([NAMES[host]]);
                    watched[reader][host] = false;
                }
                _ => {
                    mesh.publish(endpoint_change(&[NAMES[host]]));
                    for (watcher, watched) in watchers.iter().zip(&watched) {
                        let expected: &[&str] = if watched[host] { &[NAMES[host]] } else { &[] };
                        prop_assert_eq!(names(watcher), expected);
                    }
                }
            }
        }
    }
}
