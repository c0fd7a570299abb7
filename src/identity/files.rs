//! Tells when files may have changed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::debug;

/// Files of one set are written one after the other (istiod waits as long).
const SETTLE: Duration = Duration::from_millis(100);
/// Some file systems tell nothing, and a folder may not be there yet.
const POLL: Duration = Duration::from_mins(1);

/// Watches folders, not files: a mounted Secret swaps a symbolic link beside its
/// files, which are never written.
pub(super) struct FileWatch {
    folders: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    wake: Arc<Notify>,
}

impl FileWatch {
    pub(super) fn of_folders(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let wake = Arc::new(Notify::new());
        let woken = Arc::clone(&wake);
        let on_event = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                woken.notify_one();
            }
        };
        let mut watch = Self {
            folders: folders.into_iter().collect(),
            watcher: notify::recommended_watcher(on_event).ok(),
            wake,
        };
        watch.renew();
        watch
    }

    pub(super) fn of_files<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        Self::of_folders(files.into_iter().map(|file| folder(file).to_owned()))
    }

    /// Waits until something may have changed; files are to be compared with
    /// what was read of them before.
    pub(super) async fn changed(&mut self) {
        // An error is the end of the time.
        let _ = timeout(POLL, self.wake.notified()).await;
        sleep(SETTLE).await;
        self.renew();
    }

    /// Watches folders that were replaced or made since.
    fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in &self.folders {
            let _ = watcher.unwatch(folder);
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                debug!(folder = %folder.display(), %error, "not watched; it is looked at every minute");
            }
        }
    }
}

/// Reading, which is done here too, is none.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn folder(file: &Path) -> &Path {
    let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
