//! Tells when files change.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::FileSourceError;

/// Watches a folder. Its parent is watched too, so that a folder that is
/// replaced (a symbolic link that is swapped, a folder made anew) is noticed.
pub(super) struct Watch {
    root: PathBuf,
    mode: RecursiveMode,
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    wake: Notify,
}

#[derive(Default)]
struct Seen {
    /// Files that are being written: what they hold now is half of it.
    writing: BTreeSet<PathBuf>,
    /// The folder was replaced, or has a new folder in it: what is watched must
    /// be found again.
    moved: bool,
}

impl Watch {
    /// Watches a folder and all below it.
    pub(super) fn below(folder: &Path) -> Result<Self, FileSourceError> {
        Self::new(folder, RecursiveMode::Recursive)
    }

    /// Watches the folder that holds a file: a mounted `ConfigMap` swaps the
    /// folder beside its files, not the files.
    pub(super) fn beside(file: &Path) -> Result<Self, FileSourceError> {
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty());
        Self::new(
            folder.unwrap_or(Path::new(".")),
            RecursiveMode::NonRecursive,
        )
    }

    fn new(root: &Path, mode: RecursiveMode) -> Result<Self, FileSourceError> {
        let failed = |source| FileSourceError::Watch {
            path: root.to_owned(),
            source,
        };
        // Events have the paths that were asked for, so these must be whole.
        let root = std::path::absolute(root).map_err(|source| FileSourceError::Read {
            path: root.to_owned(),
            source,
        })?;
        // A missing folder has a clearer error than the watcher's.
        std::fs::read_dir(&root).map_err(|source| FileSourceError::Read {
            path: root.clone(),
            source,
        })?;
        let shared = Arc::new(Shared::default());
        let (told, below) = (Arc::clone(&shared), root.clone());
        let on_event = move |event: notify::Result<Event>| told.note(event, &below);
        let mut watcher = notify::recommended_watcher(on_event).map_err(failed)?;
        watcher.watch(&root, mode).map_err(failed)?;
        if let Some(parent) = root.parent() {
            watcher
                .watch(parent, RecursiveMode::NonRecursive)
                .map_err(failed)?;
        }
        Ok(Self {
            root,
            mode,
            watcher,
            shared,
        })
    }

    /// Waits for the next change, or for one since the last call.
    pub(super) async fn changed(&self) {
        self.shared.wake.notified().await;
    }

    /// Follows folders that are new. To be called before they are read, so that
    /// nothing can happen in between unseen.
    pub(super) fn renew(&mut self) {
        let moved = std::mem::take(&mut self.shared.seen.lock().moved);
        if moved {
            // Fails while there is no folder; its coming back is told by its parent.
            let _ = self.watcher.unwatch(&self.root);
            let _ = self.watcher.watch(&self.root, self.mode);
            // Their closing may have been missed just now.
            self.shared.seen.lock().writing.clear();
        }
    }

    /// Whether a file is being written.
    pub(super) fn is_writing(&self, file: &Path) -> bool {
        let seen = self.shared.seen.lock();
        !seen.writing.is_empty()
            && std::path::absolute(file).is_ok_and(|file| seen.writing.contains(&file))
    }
}

impl Shared {
    fn note(&self, event: notify::Result<Event>, root: &Path) {
        match event {
            Ok(event) if event.need_rescan() => self.lost(),
            Ok(event) if event.paths.iter().any(|path| path.starts_with(root)) => {
                self.happened(&event, root);
            }
            // The parent folder's other entries.
            Ok(_) => {}
            Err(_) => self.lost(),
        }
    }

    fn happened(&self, event: &Event, root: &Path) {
        let mut seen = self.seen.lock();
        match event.kind {
            // Only Linux tells when a writer is done, so only there it is waited for.
            EventKind::Modify(ModifyKind::Data(_)) if cfg!(target_os = "linux") => {
                seen.writing.extend(event.paths.iter().cloned());
                return;
            }
            // Reading, which isthmus does itself.
            EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write) => return,
            _ => {}
        }
        let is_new = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_));
        seen.moved |= event
            .paths
            .iter()
            .any(|path| path == root || (is_new && path.is_dir()));
        for path in &event.paths {
            seen.writing.remove(path);
        }
        self.wake.notify_one();
    }

    /// Events were lost: everything may be different.
    fn lost(&self) {
        *self.seen.lock() = Seen {
            moved: true,
            ..Seen::default()
        };
        self.wake.notify_one();
    }
}
