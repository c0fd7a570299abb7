//! The mesh `ConfigMap` (`istio`, or `istio-<revision>`) of a cluster.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use tracing::warn;

use super::{
    metrics::KubeMetrics,
    objects::Outlet,
    status::Progress,
    watch::{Closed, Sink},
};
use crate::manifest::Raw;
use crate::manifest::mesh_config::{self, MeshError, Settings};
use crate::manifest::mesh_networks;
use crate::mesh::{Change, Event};

/// What a cluster's `ConfigMap` is read for.
#[derive(Clone)]
pub(crate) enum MeshRole {
    /// Mesh settings, each unless a file has them.
    Config {
        /// Read `mesh`.
        mesh: bool,
        /// Read `meshNetworks`.
        networks: bool,
        /// DNS suffix of Kubernetes services.
        domain: Arc<str>,
    },
    /// The trust domain of a remote cluster's service accounts, nothing else
    /// (split-horizon §2).
    Remote,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct TrustDomain {
    #[serde(default)]
    trust_domain: Option<String>,
}

/// Reads the `ConfigMap`. A text that cannot be read changes nothing; one that
/// is not there means the defaults, as in istiod.
pub(super) struct MeshSink {
    pub role: MeshRole,
    pub progress: Progress,
    pub metrics: KubeMetrics,
    pub outlet: Outlet,
    pub pending: Vec<Change>,
    /// The list that is under way holds it.
    pub found: bool,
}

impl MeshSink {
    fn read(&mut self, json: &str) {
        match serde_json::from_str::<ConfigMap>(json) {
            Ok(map) => self.apply(&map.data.unwrap_or_default()),
            Err(_) => self.refused("data", "its values must be text"),
        }
    }

    fn apply(&mut self, data: &BTreeMap<String, String>) {
        let mesh = data.get("mesh").map_or("", String::as_str);
        let networks = data.get("meshNetworks").map_or("", String::as_str);
        match self.role.clone() {
            MeshRole::Config {
                mesh: read_mesh,
                networks: read_networks,
                domain,
            } => {
                if read_mesh {
                    self.push(
                        "mesh",
                        mesh_config::parse(mesh, &domain),
                        Change::MeshConfig,
                    );
                }
                if read_networks {
                    let parsed = mesh_networks::parse(networks);
                    self.push("meshNetworks", parsed, Change::MeshNetworks);
                }
            }
            MeshRole::Remote => match trust_domain(mesh) {
                Ok(domain) => self.pending.push(Change::TrustDomain(domain)),
                Err(error) => self.refused("mesh", &error),
            },
        }
    }

    fn push<T>(
        &mut self,
        key: &str,
        parsed: Result<Settings<T>, MeshError>,
        change: impl Fn(Arc<T>) -> Change,
    ) {
        match parsed {
            Ok(settings) => {
                for warning in &settings.warnings {
                    let cluster = self.progress.cluster();
                    warn!(%cluster, key, warning, "a part of the mesh ConfigMap is not used");
                }
                self.pending.push(change(Arc::new(settings.value)));
            }
            Err(error) => self.refused(key, &error.to_string()),
        }
    }

    fn events(&mut self) -> Vec<Event> {
        let cluster = self.progress.cluster();
        let pending = std::mem::take(&mut self.pending).into_iter();
        let events = pending.map(|change| Event {
            cluster: cluster.clone(),
            change,
        });
        events.collect()
    }

    fn refused(&self, key: &str, error: &str) {
        let cluster = self.progress.cluster();
        warn!(%cluster, key, error, "the mesh ConfigMap cannot be read; the last good settings stay");
        self.metrics.invalid(cluster, self.progress.name());
    }
}

fn trust_domain(mesh: &str) -> Result<Option<Arc<str>>, String> {
    if mesh.trim().is_empty() {
        return Ok(None);
    }
    let read: Option<TrustDomain> = yaml_serde::from_str(mesh).map_err(|e| e.to_string())?;
    let domain = read.unwrap_or_default().trust_domain;
    Ok(domain.filter(|d| !d.is_empty()).map(Arc::from))
}

impl Sink for MeshSink {
    fn begin(&mut self) {
        self.pending.clear();
        self.found = false;
    }

    fn listed(&mut self, object: Raw<'_>) {
        self.found = true;
        self.read(object.json());
    }

    async fn complete(&mut self) -> Result<(), Closed> {
        if !self.found {
            self.apply(&BTreeMap::new());
        }
        let events = self.events();
        let listed = || self.progress.listed(usize::from(self.found));
        self.outlet.send_list(events, listed).await
    }

    fn applied(&mut self, object: Raw<'_>, _added: bool) {
        self.read(object.json());
    }

    fn deleted(&mut self, _object: Raw<'_>) {
        self.apply(&BTreeMap::new());
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        if !self.outlet.is_open() {
            return Ok(());
        }
        let events = self.events();
        self.outlet.send(events).await
    }
}
