//! Objects of one kind → [`Event`]s.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::{
    head::Head,
    metrics::KubeMetrics,
    status::Progress,
    watch::{Closed, Sink},
};
use crate::manifest::{self, Defaults, ManifestError, Raw};
use crate::mesh::{Change, Event};
use crate::model::{Namespace, Object, ObjectKey, ObjectKind};

/// Namespace and name.
type Name = (Namespace, Arc<str>);

/// The stream of events of one cluster to the index.
///
/// A cluster speaks once all its kinds are listed, and then says all of it in
/// one batch: endpoints that came before the label of their network would be
/// sent to proxies as if they were near. New credentials are held back so too,
/// while the old speak.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    gate: watch::Receiver<bool>,
    /// What was listed before the cluster may speak; none once it may.
    held: Arc<Mutex<Option<Vec<Event>>>>,
    events: mpsc::Sender<Vec<Event>>,
}

/// Opens an [`Outlet`].
#[derive(Debug)]
pub(super) struct Gate {
    open: watch::Sender<bool>,
    outlet: Outlet,
}

impl Gate {
    /// A gate in front of `events`.
    pub(super) fn new(events: mpsc::Sender<Vec<Event>>, open: bool) -> Self {
        let (sender, gate) = watch::channel(open);
        let held = Arc::new(Mutex::new((!open).then(Vec::new)));
        let outlet = Outlet { gate, held, events };
        Self {
            open: sender,
            outlet,
        }
    }

    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Sends what was held back and lets everything pass from now on.
    pub(super) async fn open(&self) {
        let held = self.outlet.held.lock().take();
        // A closed channel means that the process is going down.
        let _ = self.outlet.send(held.unwrap_or_default()).await;
        self.open.send_replace(true);
    }
}

impl Outlet {
    /// Waits until the cluster may speak.
    pub(super) async fn opened(&mut self) -> Result<(), Closed> {
        let opened = self.gate.wait_for(|open| *open).await;
        opened.map(|_| ()).map_err(|_| Closed)
    }

    pub(super) fn is_open(&self) -> bool {
        *self.gate.borrow()
    }

    /// Sends a list that is complete and tells `listed` of it: at once where it
    /// is held back, and after it was sent where not.
    pub(super) async fn send_list(
        &mut self,
        events: Vec<Event>,
        listed: impl FnOnce(),
    ) -> Result<(), Closed> {
        let Some(events) = self.hold(events) else {
            listed();
            return self.opened().await;
        };
        self.opened().await?;
        self.send(events).await?;
        listed();
        Ok(())
    }

    /// Takes events to be held back; gives them back where they need not be.
    fn hold(&self, events: Vec<Event>) -> Option<Vec<Event>> {
        match &mut *self.held.lock() {
            Some(held) => {
                held.extend(events);
                None
            }
            None => Some(events),
        }
    }

    pub(super) async fn send(&self, events: Vec<Event>) -> Result<(), Closed> {
        if events.is_empty() {
            return Ok(());
        }
        self.events.send(events).await.map_err(|_| Closed)
    }
}

/// Turns one kind's objects into events.
///
/// An object that cannot be read costs itself only: it is named in a warning
/// and counted, and its last good version stays, over a relist too. (istiod
/// refuses such objects in its webhook, so there too the last good one stays.)
pub(super) struct ObjectSink {
    pub kind: ObjectKind,
    pub defaults: Defaults,
    pub progress: Progress,
    pub metrics: KubeMetrics,
    pub outlet: Outlet,
    pub pending: Vec<Event>,
    pub objects: usize,
    pub list: List,
    /// Names of what the index holds; kept only where an object may be
    /// unreadable at all: the API server checks those of its built-in kinds.
    pub known: Option<BTreeSet<Name>>,
}

/// A list on its way.
#[derive(Default)]
pub(super) struct List {
    good: Vec<Object>,
    unreadable: Vec<Name>,
}

impl ObjectSink {
    /// The kind has no objects, since it does not exist.
    pub(super) async fn absent(&mut self) -> Result<(), Closed> {
        self.begin();
        self.outlet_reset(|progress, _| progress.absent()).await
    }

    async fn outlet_reset(&mut self, report: impl Fn(&Progress, usize)) -> Result<(), Closed> {
        let list = std::mem::take(&mut self.list);
        self.objects = list.good.len();
        let events = self.relisted(list);
        let listed = || report(&self.progress, self.objects);
        self.outlet.send_list(events, listed).await
    }

    /// The events that make the index hold exactly this list, and the last good
    /// versions of what is unreadable in it.
    fn relisted(&mut self, list: List) -> Vec<Event> {
        let List { good, unreadable } = list;
        let Some(known) = &mut self.known else {
            return vec![self.event(Change::Reset(self.kind, good))];
        };
        let keep: BTreeSet<Name> = unreadable
            .into_iter()
            .filter(|name| known.contains(name))
            .collect();
        let listed: BTreeSet<Name> = good.iter().map(name_of).collect();
        let gone: Vec<Name> = known
            .iter()
            .filter(|name| !listed.contains(*name) && !keep.contains(*name))
            .cloned()
            .collect();
        let all_readable = keep.is_empty();
        *known = listed.into_iter().chain(keep).collect();
        if all_readable {
            return vec![self.event(Change::Reset(self.kind, good))];
        }
        let gone = gone.into_iter().map(|name| Change::Delete(self.key(name)));
        let changes = gone.chain(good.into_iter().map(Change::Upsert));
        changes.map(|change| self.event(change)).collect()
    }

    fn event(&self, change: Change) -> Event {
        Event {
            cluster: self.progress.cluster().clone(),
            change,
        }
    }

    fn key(&self, (namespace, name): Name) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            namespace,
            name,
        }
    }

    fn read(&self, object: Raw<'_>) -> Result<Object, Name> {
        let cluster = self.progress.cluster();
        match manifest::parse_raw(self.kind, object, &self.defaults) {
            Ok(parsed) => {
                for error in &parsed.left_out {
                    warn!(%cluster, %error, "left out a part of an object");
                    self.count_invalid();
                }
                Ok(parsed.object)
            }
            Err(error) => {
                self.refuse(&error);
                Err(name_in(object))
            }
        }
    }

    fn refuse(&self, error: &ManifestError) {
        warn!(
            cluster = %self.progress.cluster(),
            %error,
            "ignored an object that cannot be read; its last good version, if any, stays"
        );
        self.count_invalid();
    }

    fn count_invalid(&self) {
        let cluster = self.progress.cluster();
        self.metrics.invalid(cluster, self.progress.name());
    }
}

fn name_of(object: &Object) -> Name {
    let meta = object.meta();
    (meta.namespace.clone(), Arc::clone(&meta.name))
}

fn name_in(object: Raw<'_>) -> Name {
    let head = Head::of(object);
    (Namespace::from(&*head.namespace), Arc::from(&*head.name))
}

impl Sink for ObjectSink {
    fn begin(&mut self) {
        self.list = List::default();
    }

    fn listed(&mut self, object: Raw<'_>) {
        match self.read(object) {
            Ok(object) => self.list.good.push(object),
            Err(name) => self.list.unreadable.push(name),
        }
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        // What came before the list belongs before it.
        self.flush().await?;
        self.outlet_reset(Progress::listed).await
    }

    fn applied(&mut self, object: Raw<'_>, added: bool) {
        let Ok(object) = self.read(object) else {
            return;
        };
        self.objects += usize::from(added);
        if let Some(known) = &mut self.known {
            known.insert(name_of(&object));
        }
        self.pending.push(self.event(Change::Upsert(object)));
    }

    fn deleted(&mut self, object: Raw<'_>) {
        let name = name_in(object);
        self.objects = self.objects.saturating_sub(1);
        if let Some(known) = &mut self.known {
            known.remove(&name);
        }
        self.pending
            .push(self.event(Change::Delete(self.key(name))));
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        let events = std::mem::take(&mut self.pending);
        if !events.is_empty() {
            self.progress.count(self.objects);
        }
        self.outlet.send(events).await
    }
}

#[cfg(test)]
mod tests;
