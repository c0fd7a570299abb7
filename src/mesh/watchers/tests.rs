use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use crate::mesh::{ChangeSet, News, PodKey, Read, SnapshotReader, Update, Watcher, Writer};
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

    fn watching(&self, hosts: &[&str]) -> Watcher {
        let mut watcher = self.snapshots.watch();
        watcher.watch(hosts.iter().copied());
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

fn hosts(watcher: &Watcher) -> Vec<String> {
    let news = news(watcher).unwrap_or_default();
    assert!(!news.config && !news.all_endpoints);
    news.hosts.iter().map(ToString::to_string).collect()
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

#[test]
fn only_those_who_watch_a_changed_host_are_told() {
    let mesh = Mesh::new();
    let (a, b) = (mesh.watching(&["a", "x"]), mesh.watching(&["b"]));
    mesh.publish(endpoint_change(&["a", "c"]));
    assert_eq!(hosts(&a), ["a"]);
    assert_eq!(news(&b), None);
    assert_eq!(news(&a), None, "told once");
}

#[test]
fn a_host_is_watched_until_its_last_name_is_gone() {
    let mesh = Mesh::new();
    let mut watcher = mesh.watching(&["a", "a"]);
    watcher.unwatch(["a", "never watched"]);
    mesh.publish(endpoint_change(&["a"]));
    assert_eq!(hosts(&watcher), ["a"]);
    watcher.unwatch(["a"]);
    mesh.publish(endpoint_change(&["a"]));
    assert_eq!(news(&watcher), None);
}

#[test]
fn configuration_is_told_to_everyone() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&[]);
    mesh.publish(config_change());
    let told = news(&watcher).expect("news");
    assert!(told.config && told.names && !told.all_endpoints);
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
    assert_eq!(news(&own), Some(News::everything()));
    assert_eq!(news(&other), None);
}

#[test]
fn news_that_wait_are_a_set() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&["a", "b"]);
    for _ in 0..1000 {
        mesh.publish(endpoint_change(&["a", "b"]));
    }
    assert_eq!(hosts(&watcher), ["a", "b"]);
    mesh.publish(endpoint_change(&["a"]));
    mesh.publish(ChangeSet {
        all_endpoints: true,
        ..ChangeSet::default()
    });
    mesh.publish(endpoint_change(&["b"]));
    let told = news(&watcher).expect("news");
    assert!(told.all_endpoints && told.hosts.is_empty());
}

#[test]
fn generations_that_were_left_out_mean_everything() {
    let mesh = Mesh::new();
    let watcher = mesh.watching(&[]);
    let next = mesh.snapshots.latest().next(Update::default());
    mesh.writer.publish(next.next(Update::default()).into());
    assert_eq!(news(&watcher), Some(News::everything()));
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
fn who_leaves_leaves_nothing_behind() {
    let mesh = Mesh::new();
    let mut watcher = mesh.watching(&["a", "b"]);
    watcher.watch_pod(pod("web-1"));
    let all = std::sync::Arc::clone(&watcher.all);
    drop(watcher);
    let table = all.0.lock();
    assert!(table.inboxes.is_empty() && table.hosts.is_empty());
    assert!(table.ids.is_empty() && table.pods.is_empty());
}

proptest! {
    #[test]
    fn readers_hear_of_what_they_watch_and_of_nothing_else(
        steps in prop::collection::vec((0..3_usize, 0..4_usize, 0..3_u8), 0..60),
    ) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mesh = Mesh::new();
        let mut watchers = [mesh.watching(&[]), mesh.watching(&[]), mesh.watching(&[])];
        let mut names = [[0_u32; 4]; 3];
        for (reader, host, act) in steps {
            let count = &mut names[reader][host];
            match act {
                0 => {
                    watchers[reader].watch([NAMES[host]]);
                    *count += 1;
                }
                1 => {
                    watchers[reader].unwatch([NAMES[host]]);
                    *count = count.saturating_sub(1);
                }
                _ => {
                    mesh.publish(endpoint_change(&[NAMES[host]]));
                    for (watcher, names) in watchers.iter().zip(&names) {
                        let expected: &[&str] = if names[host] > 0 { &[NAMES[host]] } else { &[] };
                        prop_assert_eq!(hosts(watcher), expected);
                    }
                }
            }
        }
    }
}
