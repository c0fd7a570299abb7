//! Wires the modules, owns every task, drains on shutdown.

mod check;
mod clock;
mod controllers;
mod identity;
mod listen;
mod secure;
mod sources;
mod tasks;
mod writer;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{field::display, info, warn};

pub use self::check::{Findings, check};
use self::secure::{Served, Sockets};
use self::tasks::{Task, Tasks};
use self::writer::{Flush, WriterLoop};
use crate::admin::{self, Views};
use crate::config::{Config, ListenAddress};
use crate::mesh::{Index, SnapshotReader, Writer};
use crate::registry::dns;
use crate::registry::kube::ApiClients;
use crate::telemetry::{Readiness, Registry};

/// Batches of events that may wait for the writer; a source that is faster
/// waits in turn.
const EVENT_QUEUE: usize = 1024;

/// A running control plane.
#[derive(Debug)]
pub struct App {
    config: Config,
    /// Where ADS is served in plain text, and where over TLS.
    addresses: [Option<SocketAddr>; 2],
    views: Views,
    /// API clients of the clusters; none without Kubernetes.
    clients: ApiClients,
    stop: CancellationToken,
    /// Cancelled once ADS is open.
    ready: CancellationToken,
    tasks: Tasks,
}

impl App {
    /// Starts everything: listeners at once, discovery as soon as the clusters
    /// are known.
    pub fn start(config: Config) -> Result<Self> {
        // One TLS provider for the process; a second start keeps the first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        warn_of(&config);
        let sockets = Sockets::bind(&config)?;
        let mut app = Self {
            addresses: sockets.addresses()?,
            views: Views {
                readiness: Readiness::default(),
                metrics: Registry::default(),
            },
            clients: ApiClients::default(),
            stop: CancellationToken::new(),
            ready: CancellationToken::new(),
            tasks: Tasks::default(),
            config,
        };
        let starting = app.views.readiness.block("the first snapshot");
        app.serve_pages()?;
        let (snapshots, flushes, synced) = app.ingest()?;
        let identity = identity::start(&mut app, &snapshots)?;
        let open = Arc::new(AtomicBool::new(false));
        let served = Served {
            snapshots,
            ready: Arc::clone(&open),
            clients: app.clients.clone(),
            identity,
        };
        secure::serve(&mut app, sockets, served)?;
        let ready = app.ready.clone();
        app.tasks.spawn_once("the first snapshot", async move {
            first_snapshot(synced, flushes).await?;
            open.store(true, Ordering::Relaxed);
            drop(starting);
            ready.cancel();
            info!("ready");
            Ok(())
        });
        let [grpc, secure] = app.addresses.map(|address| address.map(display));
        info!(grpc, secure, cluster = %app.config.cluster_id, "isthmus started");
        Ok(app)
    }

    /// Where ADS is served in plain text, if it is.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        let [plaintext, _] = self.addresses;
        plaintext
    }

    /// Where ADS and certificates are served over TLS, if they are.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        let [_, secure] = self.addresses;
        secure
    }

    /// Waits until ADS is open.
    pub async fn ready(&self) {
        self.ready.cancelled().await;
    }

    /// Runs until `stop` resolves, then drains; an error if a task ends first.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        tokio::select! {
            () = stop => self.stop().await,
            error = self.tasks.first_end() => Err(error),
        }
    }

    /// Tells all streams to end and waits for them, at most the configured time.
    pub async fn stop(self) -> Result<()> {
        info!("stopping");
        self.stop.cancel();
        timeout(self.config.shutdown, self.tasks.finish())
            .await
            .unwrap_or(Ok(()))
    }

    /// Starts the writer and all that feeds it.
    fn ingest(&mut self) -> Result<(SnapshotReader, mpsc::Sender<Flush>, Synced)> {
        let (events, received) = mpsc::channel(EVENT_QUEUE);
        let (flushes, flush_requests) = mpsc::channel(1);
        let (hostnames, wanted) = watch::channel(std::collections::BTreeSet::new());
        let (writer, snapshots) = Writer::new();
        let features = self.config.features.clone();
        let resolves = features.resolve_hostname_gateways;
        let writer = WriterLoop {
            index: Index::new(self.config.cluster_id.clone(), features),
            writer,
            events: received,
            flushes: flush_requests,
            hostnames,
            debounce: self.config.debounce,
        };
        let stop = self.stop.clone();
        self.tasks.spawn("the writer", async move {
            writer.run().await;
            // It ends when its last source does, and sources end at a stop.
            anyhow::ensure!(stop.is_cancelled(), "the writer ended");
            Ok(())
        });
        if resolves {
            let lookup = dns::DnsLookup::system()?;
            let names = dns::run(
                self.config.cluster_id.clone(),
                lookup,
                wanted,
                events.clone(),
            );
            self.spawn_until_stop("the resolver", async {
                names.await;
                Ok(())
            });
        }
        let synced = sources::start(self, events)?;
        Ok((snapshots, flushes, synced))
    }

    fn serve_pages(&mut self) -> Result<()> {
        let listen = &self.config.listen;
        let pages = [
            (listen.http, "--http-addr"),
            (listen.monitoring, "--monitoring-addr"),
        ];
        let bound = pages
            .into_iter()
            .filter_map(|(address, flag)| Some((address?, flag)));
        let bind = |(address, flag): (ListenAddress, _)| listen::bind(address, flag);
        for listener in bound.map(bind).collect::<Result<Vec<_>>>()? {
            let stop = self.stop.clone().cancelled_owned();
            let serve = admin::serve(listener, self.views.clone(), stop);
            self.tasks.spawn("the pages", async { Ok(serve.await?) });
        }
        Ok(())
    }

    /// A task that has nothing to drain: it ends where it stands.
    fn spawn_until_stop(&mut self, name: &'static str, task: impl Task) {
        let stop = self.stop.clone();
        self.tasks.spawn(name, async move {
            stop.run_until_cancelled(task).await.unwrap_or(Ok(()))
        });
    }
}

/// Tells what was asked for and is not done.
fn warn_of(config: &Config) {
    if !config.unused.is_empty() {
        let settings = config.unused.join(", ");
        warn!(%settings, "settings of istiod's that have no effect here");
    }
    for sentence in &config.missing {
        warn!("{sentence}");
    }
}

/// Resolves once every source has sent what exists.
type Synced = futures::future::BoxFuture<'static, ()>;

/// Waits until all that the sources had to tell is published. ADS stays closed
/// that long: an empty answer would delete what proxies hold (xDS rule 44).
async fn first_snapshot(synced: Synced, flushes: mpsc::Sender<Flush>) -> Result<()> {
    synced.await;
    let (flush, published) = oneshot::channel();
    flushes.send(flush).await.context("the writer is gone")?;
    published.await.context("the writer is gone")
}
