//! Starts what writes to clusters.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;

use super::App;
use crate::config::{Config, Source};
use crate::controllers::{self, Inputs, Metrics, Options, Pace};
use crate::identity::CertificateAuthority;
use crate::mesh::SnapshotReader;

/// Starts the controllers as a task of `app`: once the clusters are known, and
/// there is something to trust.
pub(super) fn start(app: &mut App, authority: CertificateAuthority, snapshots: SnapshotReader) {
    let Some(options) = options(app) else { return };
    let clients = app.clients.clone();
    let (ready, stop) = (app.ready.clone(), app.stop.clone());
    app.tasks.spawn("the controllers", async move {
        let begin = async {
            // Which namespaces count is known with the first snapshot.
            ready.cancelled().await;
            first_root(&authority).await
        };
        let Some(root) = stop.run_until_cancelled(begin).await else {
            return Ok(());
        };
        let (sender, root) = watch::channel(root);
        let inputs = Inputs {
            clients,
            root,
            snapshots,
        };
        tokio::select! {
            ended = controllers::run(options, inputs, stop) => Ok(ended?),
            () = follow_root(&authority, &sender) => Ok(()),
        }
    });
}

/// None without API servers: a folder of manifests is not written to.
fn options(app: &App) -> Option<Options> {
    let config: &Config = &app.config;
    let Source::Kube(source) = &config.source else {
        return None;
    };
    let metrics = Metrics::default();
    app.views
        .metrics
        .with(|registry| metrics.register(registry));
    let settings = &config.controllers;
    Some(Options {
        config_cluster: config.cluster_id.clone(),
        identity: identity(&settings.identity),
        revision: config.revision.clone(),
        system_namespace: Arc::clone(config.namespace.as_arc()),
        external: source.external,
        elects: settings.elects,
        pace: Pace {
            lease: settings.lease,
        },
        #[allow(clippy::disallowed_methods, reason = "the wall clock of locks")]
        clock: SystemTime::now,
        config_map: Arc::from(settings.root_cert_map.as_str()),
        metrics,
    })
}

async fn first_root(authority: &CertificateAuthority) -> Arc<str> {
    let mut changes = authority.subscribe();
    loop {
        if let Some(bundle) = authority.trust_bundle() {
            return Arc::from(bundle.pem());
        }
        // `authority` holds the sender, so this does not fail.
        let _ = changes.changed().await;
    }
}

async fn follow_root(authority: &CertificateAuthority, root: &watch::Sender<Arc<str>>) {
    let mut changes = authority.subscribe();
    loop {
        if let Some(bundle) = authority.trust_bundle() {
            root.send_if_modified(|held| {
                let differs = **held != *bundle.pem();
                if differs {
                    *held = Arc::from(bundle.pem());
                }
                differs
            });
        }
        let _ = changes.changed().await;
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
