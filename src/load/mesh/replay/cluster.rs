//! One replayed API server: the shape, and what was changed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{collection::Collection, notes::Notes};
use crate::load::mesh::{Objects, Shape, objects::slice_name, shape::NODES};

/// Events that are kept for watches that come back.
const KEPT: usize = 1024;
/// Before and behind the object in the line of an event.
const MODIFIED: &[u8] = br#"{"type":"MODIFIED","object":"#;
const END: &[u8] = b"}\n";

/// A replayed API server.
#[derive(Debug)]
pub(super) struct Cluster {
    shape: Shape,
    objects: Objects,
    secrets: Vec<Vec<u8>>,
    log: Mutex<Log>,
    news: watch::Sender<Tick>,
    notes: Notes,
}

/// Wakes watches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tick {
    /// Grows whenever all watches are to end.
    pub(super) epoch: u64,
}

/// What happened since the start.
#[derive(Debug)]
struct Log {
    version: u64,
    /// The version of the newest event that is no longer kept.
    forgotten: u64,
    events: VecDeque<(u64, Bytes)>,
    /// Slices as they were last put, by ordinal.
    changed: BTreeMap<usize, Bytes>,
}

/// The events behind a version are no longer kept.
#[derive(Debug)]
pub(super) struct Expired;

impl Cluster {
    pub(super) fn new(shape: Shape, cluster: u32, secrets: Vec<Vec<u8>>) -> Self {
        Self {
            shape,
            objects: Objects::stored(shape, cluster),
            secrets,
            log: Mutex::new(Log {
                version: Objects::VERSION,
                forgotten: 0,
                events: VecDeque::new(),
                changed: BTreeMap::new(),
            }),
            news: watch::Sender::default(),
            notes: Notes::default(),
        }
    }

    /// What control planes write for themselves.
    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Number of objects.
    pub(super) fn len(&self, collection: Collection) -> usize {
        let Shape {
            services,
            endpoints,
            gateways,
            ..
        } = self.shape;
        let count = match collection {
            Collection::Namespaces => u64::from(self.objects.namespaces()),
            Collection::Nodes => u64::from(NODES),
            Collection::Services => u64::from(services) + u64::from(gateways),
            Collection::Pods => u64::from(services) * u64::from(endpoints),
            Collection::Slices => u64::from(services) * u64::from(self.shape.slices()),
            Collection::Secrets => self.secrets.len() as u64,
            Collection::ConfigMaps | Collection::Crds => 0,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The object of that number.
    pub(super) fn object(&self, collection: Collection, ordinal: usize) -> Bytes {
        let objects = self.objects;
        let number = u32::try_from(ordinal).unwrap_or(u32::MAX);
        let json = match collection {
            Collection::Namespaces => objects.namespace(number),
            Collection::Nodes => objects.node(number),
            Collection::Services if number < self.shape.services => objects.service(number),
            Collection::Services => objects.gateway(),
            Collection::Pods => {
                let per_service = self.shape.endpoints.max(1);
                objects.pod(number / per_service, number % per_service)
            }
            Collection::Slices => return self.slice(ordinal),
            Collection::Secrets => self.secrets.get(ordinal).cloned().unwrap_or_default(),
            Collection::ConfigMaps | Collection::Crds => Vec::new(),
        };
        Bytes::from(json)
    }

    /// A slice as it is now.
    pub(super) fn slice(&self, ordinal: usize) -> Bytes {
        if let Some(changed) = self.log.lock().changed.get(&ordinal) {
            return changed.clone();
        }
        let (service, slice) = self.slice_of(ordinal);
        Bytes::from(self.objects.slice(service, slice, None))
    }

    /// Service and slice of an ordinal.
    fn slice_of(&self, ordinal: usize) -> (u32, u32) {
        let number = u32::try_from(ordinal).unwrap_or(u32::MAX);
        (number / self.shape.slices(), number % self.shape.slices())
    }

    /// The slice of that name.
    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<usize> {
        let (service, slice) = name.strip_prefix("svc-")?.split_once('-')?;
        let (service, slice): (u32, u32) = (service.parse().ok()?, slice.parse().ok()?);
        let is_there = service < self.shape.services
            && slice < self.shape.slices()
            && self.shape.namespace_of(service) == namespace;
        let ordinal = u64::from(service) * u64::from(self.shape.slices()) + u64::from(slice);
        usize::try_from(ordinal).ok().filter(|_| is_there)
    }

    /// Takes a slice and tells all watches; none if it is no such slice.
    pub(super) fn put(&self, ordinal: usize, mut slice: Value) -> Option<Bytes> {
        let (service, number) = self.slice_of(ordinal);
        let metadata = slice.get_mut("metadata")?.as_object_mut()?;
        if metadata.get("name")?.as_str()? != slice_name(service, number) {
            return None;
        }
        metadata.insert(
            "namespace".to_owned(),
            self.shape.namespace_of(service).into(),
        );
        let mut log = self.log.lock();
        log.version += 1;
        let version = log.version;
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
        let line = [MODIFIED, in_order(slice).as_bytes(), END].concat();
        let object = MODIFIED.len()..line.len() - END.len();
        let line = Bytes::from(line);
        let stored = line.slice(object);
        log.changed.insert(ordinal, stored.clone());
        log.events.push_back((version, line));
        if log.events.len() > KEPT
            && let Some((version, _)) = log.events.pop_front()
        {
            log.forgotten = version;
        }
        drop(log);
        self.news.send_modify(|_| ());
        Some(stored)
    }

    /// Version of the newest change.
    pub(super) fn version(&self) -> u64 {
        self.log.lock().version
    }

    /// The events after a version, and the version that they lead to.
    pub(super) fn events_after(&self, version: u64) -> Result<(Vec<Bytes>, u64), Expired> {
        let log = self.log.lock();
        // A version that was never reached is of a server that was here before.
        if version < log.forgotten || version > log.version {
            return Err(Expired);
        }
        let from = log.events.partition_point(|(of, _)| *of <= version);
        let events = log.events.iter().skip(from);
        Ok((events.map(|(_, line)| line.clone()).collect(), log.version))
    }

    /// Wakes on every change.
    pub(super) fn news(&self) -> watch::Receiver<Tick> {
        self.news.subscribe()
    }

    /// Ends all watches; with `forget` none of them can resume.
    pub(super) fn end_watches(&self, forget: bool) {
        if forget {
            let mut log = self.log.lock();
            log.events.clear();
            log.version += 1;
            log.forgotten = log.version;
        }
        self.news.send_modify(|tick| tick.epoch += 1);
    }
}

/// The JSON of an object with its head first, as API servers write it: who
/// reads it may stop there.
fn in_order(mut object: Value) -> String {
    let head = ["kind", "apiVersion", "metadata"].map(|key| {
        let value = object.as_object_mut().and_then(|o| o.remove(key));
        format!("\"{key}\":{}", value.unwrap_or_default())
    });
    let rest = object.to_string();
    format!("{{{},{}", head.join(","), rest.trim_start_matches('{'))
}

/// A bookmark; with `listed` it says that all objects were sent.
pub(super) fn bookmark(collection: Collection, version: u64, listed: bool) -> Bytes {
    let (api_version, kind) = collection.kind();
    let annotations = if listed {
        json!({"k8s.io/initial-events-end": "true"})
    } else {
        json!({})
    };
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    let line = json!({"type": "BOOKMARK", "object": object});
    Bytes::from(format!("{line}\n"))
}
