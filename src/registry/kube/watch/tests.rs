use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::manifest::Raw;
use crate::model::ClusterId;
use crate::registry::kube::status::{ClusterOrigin, ClusterStatus, SyncState, WatchState};

/// What the API server answers to one request.
#[derive(Clone)]
enum Reply {
    /// A refusal.
    Status(u16, &'static str),
    /// These lines, then the end.
    Ends(Vec<String>),
    /// These lines, then silence.
    Stays(Vec<String>),
}

/// Answers from a script and notes what was asked.
#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let reply = server.reply(&request.uri().to_string());
            async move { Ok::<_, Infallible>(reply) }
        });
        Client::new(service, "default")
    }

    fn reply(
        &self,
        uri: &str,
    ) -> Response<impl http_body::Body<Data = Bytes, Error = Infallible> + use<>> {
        self.asked.lock().push((Instant::now(), uri.to_owned()));
        let next = self.script.lock().pop_front();
        let (code, lines, stays) = match next.unwrap_or(Reply::Stays(Vec::new())) {
            Reply::Status(code, reason) => {
                let status = format!(
                    r#"{{"kind":"Status","status":"Failure","code":{code},"reason":"{reason}","message":"no"}}"#
                );
                (code, vec![status], false)
            }
            Reply::Ends(lines) => (200, lines, false),
            Reply::Stays(lines) => (200, lines, true),
        };
        let text = lines.join("\n") + "\n";
        let first = stream::iter([Ok(Frame::data(Bytes::from(text)))]);
        let rest = if stays {
            stream::pending().left_stream()
        } else {
            stream::empty().right_stream()
        };
        let response = Response::builder().status(code);
        response
            .body(StreamBody::new(first.chain(rest)))
            .expect("a response")
    }

    fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .iter()
            .map(|(_, uri)| uri.clone())
            .collect()
    }
}

/// Notes what it is told, one word each.
#[derive(Clone)]
struct Notes(Arc<Mutex<Vec<String>>>, Progress);

impl Notes {
    fn note(&self, what: &str, json: &str) {
        let name = Head::of(Raw::Json(json)).name.into_owned();
        self.0
            .lock()
            .push(format!("{what} {name}").trim().to_owned());
    }
}

impl Sink for Notes {
    fn begin(&mut self) {
        self.note("begin", "{}");
    }
    fn listed(&mut self, object: Raw<'_>) {
        self.note("listed", object.json());
    }
    async fn complete(&mut self) -> Result<(), Closed> {
        self.note("complete", "{}");
        self.1.listed(1);
        Ok(())
    }
    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        self.note("applied", object.json());
    }
    fn deleted(&mut self, object: Raw<'_>) {
        self.note("deleted", object.json());
    }
    async fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

struct Running {
    server: Server,
    notes: Notes,
    status: Arc<ClusterStatus>,
    _tasks: JoinSet<()>,
}

/// Watches with this script for `seconds`.
async fn watched(script: impl IntoIterator<Item = Reply>, seconds: u64) -> Running {
    let server = Server::default();
    server.script.lock().extend(script);
    let origin = ClusterOrigin {
        cluster: ClusterId::from("c"),
        source: Arc::from("test"),
        config: false,
        patience: None,
    };
    let status = ClusterStatus::new(origin, watch::Sender::default());
    status.joined();
    let progress = status.watch("pods");
    let notes = Notes(Arc::default(), progress.clone());
    let (client, mut sink) = (server.client(), notes.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let resource = Resource {
            version: "v1".to_owned(),
            plural: "pods".to_owned(),
            ..Resource::default()
        };
        Watch::new(&client, &resource, &progress, &mut sink)
            .run()
            .await;
    });
    sleep(Duration::from_secs(seconds)).await;
    Running {
        server,
        notes,
        status,
        _tasks: tasks,
    }
}

impl Running {
    fn noted(&self) -> Vec<String> {
        self.notes.0.lock().clone()
    }

    fn state(&self) -> WatchState {
        self.status.report().watches["pods"].state
    }
}

fn event(kind: &str, name: &str, version: u32) -> String {
    format!(
        r#"{{"type":"{kind}","object":{{"metadata":{{"name":"{name}","resourceVersion":"{version}"}}}}}}"#
    )
}

fn bookmark(version: u32, end: bool) -> String {
    let annotations = if end {
        r#","annotations":{"k8s.io/initial-events-end":"true"}"#
    } else {
        ""
    };
    format!(
        r#"{{"type":"BOOKMARK","object":{{"kind":"Pod","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"{annotations}}}}}}}"#
    )
}

fn page(names: &[&str], version: u32, next: &str) -> Reply {
    let items = names
        .iter()
        .map(|n| format!(r#"{{"metadata":{{"name":"{n}"}}}}"#));
    let items = items.collect::<Vec<_>>().join(",");
    Reply::Ends(vec![format!(
        r#"{{"kind":"PodList","metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#
    )])
}

fn listed(version: u32) -> Vec<String> {
    vec![event("ADDED", "a", 1), bookmark(version, true)]
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_goes_on_as_a_watch() {
    let mut lines = listed(7);
    lines.extend([
        event("MODIFIED", "a", 8),
        event("DELETED", "a", 9),
        bookmark(12, false),
    ]);
    let running = watched([Reply::Ends(lines)], 1).await;
    let expected = ["begin", "listed a", "complete", "applied a", "deleted a"];
    assert_eq!(running.noted(), expected);
    let asked = running.server.asked();
    assert!(asked[0].contains("sendInitialEvents=true"), "{asked:?}");
    // Cut: resumed at the last version, nothing listed anew.
    assert!(asked[1].ends_with("resourceVersion=12"), "{asked:?}");
    assert_eq!(running.state(), WatchState::Synced);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_is_listed_by_pages() {
    let script = [
        Reply::Status(422, "Invalid"),
        page(&["a", "b"], 5, "more"),
        page(&["c"], 5, ""),
        Reply::Stays(vec![event("ADDED", "d", 6)]),
    ];
    let running = watched(script, 1).await;
    let expected = [
        "begin",
        "listed a",
        "listed b",
        "listed c",
        "complete",
        "applied d",
    ];
    assert_eq!(running.noted(), expected);
    let asked = running.server.asked();
    assert!(asked[2].contains("continue=more"), "{asked:?}");
    assert!(asked[3].ends_with("resourceVersion=5"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ignores_the_end_mark_is_listed_by_pages() {
    let script = [
        Reply::Stays(vec![event("ADDED", "a", 1), bookmark(3, false)]),
        page(&["a"], 5, ""),
    ];
    let running = watched(script, 30).await;
    assert_eq!(
        running.noted(),
        ["begin", "listed a", "begin", "listed a", "complete"]
    );
    assert_eq!(running.state(), WatchState::Synced);
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_is_listed_again() {
    let expired = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}"#;
    let script = [
        Reply::Ends(listed(7)),
        Reply::Ends(vec![expired.to_owned()]),
        Reply::Stays(listed(90)),
    ];
    let running = watched(script, 5).await;
    let expected = [
        "begin", "listed a", "complete", "begin", "listed a", "complete",
    ];
    assert_eq!(running.noted(), expected);
    assert_eq!(running.state(), WatchState::Synced);
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_kind_counts_as_listed_and_is_asked_for_ever_less_often() {
    let script = std::iter::repeat_n(Reply::Status(403, "Forbidden"), 12);
    let running = watched(script.chain([Reply::Stays(listed(7))]), 20).await;
    assert_eq!(running.state(), WatchState::Forbidden);
    assert!(running.status.is_listed());
    assert!(running.server.asked().len() < 10);
    // Longer than twelve of the longest pauses, whatever the jitter.
    let end = Instant::now() + Duration::from_hours(12);
    while running.state() != WatchState::Synced && Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(running.state(), WatchState::Synced);
    assert!(running.noted().contains(&"complete".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_single_refusal_is_not_believed() {
    let script = [Reply::Status(403, "Forbidden"), Reply::Stays(listed(7))];
    let running = watched(script, 0).await;
    assert!(!running.status.is_listed());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.state(), WatchState::Synced);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_given_up_and_resumed_without_a_list() {
    let running = watched([Reply::Stays(listed(7))], 400).await;
    assert_eq!(running.noted(), ["begin", "listed a", "complete"]);
    let asked = running.server.asked();
    assert!(asked.len() >= 2, "{asked:?}");
    assert!(asked[1].ends_with("resourceVersion=7"), "{asked:?}");
    assert_eq!(running.state(), WatchState::Synced);
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_asked_ever_less_often_and_shown_as_stale() {
    let script = [Reply::Ends(listed(7))]
        .into_iter()
        .chain(std::iter::repeat_n(
            Reply::Status(500, "InternalError"),
            100,
        ));
    let running = watched(script, 120).await;
    assert!(matches!(running.status.sync(), SyncState::Stale { .. }));
    let error = running.status.report().error.expect("told");
    assert!(error.contains("500 InternalError"), "{error}");
    assert!(running.server.asked().len() < 20);
    assert_eq!(
        running.noted(),
        ["begin", "listed a", "complete"],
        "nothing is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_do_not_spin() {
    let script = [Reply::Ends(listed(7))]
        .into_iter()
        .chain(std::iter::repeat_n(Reply::Ends(Vec::new()), 1000));
    let running = watched(script, 60).await;
    assert!(
        running.server.asked().len() < 20,
        "{}",
        running.server.asked().len()
    );
}
