use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::{
    sync::{mpsc::Receiver, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::manifest::{MCS_GROUP, MCS_VERSION};
use crate::model::{Object, ObjectKind};

/// A file source at work on a folder.
struct Source {
    events: Receiver<Vec<Event>>,
    output: Output,
    tasks: JoinSet<Result<Infallible, FileSourceError>>,
}

impl Source {
    fn idle() -> Self {
        let (sender, events) = mpsc::channel(16);
        Self {
            events,
            output: Output {
                kinds: Kind::all((MCS_GROUP, MCS_VERSION)),
                features: Features::default(),
                defaults: Defaults::default(),
                events: sender,
                refused: Counter::default(),
            },
            tasks: JoinSet::new(),
        }
    }

    fn of(folder: &Path, is_config: bool) -> Self {
        let mut source = Self::idle();
        let dir = dir(folder, is_config);
        let output = source.output.clone();
        source.tasks.spawn(follow_cluster(dir, output, || ()));
        source
    }

    /// The next batch of changes.
    async fn next(&mut self) -> Vec<Change> {
        let batch = timeout(Duration::from_secs(20), self.events.recv()).await;
        let batch = batch.expect("a change arrives").expect("the source lives");
        batch.into_iter().map(|event| event.change).collect()
    }

    /// Takes batches until one says that `kind` has exactly `names`.
    async fn until(&mut self, kind: ObjectKind, names: &[&str]) {
        loop {
            let changes = self.next().await;
            if resets(&changes)
                .get(&kind)
                .is_some_and(|found| *found == names)
            {
                return;
            }
        }
    }
}

fn dir(folder: &Path, is_config: bool) -> ClusterDir {
    ClusterDir {
        cluster: ClusterId::from("c1"),
        folder: folder.to_owned(),
        is_config,
        mesh_map: MeshMap {
            namespace: Namespace::from("istio-system"),
            name: "istio".to_owned(),
            mesh: true,
            networks: true,
        },
    }
}

/// Names by kind.
fn resets(changes: &[Change]) -> BTreeMap<ObjectKind, Vec<&str>> {
    let resets = changes.iter().filter_map(|change| match change {
        Change::Reset(kind, objects) => {
            Some((*kind, objects.iter().map(|o| &*o.meta().name).collect()))
        }
        _ => None,
    });
    resets.collect()
}

fn namespaces(names: &[&str]) -> String {
    let one =
        |name: &&str| format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    names.iter().map(one).collect()
}

fn write(folder: &TempDir, file: &str, text: &str) {
    fs::write(folder.path().join(file), text).expect("written");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

const RULE: &str = "
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: r, namespace: a}
spec: {host: web}
";

#[tokio::test]
async fn at_first_every_kind_that_is_read_is_told() {
    let folder = folder();
    write(&folder, "a.yaml", &namespaces(&["a", "b"]));
    write(&folder, "b.yml", RULE);
    write(&folder, "notes.txt", "no manifest");
    let changes = Source::of(folder.path(), true).next().await;
    let told = resets(&changes);
    assert_eq!(told[&ObjectKind::Namespace], ["a", "b"]);
    assert_eq!(told[&ObjectKind::DestinationRule], ["r"]);
    assert_eq!(told[&ObjectKind::Pod], [""; 0]);
    assert!(!told.contains_key(&ObjectKind::ServiceExport));
    let mesh = changes
        .iter()
        .filter(|c| matches!(c, Change::MeshConfig(_) | Change::MeshNetworks(_)));
    assert_eq!(mesh.count(), 2);
}

#[tokio::test]
async fn istio_config_counts_in_the_config_cluster_only() {
    let folder = folder();
    write(&folder, "a.yaml", RULE);
    let changes = Source::of(folder.path(), false).next().await;
    assert!(!resets(&changes).contains_key(&ObjectKind::DestinationRule));
    assert!(!changes.iter().any(|c| matches!(c, Change::MeshConfig(_))));
}

#[tokio::test]
async fn a_change_tells_the_kinds_that_differ() {
    let folder = folder();
    write(
        &folder,
        "a.yaml",
        &format!("{}{}", namespaces(&["a"]), format_args!("---{RULE}")),
    );
    let mut source = Source::of(folder.path(), true);
    source.next().await;
    write(
        &folder,
        "a.yaml",
        &format!("{}{}", namespaces(&["b"]), format_args!("---{RULE}")),
    );
    let changes = source.next().await;
    assert_eq!(
        resets(&changes),
        BTreeMap::from([(ObjectKind::Namespace, vec!["b"])])
    );
    assert_eq!(changes.len(), 1);
}

#[tokio::test]
async fn files_may_be_replaced_removed_and_put_into_new_folders() {
    let folder = folder();
    write(&folder, "a.yaml", &namespaces(&["a"]));
    let mut source = Source::of(folder.path(), true);
    source.next().await;
    write(&folder, ".a.yaml.swp", &namespaces(&["b"]));
    fs::rename(
        folder.path().join(".a.yaml.swp"),
        folder.path().join("a.yaml"),
    )
    .expect("renamed");
    source.until(ObjectKind::Namespace, &["b"]).await;
    fs::create_dir_all(folder.path().join("deep/er")).expect("made");
    write(&folder, "deep/er/c.yaml", &namespaces(&["c"]));
    source.until(ObjectKind::Namespace, &["b", "c"]).await;
    write(&folder, "deep/er/c.yaml", &namespaces(&["d"]));
    source.until(ObjectKind::Namespace, &["b", "d"]).await;
    fs::remove_file(folder.path().join("a.yaml")).expect("removed");
    source.until(ObjectKind::Namespace, &["d"]).await;
    fs::remove_dir_all(folder.path().join("deep")).expect("removed");
    source.until(ObjectKind::Namespace, &[]).await;
}

#[tokio::test]
async fn of_two_objects_with_one_name_the_first_counts() {
    let folder = folder();
    write(&folder, "a.yaml", &namespaces(&["a"]));
    write(&folder, "b.yaml", &namespaces(&["a"]));
    let mut source = Source::of(folder.path(), true);
    assert_eq!(resets(&source.next().await)[&ObjectKind::Namespace], ["a"]);
    assert_eq!(source.output.refused.get(), 1);
    write(&folder, "b.yaml", &namespaces(&["b", "a"]));
    source.until(ObjectKind::Namespace, &["a", "b"]).await;
    assert_eq!(source.output.refused.get(), 1);
}

/// Kubernetes mounts a `ConfigMap` so: files link into a hidden folder that is
/// itself a link, and an update swaps that one link.
#[tokio::test]
async fn a_mounted_config_map_is_followed() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    for (version, name) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(path(version)).expect("made");
        write(&folder, &format!("{version}/m.yaml"), &namespaces(&[name]));
    }
    symlink("..1", path("..data")).expect("linked");
    symlink("..data/m.yaml", path("m.yaml")).expect("linked");
    let mut source = Source::of(folder.path(), true);
    assert_eq!(resets(&source.next().await)[&ObjectKind::Namespace], ["a"]);
    symlink("..2", path("..data_tmp")).expect("linked");
    fs::rename(path("..data_tmp"), path("..data")).expect("swapped");
    source.until(ObjectKind::Namespace, &["b"]).await;
}

#[tokio::test]
async fn a_folder_that_is_swapped_is_followed() {
    let outer = folder();
    let path = |name: &str| outer.path().join(name);
    for name in ["v1", "v2"] {
        fs::create_dir(path(name)).expect("made");
        write(&outer, &format!("{name}/m.yaml"), &namespaces(&[name]));
    }
    symlink("v1", path("now")).expect("linked");
    let mut source = Source::of(&path("now"), true);
    assert_eq!(resets(&source.next().await)[&ObjectKind::Namespace], ["v1"]);
    symlink("v2", path("next")).expect("linked");
    fs::rename(path("next"), path("now")).expect("swapped");
    source.until(ObjectKind::Namespace, &["v2"]).await;
    write(&outer, "v2/m.yaml", &namespaces(&["v3"]));
    source.until(ObjectKind::Namespace, &["v3"]).await;
}

#[tokio::test]
async fn what_cannot_be_read_keeps_its_last_good_state() {
    let folder = folder();
    write(&folder, "a.yaml", &namespaces(&["a", "b"]));
    write(&folder, "b.yaml", RULE);
    let mut source = Source::of(folder.path(), true);
    source.next().await;
    // Not YAML: no object of the file may be lost, new ones count.
    write(
        &folder,
        "a.yaml",
        &format!("{}---\n{{oh: [\n", namespaces(&["c"])),
    );
    source.until(ObjectKind::Namespace, &["a", "b", "c"]).await;
    assert_eq!(source.output.refused.get(), 1);
    // An object without host is refused alone, and stays.
    write(
        &folder,
        "b.yaml",
        "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r, namespace: a}}",
    );
    write(&folder, "a.yaml", &namespaces(&["c"]));
    let changes = source.next().await;
    assert_eq!(
        resets(&changes),
        BTreeMap::from([(ObjectKind::Namespace, vec!["c"])])
    );
    assert_eq!(source.output.refused.get(), 2);
}

#[tokio::test]
async fn a_file_counts_once_its_writer_is_done() {
    use std::io::Write;
    let folder = folder();
    write(&folder, "a.yaml", &namespaces(&["a", "b"]));
    let mut source = Source::of(folder.path(), true);
    source.next().await;
    let mut file = fs::File::create(folder.path().join("a.yaml")).expect("opened");
    file.write_all(namespaces(&["a"]).as_bytes())
        .expect("written");
    // Another change makes the folder be read while the writer is half done.
    write(&folder, "b.yaml", &namespaces(&["c"]));
    source.until(ObjectKind::Namespace, &["a", "b", "c"]).await;
    file.write_all(namespaces(&["d"]).as_bytes())
        .expect("written");
    drop(file);
    source.until(ObjectKind::Namespace, &["a", "c", "d"]).await;
}

#[tokio::test]
async fn mesh_settings_come_from_their_config_map() {
    let folder = folder();
    let map = |mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data:\n  mesh: '{mesh}'\n  meshNetworks: 'networks: {{n1: {{}}}}'\n"
        )
    };
    write(&folder, "map.yaml", &map("trustDomain: td"));
    let mut source = Source::of(folder.path(), true);
    let mut remote = Source::of(folder.path(), false);
    let first = source.next().await;
    let trust = |changes: &[Change]| {
        let found = changes.iter().find_map(|change| match change {
            Change::MeshConfig(mesh) => Some(mesh.trust_domain.to_string()),
            Change::TrustDomain(domain) => domain.as_ref().map(ToString::to_string),
            _ => None,
        });
        found.unwrap_or_default()
    };
    assert_eq!(trust(&first), "td");
    assert_eq!(trust(&remote.next().await), "td");
    write(&folder, "map.yaml", &map("connectTimeout: soon"));
    write(&folder, "map.yaml", &map("trustDomain: td2"));
    // Only what is new is told, and what is wrong is not.
    let changes = source.next().await;
    assert_eq!((trust(&changes).as_str(), changes.len()), ("td2", 1));
    fs::remove_file(folder.path().join("map.yaml")).expect("removed");
    let changes = source.next().await;
    assert_eq!(
        (trust(&changes).as_str(), changes.len()),
        ("cluster.local", 2)
    );
}

#[tokio::test]
async fn a_settings_file_is_followed() {
    let folder = folder();
    write(&folder, "mesh", "rootNamespace: one");
    let mut source = Source::idle();
    let path = folder.path().join("mesh");
    let output = source.output.clone();
    let (synced, is_synced) = oneshot::channel();
    source.tasks.spawn(async move {
        let cluster = ClusterId::from("c1");
        let synced = || {
            let _ = synced.send(());
        };
        follow_settings(SettingsFile::MeshConfig, &path, cluster, output, synced).await
    });
    let root = |changes: Vec<Change>| match &changes[..] {
        [Change::MeshConfig(mesh)] => mesh.root_namespace.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(root(source.next().await), "one");
    is_synced.await.expect("synced");
    write(&folder, "mesh", "rootNamespace: [");
    write(&folder, "mesh", "rootNamespace: two");
    assert_eq!(root(source.next().await), "two");
    write(&folder, "mesh.new", "rootNamespace: three");
    fs::rename(folder.path().join("mesh.new"), folder.path().join("mesh")).expect("renamed");
    assert_eq!(root(source.next().await), "three");
}

#[tokio::test]
async fn what_is_missing_or_wrong_at_start_is_an_error() {
    let source = Source::idle();
    let dir = dir(Path::new("/nowhere/at/all"), true);
    let Err(error) = follow_cluster(dir, source.output.clone(), || ()).await;
    assert!(
        error
            .to_string()
            .starts_with("cannot read /nowhere/at/all: "),
        "{error}"
    );
    let folder = folder();
    write(&folder, "networks", "n: {gateways: [{address: 1.2.3.4}]}");
    let path = folder.path().join("networks");
    let follow = follow_settings(
        SettingsFile::MeshNetworks,
        &path,
        ClusterId::from("c1"),
        source.output.clone(),
        || (),
    );
    let Err(error) = follow.await;
    assert!(
        error
            .to_string()
            .ends_with("networks.n.gateways[0].port: is missing; use 1 to 65535")
    );
}

mod reading {
    use super::*;
    use crate::registry::file::documents::{Complaint, Content, Reader};

    fn reader() -> Reader {
        Reader {
            kinds: Kind::all((MCS_GROUP, MCS_VERSION)),
            features: Features::default(),
            defaults: Defaults::default(),
            is_config: true,
            mesh_map: dir(Path::new(""), true).mesh_map,
        }
    }

    fn names(content: &Content) -> Vec<&str> {
        content
            .objects
            .iter()
            .map(|o: &Object| &*o.meta().name)
            .collect()
    }

    #[test]
    fn lists_are_read() {
        let yaml = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}
---
{apiVersion: v1, kind: NamespaceList, items: [{metadata: {name: b}}]}
";
        assert_eq!(names(&reader().yaml(yaml)), ["a", "b"]);
    }

    #[test]
    fn json_files_hold_one_object_or_several() {
        let one = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}"#;
        assert_eq!(names(&reader().json(one)), ["a"]);
        let content = reader().json(&format!("{one}\n{one}\n{{"));
        assert_eq!(content.objects.len(), 2);
        let Complaint { document, line, .. } = content.complaints[0];
        assert_eq!((document, line, content.broken), (3, 3, true));
    }

    #[test]
    fn faults_are_named_by_document_and_line() {
        let yaml = "# head
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
a: 1
b: [
---
apiVersion: v1
kind: Service
metadata: {name: s, namespace: a}
spec:
  ports: [{port: 0}]
---
just: data
";
        let content = reader().yaml(yaml);
        assert_eq!(names(&content), ["a"]);
        let places: Vec<_> = content
            .complaints
            .iter()
            .map(|c| (c.document, c.line))
            .collect();
        assert_eq!(places, [(2, 8), (3, 8), (4, 14)]);
        assert_eq!(
            content.complaints[1].problem,
            "Service a/s: spec.ports[0].port: 0 is not a port; use 1 to 65535"
        );
        assert_eq!(
            content.complaints[2].problem,
            "no manifest: it has no apiVersion and kind"
        );
    }
}
