//! One copy of every text: objects of a cluster repeat the same few names and
//! label sets, and decoding makes a new copy of each.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::FixedState;

use crate::model::Labels;

/// Named container ports.
pub(super) type Ports = Arc<[(Arc<str>, u16)]>;

/// Shared texts and label sets. Those that nobody holds any more are dropped
/// when the set has doubled, so that it stays as small as what is in use.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: HashSet<Arc<str>, FixedState>,
    labels: HashSet<Labels, FixedState>,
    ports: HashSet<Ports, FixedState>,
    sweep_at: usize,
}

impl Interner {
    const SMALLEST_SWEEP: usize = 4096;

    /// The shared copy of `text`.
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let made: Arc<str> = Arc::from(text);
        self.texts.insert(Arc::clone(&made));
        made
    }

    /// The shared copy of `labels`, made of shared texts.
    pub(super) fn labels(&mut self, labels: &Labels) -> Labels {
        if let Some(known) = self.labels.get(labels) {
            return known.clone();
        }
        let made: Labels = labels
            .iter()
            .map(|(key, value)| (self.text(key), self.text(value)))
            .collect();
        self.labels.insert(made.clone());
        made
    }

    /// The shared copy of a pod's named ports.
    pub(super) fn ports(&mut self, ports: &[(Arc<str>, u16)]) -> Ports {
        if let Some(known) = self.ports.get(ports) {
            return Arc::clone(known);
        }
        let made: Ports = ports
            .iter()
            .map(|(name, port)| (self.text(name), *port))
            .collect();
        self.ports.insert(Arc::clone(&made));
        made
    }

    /// Drops what nobody else holds, if enough has come since the last time.
    pub(super) fn sweep(&mut self) {
        let held = self.texts.len() + self.labels.len() + self.ports.len();
        if held < self.sweep_at.max(Self::SMALLEST_SWEEP) {
            return;
        }
        self.labels.retain(|labels| labels.holders() > 1);
        self.ports.retain(|ports| Arc::strong_count(ports) > 1);
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        self.sweep_at = 2 * (self.texts.len() + self.labels.len());
    }
}
