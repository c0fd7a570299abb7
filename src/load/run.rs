//! One run: fill, connect, change, report.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::args::LoadArgs;
use super::cast::Cast;
use super::churn::{Churn, Churned, mark, marks};
use super::costs::{Costs, as_float};
use super::error::LoadError;
use super::floor::Arrivals;
use super::mesh::{Mesh, Progress};
use super::progress::Bar;
use super::report::{Report, round};
use super::server::Server;
use super::walk::Variant;

/// Runs until all is done, or `stop`, which ends it with what was found so far.
/// Sidecars live on `sidecars`, a runtime whose threads have the name
/// [`super::SIDECAR_THREADS`]. There is no report where only clusters were to be
/// filled.
pub async fn run(
    args: &LoadArgs,
    sidecars: &Handle,
    stop: &CancellationToken,
) -> Result<Option<Report>, LoadError> {
    let mesh = tokio::select! {
        mesh = open_mesh(args) => mesh?,
        () = stop.cancelled() => return Err(LoadError::Stopped),
    };
    if args.mesh.populate_only {
        return Ok(None);
    }
    let server = Server::open(&args.server).await?;
    server.probe().await?;
    let cast = Cast::new(args, server);
    let run = Run { args, mesh, cast };
    run.prepare(stop).await?;
    run.measure(sidecars, stop).await.map(Some)
}

async fn open_mesh(args: &LoadArgs) -> Result<Option<Mesh>, LoadError> {
    let fills = args.mesh.populate || args.mesh.populate_only;
    let Some(source) = args.mesh.source() else {
        return if fills {
            Err(LoadError::NothingToPopulate)
        } else {
            Ok(None)
        };
    };
    let mesh = Mesh::open(source, args.mesh.shape()).await?;
    if fills {
        let bar = Bar::new("filling", 0);
        let progress = |progress: Progress| {
            bar.set_length(progress.total);
            bar.set(progress.done);
        };
        mesh.populate(&progress).await?;
    }
    Ok(Some(mesh))
}

struct Run<'a> {
    args: &'a LoadArgs,
    mesh: Option<Mesh>,
    cast: Cast<'a>,
}

impl Run<'_> {
    /// Brings the clusters into the state that changes start from.
    async fn prepare(&self, stop: &CancellationToken) -> Result<(), LoadError> {
        let Some(mesh) = &self.mesh else {
            return Ok(());
        };
        tokio::select! {
            marked = mark(mesh, &self.cast.markers, &self.args.churn) => marked.map_err(LoadError::Unfilled),
            () = stop.cancelled() => Err(LoadError::Stopped),
        }
    }

    async fn measure(
        self,
        sidecars: &Handle,
        stop: &CancellationToken,
    ) -> Result<Report, LoadError> {
        let before = self.costs()?;
        let mut tasks = JoinSet::new();
        let start = Instant::now();
        self.cast.start_sidecars(&mut tasks, sidecars);
        let is_served = self.served(stop).await?;
        let connected = is_served.then(|| start.elapsed());
        self.all_marked(stop).await;
        self.settle(stop).await;
        self.cast.start_offenders(&mut tasks);
        let middle = self.costs()?;
        let floor = self.follow_floor(&mut tasks).await?;
        self.cast.world.ledger.set_steady();
        let churned = self.churn(stop).await?;
        let after = self.costs()?;
        drop(tasks);
        let mut report = self.report(&churned);
        report.connect_all_s = connected.map(|time| round(time.as_secs_f64()));
        report.api_watch_ms = floor.percentiles();
        report.interrupted = stop.is_cancelled();
        report.set_costs(before, middle, after);
        Ok(report)
    }

    fn costs(&self) -> Result<Costs, LoadError> {
        Costs::read(self.args.pid, self.cast.world.ledger.received.load(Relaxed))
    }

    /// Waits until all sidecars are served; false where it was stopped.
    async fn served(&self, stop: &CancellationToken) -> Result<bool, LoadError> {
        let ledger = &self.cast.world.ledger;
        let args = &self.args.sidecars;
        let bar = Bar::new("connecting", u64::from(args.count));
        let mut look = interval(Duration::from_millis(100));
        let wait = async {
            loop {
                tokio::select! {
                    biased;
                    () = ledger.all_served() => return true,
                    () = stop.cancelled() => return false,
                    _ = look.tick() => bar.set(ledger.count_served() as u64),
                }
            }
        };
        let not_served = |_| LoadError::NotServed {
            served: ledger.count_served(),
            sidecars: args.count,
            seconds: args.patience.as_secs(),
            reason: ledger.last_end().map_or_else(String::new, |end| {
                format!("; the last stream ended so: {end}")
            }),
            hosts: args.hosts_with.clone(),
        };
        timeout(args.patience, wait).await.map_err(not_served)
    }

    /// Waits until the sidecars have what was written before they connected:
    /// a busy server may not have sent it.
    async fn all_marked(&self, stop: &CancellationToken) {
        const LOOK: Duration = Duration::from_millis(100);
        const LOOKS: usize = 300;
        let Some(mesh) = &self.mesh else { return };
        let ledger = &self.cast.world.ledger;
        let expected = marks(mesh, ledger, &self.args.churn);
        for _ in 0..LOOKS {
            if ledger.marked.load(Relaxed) >= expected || stop.is_cancelled() {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Waits until what was begun by connecting is over: nothing comes any more.
    async fn settle(&self, stop: &CancellationToken) {
        const QUIET: Duration = Duration::from_secs(1);
        const ROUNDS: usize = 10;
        let mut received = None;
        for _ in 0..ROUNDS {
            let now = Some(self.cast.world.ledger.received.load(Relaxed));
            if now == received || stop.is_cancelled() {
                return;
            }
            received = now;
            sleep(QUIET).await;
        }
    }

    async fn follow_floor(&self, tasks: &mut JoinSet<()>) -> Result<Arrivals, LoadError> {
        let arrivals = Arrivals::default();
        let floor = match &self.mesh {
            Some(mesh) => mesh.watch_floor().await?,
            None => None,
        };
        if let Some(floor) = floor {
            let (ledger, markers) = (&self.cast.world.ledger, &self.cast.markers);
            let follow = arrivals.clone();
            tasks.spawn(follow.follow(floor, Arc::clone(ledger), Arc::clone(markers)));
        }
        Ok(arrivals)
    }

    async fn churn(&self, stop: &CancellationToken) -> Result<Churned, LoadError> {
        let args = &self.args.churn;
        if stop.is_cancelled() {
            return Ok(Churned::default());
        }
        let bar = Bar::new("changing, seconds", args.duration.as_secs());
        let churn = Churn::new(self.mesh.as_ref(), &self.cast.world, &self.cast.markers);
        let mut churned = churn.run(args, stop, &bar).await;
        if churned.failed > 0
            && churned.failed == churned.writes
            && let Some(error) = churned.error.take()
        {
            return Err(LoadError::NoChange(error));
        }
        if churned.writes > 0 {
            self.all_delivered(churned.expected, stop).await;
        }
        Ok(churned)
    }

    /// Waits until all has arrived, and then for what nobody waits for. A
    /// server that merges changes delivers fewer: then until it is quiet.
    async fn all_delivered(&self, expected: u64, stop: &CancellationToken) {
        const LOOK: Duration = Duration::from_millis(100);
        const QUIET: Duration = Duration::from_secs(5);
        let ledger = &self.cast.world.ledger;
        let mut last = (ledger.received.load(Relaxed), Instant::now());
        while ledger.deliveries() < expected && last.1.elapsed() < QUIET && !stop.is_cancelled() {
            sleep(LOOK).await;
            let received = ledger.received.load(Relaxed);
            if received != last.0 {
                last = (received, Instant::now());
            }
        }
        self.settle(stop).await;
    }

    fn report(&self, churned: &Churned) -> Report {
        let (args, ledger) = (self.args, &self.cast.world.ledger);
        let endpoints = self
            .cast
            .shape
            .endpoints
            .saturating_mul(self.cast.shape.clusters);
        Report {
            proxies: args.sidecars.count,
            networks: self.cast.shape.clusters,
            services: self.cast.shape.services,
            endpoints_per_service: endpoints,
            watch: args.sidecars.watch,
            protocol: match args.sidecars.variant() {
                Variant::Delta => "delta",
                Variant::Sotw => "sotw",
            },
            tls: args.server.tls_ca.is_some(),
            refused_streams: ledger.refused.load(Relaxed),
            lost_streams: ledger.lost.load(Relaxed),
            writes: churned.writes,
            failed_writes: churned.failed,
            rate: args.churn.rate,
            deliveries: ledger.deliveries(),
            expected_deliveries: churned.expected,
            latency_ms: ledger.latencies().percentiles(),
            pushes: ledger.responses.load(Relaxed),
            needless_pushes: ledger.needless.load(Relaxed),
            pushes_by_network: ledger.by_network(),
            bytes_mb: round(as_float(ledger.bytes.load(Relaxed)) / 1e6),
            storms: churned.storms.clone(),
            offenders: ledger.offences(),
            ..Report::default()
        }
    }
}
