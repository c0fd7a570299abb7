//! Who watches which host: a publish wakes those whom it concerns and nobody
//! else.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;

use super::{
    ChangeSet, PodKey,
    news::{Inbox, News},
    publish::Unread,
};
use crate::model::Hostname;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Number of a reader, or of a host that is watched.
type Id = u32;

/// All readers that wait for news. Shared by the writer and the readers.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Table>);

#[derive(Default)]
struct Table {
    inboxes: Slab<Arc<Inbox>>,
    hosts: Slab<Watched>,
    ids: Map<Hostname, Id>,
    pods: Map<PodKey, SmallVec<[Id; 1]>>,
}

/// A host and its watchers. Sets, because a stream that ends must leave all its
/// hosts without a search.
struct Watched {
    host: Hostname,
    by: std::collections::HashSet<Id, FixedState>,
}

/// One reader's registration; it ends with this value.
pub struct Watcher {
    all: Arc<Watchers>,
    inbox: Arc<Inbox>,
    id: Id,
    /// The hosts watched and how many names of each, sorted: 8 bytes a host,
    /// for ten thousand streams have some hundred each.
    hosts: Vec<(Id, u32)>,
    pod: Option<PodKey>,
}

impl Watchers {
    pub(super) fn tell(&self, unread: &Arc<Unread>, changes: &ChangeSet) {
        let table = self.0.lock();
        if let Some(news) = News::for_all(changes) {
            for (_, inbox) in &table.inboxes {
                inbox.tell(unread, &news);
            }
        }
        for pod in &changes.workloads {
            for inbox in table.readers(table.pods.get(pod).into_iter().flatten()) {
                inbox.tell(unread, &News::everything());
            }
        }
        if changes.all_endpoints {
            return;
        }
        for host in &changes.hosts {
            for inbox in table.readers(table.watchers(host)) {
                inbox.tell_host(unread, host);
            }
        }
    }

    /// Tells everyone to look at everything.
    pub(super) fn tell_everything(&self, unread: &Arc<Unread>) {
        let news = News::everything();
        for (_, inbox) in &self.0.lock().inboxes {
            inbox.tell(unread, &news);
        }
    }

    pub(super) fn join(self: &Arc<Self>) -> Watcher {
        let inbox = Arc::<Inbox>::default();
        let id = number(self.0.lock().inboxes.insert(Arc::clone(&inbox)));
        Watcher {
            all: Arc::clone(self),
            inbox,
            id,
            hosts: Vec::new(),
            pod: None,
        }
    }
}

/// Four billion readers, or hosts, do not fit into memory.
fn number(key: usize) -> Id {
    Id::try_from(key).unwrap_or(Id::MAX)
}

impl Table {
    fn watchers(&self, host: &Hostname) -> impl Iterator<Item = &Id> {
        let watched = self
            .ids
            .get(host)
            .and_then(|id| self.hosts.get(*id as usize));
        watched.into_iter().flat_map(|watched| &watched.by)
    }

    fn readers<'a>(&'a self, ids: impl Iterator<Item = &'a Id>) -> impl Iterator<Item = &'a Inbox> {
        ids.filter_map(|id| self.inboxes.get(*id as usize).map(|inbox| &**inbox))
    }

    fn id_of(&mut self, host: &str) -> Id {
        if let Some(id) = self.ids.get(host) {
            return *id;
        }
        let host = Hostname::from(host);
        let id = number(self.hosts.insert(Watched {
            host: host.clone(),
            by: std::collections::HashSet::default(),
        }));
        self.ids.insert(host, id);
        id
    }

    fn leave(&mut self, reader: Id, host: Id) {
        let Some(watched) = self.hosts.get_mut(host as usize) else {
            return;
        };
        watched.by.remove(&reader);
        if watched.by.is_empty() {
            let gone = self.hosts.remove(host as usize);
            self.ids.remove(&gone.host);
        }
    }
}

impl Watcher {
    /// Watches one more name of each of these hosts.
    ///
    /// What is published after this is told; what was published before is in
    /// the snapshot that a reader takes after it.
    pub fn watch<'a>(&mut self, hosts: impl IntoIterator<Item = &'a str>) {
        let mut table = self.all.0.lock();
        for host in hosts {
            let id = table.id_of(host);
            match self.hosts.binary_search_by_key(&id, |(host, _)| *host) {
                Ok(at) => {
                    if let Some((_, names)) = self.hosts.get_mut(at) {
                        *names += 1;
                    }
                }
                Err(at) => {
                    self.hosts.insert(at, (id, 1));
                    if let Some(watched) = table.hosts.get_mut(id as usize) {
                        watched.by.insert(self.id);
                    }
                }
            }
        }
    }

    /// Watches one name of each of these hosts less.
    pub fn unwatch<'a>(&mut self, hosts: impl IntoIterator<Item = &'a str>) {
        let mut table = self.all.0.lock();
        for host in hosts {
            let Some(id) = table.ids.get(host).copied() else {
                continue;
            };
            let Ok(at) = self.hosts.binary_search_by_key(&id, |(host, _)| *host) else {
                continue;
            };
            let Some((_, names)) = self.hosts.get_mut(at) else {
                continue;
            };
            *names -= 1;
            if *names == 0 {
                self.hosts.remove(at);
                table.leave(self.id, id);
            }
        }
    }

    /// Watches the workload behind a proxy.
    pub fn watch_pod(&mut self, pod: PodKey) {
        let mut table = self.all.0.lock();
        table.pods.entry(pod.clone()).or_default().push(self.id);
        if let Some(old) = self.pod.replace(pod) {
            table.leave_pod(self.id, &old);
        }
    }

    /// What changed since the last call; wakes the caller when something does.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<News> {
        self.inbox.poll(cx)
    }
}

impl Table {
    fn leave_pod(&mut self, reader: Id, pod: &PodKey) {
        let Some(readers) = self.pods.get_mut(pod) else {
            return;
        };
        if let Some(at) = readers.iter().position(|id| *id == reader) {
            readers.swap_remove(at);
        }
        if readers.is_empty() {
            self.pods.remove(pod);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut table = self.all.0.lock();
        for (host, _) in std::mem::take(&mut self.hosts) {
            table.leave(self.id, host);
        }
        if let Some(pod) = self.pod.take() {
            table.leave_pod(self.id, &pod);
        }
        table.inboxes.try_remove(self.id as usize);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
