//! One copy of every text: objects of a cluster repeat the same few names and
//! label sets, and decoding makes a new copy of each.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::FixedState;

use super::kube_state::PodTemplate;
use crate::model::{KubeService, Labels, Namespace, Pod, WorkloadTemplate};

/// Named container ports.
pub(super) type Ports = Arc<[(Arc<str>, u16)]>;

/// Shared texts and label sets. Those that nobody holds any more are dropped
/// when the set has doubled, so that it stays as small as what is in use.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: HashSet<Arc<str>, FixedState>,
    labels: HashSet<Labels, FixedState>,
    ports: HashSet<Ports, FixedState>,
    templates: HashSet<Arc<PodTemplate>, FixedState>,
    workloads: HashSet<Arc<WorkloadTemplate>, FixedState>,
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
        if labels.is_empty() {
            return Labels::default();
        }
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

    /// The shared copy of what a pod has in common with others.
    pub(super) fn template(&mut self, pod: &Pod) -> Arc<PodTemplate> {
        let template = PodTemplate {
            labels: self.labels(&pod.labels),
            service_account: self.text(&pod.service_account),
            workload_name: self.text(&pod.workload_name),
            ports: self.ports(&pod.container_ports),
        };
        if let Some(known) = self.templates.get(&template) {
            return Arc::clone(known);
        }
        let made = Arc::new(template);
        self.templates.insert(Arc::clone(&made));
        made
    }

    /// The shared copy of what a workload has in common with its replicas.
    pub(super) fn workload(&mut self, template: WorkloadTemplate) -> Arc<WorkloadTemplate> {
        if let Some(known) = self.workloads.get(&template) {
            return Arc::clone(known);
        }
        let made = Arc::new(template);
        self.workloads.insert(Arc::clone(&made));
        made
    }

    fn ports(&mut self, ports: &[(Arc<str>, u16)]) -> Ports {
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

    /// A Service made of shared texts.
    pub(super) fn service(&mut self, service: KubeService) -> KubeService {
        let mut service = KubeService {
            labels: self.labels(&service.labels),
            annotations: self.labels(&service.annotations),
            selector: self.labels(&service.selector),
            ..service
        };
        service.meta.created = self.text(&service.meta.created);
        service.meta.namespace = Namespace::shared(self.text(&service.meta.namespace));
        service.ports.shrink_to_fit();
        for port in &mut service.ports {
            port.name = self.text(&port.name);
        }
        service
    }

    /// Drops what nobody else holds, if enough has come since the last time.
    pub(super) fn sweep(&mut self) {
        if self.len() < self.sweep_at.max(Self::SMALLEST_SWEEP) {
            return;
        }
        self.workloads.retain(|held| Arc::strong_count(held) > 1);
        self.templates.retain(|held| Arc::strong_count(held) > 1);
        self.labels.retain(|held| held.holders() > 1);
        self.ports.retain(|held| Arc::strong_count(held) > 1);
        self.texts.retain(|held| Arc::strong_count(held) > 1);
        self.sweep_at = 2 * self.len();
    }

    fn len(&self) -> usize {
        let shared = self.ports.len() + self.templates.len() + self.workloads.len();
        self.texts.len() + self.labels.len() + shared
    }
}
