use tokio::sync::watch;

use super::*;
use crate::model::ClusterId;
use crate::registry::kube::status::{ClusterOrigin, ClusterStatus};

struct Fixture {
    sink: ObjectSink,
    events: mpsc::Receiver<Vec<Event>>,
    gate: Gate,
}

fn fixture(open: bool) -> Fixture {
    let origin = ClusterOrigin {
        cluster: ClusterId::from("c"),
        source: Arc::from("test"),
        config: true,
        patience: None,
    };
    let status = ClusterStatus::new(origin, watch::Sender::default());
    let (sender, events) = mpsc::channel(8);
    let gate = Gate::new(sender, open);
    let outlet = gate.outlet().clone();
    let sink = ObjectSink {
        kind: ObjectKind::DestinationRule,
        defaults: Defaults::default(),
        progress: status.watch("destinationrules"),
        metrics: KubeMetrics::default(),
        outlet,
        pending: Vec::new(),
        objects: 0,
        list: List::default(),
        known: Some(BTreeSet::new()),
    };
    Fixture { sink, events, gate }
}

fn rule(name: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}","namespace":"ns"}},"spec":{{"host":"h"}}}}"#)
}

fn broken(name: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}","namespace":"ns"}},"spec":{{"host":[]}}}}"#)
}

impl Fixture {
    async fn list(&mut self, objects: &[String]) -> Vec<String> {
        self.sink.begin();
        for json in objects {
            self.sink.listed(Raw::Json(json));
        }
        self.sink.complete().await.expect("sent");
        self.sent()
    }

    /// What was sent since the last time, a word for each change.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Ok(batch) = self.events.try_recv() {
            sent.extend(batch.into_iter().map(|event| match event.change {
                Change::Reset(_, objects) => {
                    let names = objects.iter().map(|o| o.meta().name.to_string());
                    format!("reset {}", names.collect::<Vec<_>>().join(" "))
                }
                Change::Upsert(object) => format!("upsert {}", object.meta().name),
                Change::Delete(key) => format!("delete {}", key.name),
                other => format!("{other:?}"),
            }));
        }
        sent
    }
}

#[tokio::test]
async fn a_list_is_one_reset_and_changes_follow() {
    let mut fixture = fixture(true);
    assert_eq!(fixture.list(&[rule("a"), rule("b")]).await, ["reset a b"]);
    fixture.sink.applied(Raw::Json(&rule("c")), true);
    fixture.sink.deleted(Raw::Json(&rule("a")));
    fixture.sink.flush().await.expect("sent");
    assert_eq!(fixture.sent(), ["upsert c", "delete a"]);
    assert_eq!(fixture.sink.objects, 2);
    assert_eq!(fixture.list(&[rule("b"), rule("c")]).await, ["reset b c"]);
}

#[tokio::test]
async fn the_last_good_version_of_a_broken_object_survives_a_relist() {
    let mut fixture = fixture(true);
    fixture.list(&[rule("a"), rule("b"), rule("c")]).await;
    fixture.sink.applied(Raw::Json(&broken("a")), false);
    fixture.sink.flush().await.expect("sent");
    assert_eq!(fixture.sent(), Vec::<String>::new());
    let relist = [broken("a"), rule("b"), broken("never-good")];
    assert_eq!(fixture.list(&relist).await, ["delete c", "upsert b"]);
    // And over the next one, until it is good again or gone.
    assert_eq!(fixture.list(&[broken("a")]).await, ["delete b"]);
    assert_eq!(fixture.list(&[rule("a")]).await, ["reset a"]);
    assert_eq!(fixture.list(&[]).await, ["reset "]);
}

#[tokio::test]
async fn a_held_back_cluster_is_synced_before_it_speaks() {
    let Fixture {
        mut sink,
        mut events,
        gate,
    } = fixture(false);
    sink.begin();
    sink.listed(Raw::Json(&rule("a")));
    let complete = async {
        sink.complete().await.expect("sent");
    };
    let mut complete = std::pin::pin!(complete);
    assert!(futures::poll!(complete.as_mut()).is_pending());
    assert!(events.try_recv().is_err());
    gate.open().await;
    complete.await;
    assert_eq!(events.try_recv().map(|batch| batch.len()), Ok(1));
}

#[tokio::test]
async fn what_a_cluster_held_back_is_said_in_one_batch_before_anything_newer() {
    let Fixture {
        mut sink,
        mut events,
        gate,
    } = fixture(false);
    let mut other = gate.outlet().clone();
    let event = sink.event(Change::Reset(ObjectKind::Service, Vec::new()));
    let newer = sink.event(Change::Reset(ObjectKind::Node, Vec::new()));
    sink.begin();
    let first = async { sink.complete().await.expect("sent") };
    let second = async {
        other.send_list(vec![event], || {}).await.expect("sent");
        other.send(vec![newer]).await.expect("sent");
    };
    let open = async {
        tokio::task::yield_now().await;
        gate.open().await;
    };
    tokio::join!(first, second, open);
    let batches: Vec<_> = std::iter::from_fn(|| events.try_recv().ok())
        .map(|batch| batch.len())
        .collect();
    assert_eq!(batches, [2, 1]);
}
