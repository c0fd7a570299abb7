//! Who watches which endpoint answer: a publish wakes those for whom it differs
//! and nobody else.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use foldhash::fast::FixedState;
use parking_lot::{Mutex, MutexGuard};
use slab::Slab;
use smallvec::SmallVec;

use super::{
    ChangeSet, PodKey, Snapshot,
    news::{Inbox, News},
    publish::Unread,
};
use crate::model::host_of;

type Map<K, V> = HashMap<K, V, FixedState>;

/// Number of a reader, or of a name that is watched.
type Id = u32;

/// Changed hosts in one publish above which nobody looks through a [`Lens`]: it
/// encodes, in the writer's task, what the readers else encode in parallel.
const FEW: usize = 64;

/// Names of one reader taken care of under one lock: a publish, and all others,
/// wait for no more than these.
const AT_ONCE: usize = 256;

/// How the proxies of one class see the world. Those that share a lens get the
/// same answers, so that it is asked once for all of them.
pub trait Lens: Send + Sync {
    /// Whether the endpoint answer for `name` differs between two generations.
    fn differs(&self, name: &Arc<str>, old: &Arc<Snapshot>, new: &Arc<Snapshot>) -> bool;
}

/// All readers that wait for news. Shared by the writer and the readers.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Table>);

#[derive(Default)]
struct Table {
    readers: Slab<Reader>,
    names: Slab<Watched>,
    ids: Map<Arc<str>, Id>,
    /// The names that have a host in them.
    of_host: Map<Box<str>, SmallVec<[Id; 1]>>,
    pods: Map<PodKey, SmallVec<[Id; 1]>>,
}

struct Reader {
    inbox: Arc<Inbox>,
    lens: Option<Arc<dyn Lens>>,
}

/// A name and its watchers: a set, because a stream that ends must leave all
/// its names without a search.
struct Watched {
    name: Arc<str>,
    by: HashSet<Id, FixedState>,
}

/// One reader's registration; it ends with this value.
pub struct Watcher {
    all: Arc<Watchers>,
    inbox: Arc<Inbox>,
    id: Id,
    /// Sorted; 4 bytes each, for ten thousand streams have some hundred.
    names: Vec<Id>,
    pod: Option<PodKey>,
}

/// One publish, as it is told.
pub(super) struct Told {
    pub(super) unread: Arc<Unread>,
    pub(super) old: Arc<Snapshot>,
    pub(super) new: Arc<Snapshot>,
}

impl Watchers {
    pub(super) fn tell(&self, told: &Told) {
        let table = self.0.lock();
        let (unread, changes) = (&told.unread, told.new.changes());
        let for_all = News::for_all(changes);
        if let Some(news) = &for_all {
            for (_, reader) in &table.readers {
                reader.inbox.tell(unread, news);
            }
        }
        for pod in &changes.workloads {
            for reader in table.readers(table.pods.get(pod).into_iter().flatten()) {
                reader.inbox.tell(unread, &News::own());
            }
        }
        if !changes.all_endpoints {
            let few = for_all.is_none() && changes.hosts.len() <= FEW;
            table.tell_hosts(told, changes, few);
        }
    }

    /// Tells everyone to look at everything.
    pub(super) fn tell_everything(&self, unread: &Arc<Unread>) {
        let news = News::own();
        for (_, reader) in &self.0.lock().readers {
            reader.inbox.tell(unread, &news);
        }
    }

    pub(super) fn join(self: &Arc<Self>) -> Watcher {
        let inbox = Arc::<Inbox>::default();
        let reader = Reader {
            inbox: Arc::clone(&inbox),
            lens: None,
        };
        let id = number(self.0.lock().readers.insert(reader));
        Watcher {
            all: Arc::clone(self),
            inbox,
            id,
            names: Vec::new(),
            pod: None,
        }
    }
}

/// Four billion readers, or names, do not fit into memory.
fn number(key: usize) -> Id {
    Id::try_from(key).unwrap_or(Id::MAX)
}

impl Table {
    fn tell_hosts(&self, told: &Told, changes: &ChangeSet, through_lenses: bool) {
        let ids = changes
            .hosts
            .iter()
            .filter_map(|host| self.of_host.get(&**host));
        for id in ids.flatten() {
            let Some(watched) = self.names.get(*id as usize) else {
                continue;
            };
            let mut asked: Map<*const (), bool> = Map::default();
            for reader in self.readers(watched.by.iter()) {
                let differs = match &reader.lens {
                    Some(lens) if through_lenses => *asked
                        .entry(Arc::as_ptr(lens).cast())
                        .or_insert_with(|| lens.differs(&watched.name, &told.old, &told.new)),
                    _ => true,
                };
                if differs {
                    reader.inbox.tell_name(&told.unread, &watched.name);
                }
            }
        }
    }

    fn readers<'a>(
        &'a self,
        ids: impl Iterator<Item = &'a Id>,
    ) -> impl Iterator<Item = &'a Reader> {
        ids.filter_map(|id| self.readers.get(*id as usize))
    }

    fn id_of(&mut self, name: &str) -> Id {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let name: Arc<str> = Arc::from(name);
        let id = number(self.names.insert(Watched {
            name: Arc::clone(&name),
            by: HashSet::default(),
        }));
        let host = Box::from(host_of(&name));
        self.of_host.entry(host).or_default().push(id);
        self.ids.insert(name, id);
        id
    }

    fn leave(&mut self, reader: Id, name: Id) {
        let Some(watched) = self.names.get_mut(name as usize) else {
            return;
        };
        watched.by.remove(&reader);
        if watched.by.is_empty() {
            let gone = self.names.remove(name as usize);
            self.ids.remove(&gone.name);
            leave(&mut self.of_host, host_of(&gone.name), name);
        }
    }
}

/// Before the name at this place: lets those go first who wait for the lock.
fn let_others(table: &mut MutexGuard<'_, Table>, at: usize) {
    if at % AT_ONCE == AT_ONCE - 1 {
        MutexGuard::bump(table);
    }
}

/// Takes `id` out of the list of `key`.
fn leave<K, Q>(lists: &mut Map<K, SmallVec<[Id; 1]>>, key: &Q, id: Id)
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if let Some(list) = lists.get_mut(key) {
        list.retain(|known| *known != id);
        if list.is_empty() {
            lists.remove(key);
        }
    }
}

impl Watcher {
    /// Watches these names too.
    ///
    /// What is published after this is told; what was published before is in
    /// the snapshot that a reader takes after it.
    pub fn watch<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let mut table = self.all.0.lock();
        for (at, name) in names.into_iter().enumerate() {
            let_others(&mut table, at);
            let id = table.id_of(name);
            if let Err(at) = self.names.binary_search(&id) {
                self.names.insert(at, id);
                if let Some(watched) = table.names.get_mut(id as usize) {
                    watched.by.insert(self.id);
                }
            }
        }
    }

    /// Watches these names no longer.
    pub fn unwatch<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let mut table = self.all.0.lock();
        for (at, name) in names.into_iter().enumerate() {
            let_others(&mut table, at);
            let id = table.ids.get(name).copied();
            let at = id.and_then(|id| self.names.binary_search(&id).ok());
            if let Some(at) = at {
                let id = self.names.remove(at);
                table.leave(self.id, id);
            }
        }
    }

    /// Watches no name any longer.
    pub fn unwatch_all(&mut self) {
        let mut table = self.all.0.lock();
        for (at, name) in std::mem::take(&mut self.names).into_iter().enumerate() {
            let_others(&mut table, at);
            table.leave(self.id, name);
        }
    }

    /// Watches the workload behind a proxy.
    pub fn watch_pod(&mut self, pod: PodKey) {
        let mut table = self.all.0.lock();
        table.pods.entry(pod.clone()).or_default().push(self.id);
        if let Some(old) = self.pod.replace(pod) {
            leave(&mut table.pods, &old, self.id);
        }
    }

    /// Looks at names through `lens` from now on; before, every change of a host
    /// is told.
    pub fn look_through(&self, lens: Arc<dyn Lens>) {
        let mut table = self.all.0.lock();
        if let Some(reader) = table.readers.get_mut(self.id as usize) {
            reader.lens = Some(lens);
        }
    }

    /// Until the next look, the reader is busy with something that may take
    /// long: no publish waits for it.
    pub fn look_away(&self) {
        self.inbox.look_away();
    }

    /// What changed since the last call; wakes the caller when something does.
    pub fn poll_news(&self, cx: &mut Context<'_>) -> Poll<News> {
        self.inbox.poll(cx)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.unwatch_all();
        let mut table = self.all.0.lock();
        if let Some(pod) = self.pod.take() {
            leave(&mut table.pods, &pod, self.id);
        }
        table.readers.try_remove(self.id as usize);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("names", &self.names.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
