//! `isthmus check`: reads all that discovery would read, once.

use std::fmt;

use anyhow::Result;
use futures::future::{join_all, try_join_all};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use super::secure;
use super::sources::{self, FileSource};
use crate::config::{Config, Source};
use crate::mesh::{Event, Index};
use crate::registry::kube;

/// What was found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Findings {
    /// Clusters are API servers, which a check does not ask.
    pub unasked: bool,
    /// Manifests, or parts of them, that could not be read; each was logged.
    pub refused: u64,
    /// Services.
    pub services: usize,
    /// Endpoints of all services.
    pub endpoints: usize,
    /// Endpoints that wait for a pod that is not there.
    pub pending: usize,
    /// Network gateways.
    pub gateways: usize,
    /// Objects without effect, with their cluster, and why.
    pub ignored: Vec<String>,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            unasked,
            refused,
            services,
            endpoints,
            pending,
            gateways,
            ignored,
        } = self;
        for object in ignored {
            writeln!(f, "without effect: {object}")?;
        }
        if *unasked {
            writeln!(f, "flags and kubeconfig read; no API server was asked")?;
        } else {
            writeln!(
                f,
                "{services} services, {endpoints} endpoints, {gateways} network gateways"
            )?;
        }
        if *pending > 0 {
            writeln!(
                f,
                "{pending} endpoints name a pod that is missing or not ready"
            )?;
        }
        match refused {
            0 => write!(f, "no problem found"),
            n => write!(f, "{n} parts could not be read; see the warnings above"),
        }
    }
}

/// Reads settings files and folders, or makes the client of the config cluster.
/// An error is one that would end `isthmus discovery`.
pub async fn check(config: &Config) -> Result<Findings> {
    super::warn_of(config);
    super::identity::plugged_in(&config.identity)?;
    secure::rule(config)?;
    let (events, received) = mpsc::channel(super::EVENT_QUEUE);
    let refused = Counter::default();
    let output = sources::output(config, events, refused.clone());
    let mut sources = sources::settings_files(config, &output);
    match &config.source {
        Source::Kube(source) => kube::check_client(source.kubeconfig.as_deref()).await?,
        Source::Files(folders) => sources.extend(sources::folders(config, folders, &output)),
    }
    let mut index = Index::new(config.cluster_id.clone(), config.features.clone());
    index.apply([sources::default_mesh(config)?]);
    read_all(sources, received, &mut index).await?;
    Ok(Findings {
        unasked: matches!(config.source, Source::Kube(_)),
        refused: refused.get(),
        ..findings(&index)
    })
}

/// Lets the sources run until each has told what exists.
async fn read_all(
    sources: Vec<FileSource>,
    mut received: mpsc::Receiver<Vec<Event>>,
    index: &mut Index,
) -> Result<()> {
    let (running, synced): (Vec<_>, Vec<_>) = sources
        .into_iter()
        .map(|source| (source.run, source.synced))
        .unzip();
    if running.is_empty() {
        return Ok(());
    }
    let (mut running, mut synced) = (try_join_all(running), join_all(synced));
    loop {
        tokio::select! {
            ended = &mut running => return ended.map(drop),
            _ = &mut synced => break,
            Some(events) = received.recv() => drop(index.apply(events)),
        }
    }
    while let Ok(events) = received.try_recv() {
        index.apply(events);
    }
    Ok(())
}

fn findings(index: &Index) -> Findings {
    let services: Vec<_> = index.snapshot().services().collect();
    let ignored = index.ignored().iter();
    let ignored = ignored.map(|((cluster, object), why)| format!("{object} of {cluster}: {why}"));
    let networks = services.first().map(|s| s.networks.iter().count());
    Findings {
        services: services.len(),
        endpoints: services.iter().map(|s| s.all_endpoints().count()).sum(),
        pending: index.pending_pods().values().sum(),
        gateways: networks.unwrap_or_default(),
        ignored: ignored.collect(),
        ..Findings::default()
    }
}
