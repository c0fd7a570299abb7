use super::{collection::Collection, *};

const SHAPE: Shape = Shape {
    clusters: 2,
    namespaces: 2,
    services: 3,
    endpoints: 120,
    gateways: false,
};

fn cluster() -> Cluster {
    Cluster::new(SHAPE, 0, Vec::new())
}

fn put(cluster: &Cluster, service: u32, text: &str) -> Option<bytes::Bytes> {
    let object = Objects::manifests(SHAPE, 0).slice(service, 1, Some([240, 0, 0, 1].into()));
    let object = String::from_utf8(object).expect("text");
    let object = object.replace("240.0.0.1", text);
    cluster.put(3, serde_json::from_str(&object).expect("JSON"))
}

#[test]
fn paths_lead_to_kinds_and_slices() {
    for (path, expected) in [
        ("version", Place::Version),
        ("api/v1/pods", Place::Collection(Collection::Pods)),
        (
            "api/v1/namespaces/istio-system/secrets",
            Place::Collection(Collection::Secrets),
        ),
        (
            "api/v1/namespaces/istio-system/configmaps/isthmus-load",
            Place::Record,
        ),
        (
            "apis/discovery.k8s.io/v1/endpointslices",
            Place::Collection(Collection::Slices),
        ),
        (
            "apis/discovery.k8s.io/v1/namespaces/load-1/endpointslices/svc-1-0",
            Place::Slice {
                namespace: "load-1",
                name: "svc-1-0",
            },
        ),
        ("apis/apps/v1/deployments", Place::Unknown),
        ("api/v1/namespaces/load-1/pods", Place::Unknown),
        ("", Place::Unknown),
    ] {
        assert_eq!(Place::parse(path), expected, "{path}");
    }
}

#[test]
fn a_list_is_asked_for_by_pages_and_a_watch_from_a_version() {
    let page = Ask::parse("limit=500&continue=1000&labelSelector=a%3Db");
    assert_eq!(
        (page.limit, page.first, page.watch),
        (Some(500), 1000, false)
    );
    let watch =
        Ask::parse("watch=true&resourceVersion=7&timeoutSeconds=9&allowWatchBookmarks=true");
    assert_eq!((watch.version, watch.seconds), (Some(7), Some(9)));
    assert!(watch.watch && watch.bookmarks && !watch.initial);
    let any = Ask::parse("watch=1&resourceVersion=0&sendInitialEvents=true");
    assert!(any.watch && any.version.is_none() && any.initial);
}

#[test]
fn a_slice_is_found_by_its_name_where_it_is() {
    let cluster = cluster();
    assert_eq!(cluster.len(Collection::Slices), 6);
    assert_eq!(cluster.find("load-1", "svc-1-1"), Some(3));
    for (namespace, name) in [
        ("load-0", "svc-1-1"),
        ("load-1", "svc-1-2"),
        ("load-1", "svc-3-0"),
        ("load-1", "other"),
        ("load-1", "svc-1"),
    ] {
        assert_eq!(cluster.find(namespace, name), None, "{name}");
    }
}

#[test]
fn what_was_put_is_told_once_and_listed_from_then_on() {
    let cluster = cluster();
    let before = cluster.version();
    put(&cluster, 1, "240.0.0.9").expect("taken");
    let held = cluster.object(Collection::Slices, 3);
    let held = std::str::from_utf8(&held).expect("text");
    assert!(held.contains("240.0.0.9") && held.contains("\"resourceVersion\":\"1001\""));
    let (events, version) = cluster.events_after(before).expect("kept");
    assert_eq!(events.len(), 1);
    let line = std::str::from_utf8(&events[0]).expect("text");
    assert_eq!(
        line,
        format!("{{\"type\":\"MODIFIED\",\"object\":{held}}}\n")
    );
    assert!(cluster.events_after(version).expect("kept").0.is_empty());
}

#[test]
fn a_slice_of_another_name_is_refused() {
    let cluster = cluster();
    assert!(put(&cluster, 2, "240.0.0.9").is_none());
    assert!(cluster.put(3, json!([])).is_none());
    assert_eq!(cluster.version(), Objects::VERSION);
}

#[test]
fn only_so_many_events_are_kept() {
    let cluster = cluster();
    for _ in 0..1030 {
        put(&cluster, 1, "240.0.0.9").expect("taken");
    }
    assert!(cluster.events_after(1000).is_err());
    assert_eq!(cluster.events_after(1006).expect("kept").0.len(), 1024);
    assert!(cluster.events_after(9999).is_err(), "of another server");
}

#[test]
fn what_a_control_plane_writes_for_itself_is_kept() {
    let notes = notes::Notes::default();
    let all = "api/v1/namespaces/istio-system/configmaps";
    let lock = format!("{all}/lock");
    assert!(notes::are_kept(all) && notes::are_kept(&lock));
    assert!(!notes::are_kept("api/v1/namespaces/load-0/pods"));
    let missing = notes.ask(&Method::GET, &lock, Value::Null);
    assert_eq!(missing, Err(StatusCode::NOT_FOUND));
    let object = json!({"metadata": {"name": "lock"}, "data": {"a": "b"}});
    let made = notes.ask(&Method::POST, all, object.clone()).expect("made");
    let again = notes.ask(&Method::POST, all, object);
    assert_eq!(again, Err(StatusCode::CONFLICT));
    notes.ask(&Method::PUT, &lock, made.clone()).expect("won");
    // Who wrote it first with an old version has lost.
    let late = notes.ask(&Method::PUT, &lock, made);
    assert_eq!(late, Err(StatusCode::CONFLICT));
    let held = notes.ask(&Method::GET, &lock, Value::Null).expect("kept");
    assert_eq!(held["data"]["a"], "b");
}
