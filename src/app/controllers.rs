//! Starts what writes to clusters.

use std::sync::Arc;

use tokio::sync::watch;

use super::{App, clock::now};
use crate::config::{Config, KubeSource};
use crate::controllers::{self, Inputs, Metrics, Options, Pace};
use crate::mesh::SnapshotReader;
use crate::registry::kube::ApiClients;

/// Starts the controllers as a task of `app`. `root` is what proxies are to
/// trust, as it changes.
pub(super) fn start(
    app: &mut App,
    source: &KubeSource,
    clients: ApiClients,
    mut root: watch::Receiver<Arc<str>>,
    snapshots: SnapshotReader,
) {
    let metrics = Metrics::default();
    let register = |registry: &mut _| metrics.register(registry);
    app.views.metrics.with(register);
    let options = options(&app.config, source, metrics);
    let (ready, stop) = (app.ready.clone(), app.stop.clone());
    app.tasks.spawn("the controllers", async move {
        // Which namespaces count is known with the first snapshot, and the root
        // with the first serving certificate.
        let known = async {
            ready.cancelled().await;
            root.wait_for(|root| !root.is_empty()).await.is_ok()
        };
        if stop.run_until_cancelled(known).await != Some(true) {
            return Ok(());
        }
        let inputs = Inputs {
            clients,
            root,
            snapshots,
        };
        Ok(controllers::run(options, inputs, stop).await?)
    });
}

fn options(config: &Config, source: &KubeSource, metrics: Metrics) -> Options {
    let settings = &config.controllers;
    Options {
        config_cluster: config.cluster_id.clone(),
        identity: identity(&settings.identity),
        revision: config.revision.clone(),
        system_namespace: Arc::from(&*config.namespace),
        external: source.external,
        elects: settings.elects,
        pace: Pace {
            lease: settings.lease,
        },
        clock: now,
        config_map: Arc::from(settings.root_cert_map.as_str()),
        metrics,
    }
}

/// istiod calls a process without a pod `unknown-<host>`; two on one host must
/// not take each other's lock for their own.
fn identity(pod_name: &str) -> String {
    if !pod_name.is_empty() {
        return pod_name.to_owned();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("unknown-{}-{}", host.trim(), std::process::id())
}
