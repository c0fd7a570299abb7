//! A folder of kubeconfigs instead of Secrets
//! (`PILOT_MULTICLUSTER_KUBECONFIG_PATH`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecursiveMode, Watcher};
use tokio::{
    fs,
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{
    claims::{ClaimChange, Credentials, Source},
    kubeconfig::{KubeconfigBytes, cluster_of},
};

/// Kubernetes swaps the files of a mounted Secret by several renames.
const SETTLE: Duration = Duration::from_millis(100);
/// A notification may get lost; a rescan costs a few file reads.
const RESCAN: Duration = Duration::from_secs(30);

/// Follows a folder. A file that turns unreadable keeps what it said last.
pub(super) struct Directory {
    path: PathBuf,
    changes: mpsc::Sender<ClaimChange>,
    files: BTreeMap<Source, Credentials>,
    /// Files warned about, with what was wrong.
    warned: BTreeMap<Arc<str>, String>,
}

impl Directory {
    pub(super) fn new(path: PathBuf, changes: mpsc::Sender<ClaimChange>) -> Self {
        Self {
            path,
            changes,
            files: BTreeMap::new(),
            warned: BTreeMap::new(),
        }
    }

    /// Runs until nobody listens.
    pub(super) async fn follow(mut self) {
        let (wake, mut woken) = mpsc::channel(1);
        // Held for as long as this runs: dropping it ends the notifications.
        let _watcher = watch(&self.path, wake);
        let mut sent = None;
        loop {
            self.scan().await;
            if sent.as_ref() != Some(&self.files) {
                let all = self.files.clone().into_iter().collect();
                if self.changes.send(ClaimChange::All(all)).await.is_err() {
                    return;
                }
                sent = Some(self.files.clone());
            }
            if let Ok(Some(())) = timeout(RESCAN, woken.recv()).await {
                sleep(SETTLE).await;
            } else if self.changes.is_closed() {
                return;
            }
            let _ = woken.try_recv();
        }
    }

    async fn scan(&mut self) {
        let names = match names(&self.path).await {
            Ok(names) => names,
            Err(error) => {
                self.warn_once("", format!("cannot read the folder: {error}"));
                return;
            }
        };
        let mut files = BTreeMap::new();
        for name in names {
            let source = Source {
                created: Arc::default(),
                name: Arc::clone(&name),
            };
            match read(&self.path.join(&*name)).await {
                Ok(credentials) => {
                    self.warned.remove(&name);
                    files.insert(source, credentials);
                }
                Err(error) => {
                    self.warn_once(&name, error);
                    if let Some(last) = self.files.get(&source) {
                        files.insert(source, last.clone());
                    }
                }
            }
        }
        self.files = files;
    }

    fn warn_once(&mut self, name: &str, error: String) {
        if self.warned.get(name) != Some(&error) {
            let folder = self.path.display();
            warn!(%folder, file = name, error, "ignored; what it said before stays");
            self.warned.insert(Arc::from(name), error);
        }
    }
}

fn watch(path: &Path, wake: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let on_event = move |_| {
        // Full means that a scan is due anyway.
        let _ = wake.try_send(());
    };
    let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(path, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| {
            let folder = path.display();
            warn!(%folder, %error, "cannot follow the folder; reading it every 30 seconds");
        })
        .ok()
}

/// Visible files, by name. (`..data` and its like belong to Kubernetes.)
async fn names(path: &Path) -> std::io::Result<Vec<Arc<str>>> {
    let mut entries = fs::read_dir(path).await?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name().to_string_lossy().into_owned();
        // `metadata` follows symbolic links, which mounted Secrets are.
        let is_file = fs::metadata(entry.path()).await.is_ok_and(|m| m.is_file());
        if is_file && !name.starts_with('.') {
            names.push(Arc::from(name));
        }
    }
    names.sort();
    Ok(names)
}

async fn read(path: &Path) -> Result<Credentials, String> {
    let bytes = fs::read(path).await.map_err(|error| error.to_string())?;
    let kubeconfig = KubeconfigBytes::new(&bytes);
    let cluster = cluster_of(&kubeconfig).map_err(|error| error.to_string())?;
    Ok(Credentials::from([(cluster, kubeconfig)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join(name), text).expect("written");
    }

    fn kubeconfig(cluster: &str) -> String {
        format!("clusters: [{{name: {cluster}, cluster: {{server: 'https://x'}}}}]")
    }

    fn clusters(change: Option<ClaimChange>) -> Vec<String> {
        let Some(ClaimChange::All(sources)) = change else {
            return Vec::new();
        };
        let clusters = sources.iter().flat_map(|(source, credentials)| {
            credentials
                .keys()
                .map(move |c| format!("{}: {c}", source.name))
        });
        clusters.collect()
    }

    #[tokio::test]
    async fn a_folder_is_followed_and_a_broken_file_keeps_its_last_cluster() {
        let dir = tempfile::tempdir().expect("a folder");
        write(dir.path(), "a.yaml", &kubeconfig("west"));
        write(dir.path(), ".hidden", &kubeconfig("no"));
        let (changes, mut received) = mpsc::channel(4);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(Directory::new(dir.path().to_owned(), changes).follow());
        assert_eq!(clusters(received.recv().await), ["a.yaml: west"]);
        write(dir.path(), "a.yaml", "{broken");
        write(dir.path(), "b.yaml", &kubeconfig("east"));
        let mut seen = clusters(received.recv().await);
        if seen.len() < 2 {
            seen = clusters(received.recv().await);
        }
        assert_eq!(seen, ["a.yaml: west", "b.yaml: east"]);
        std::fs::remove_file(dir.path().join("a.yaml")).expect("removed");
        assert_eq!(clusters(received.recv().await), ["b.yaml: east"]);
    }
}
