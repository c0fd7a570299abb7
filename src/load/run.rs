//! One run: fill, connect, change, report.

use std::{
    process,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::args::{LoadArgs, Scope as ScopeArg};
use super::churn::{Churn, Churned, DOMAIN, cluster_of, mark};
use super::error::LoadError;
use super::floor::Arrivals;
use super::ledger::Ledger;
use super::markers::Markers;
use super::mesh::{Mesh, Shape};
use super::offender::Offence;
use super::progress::Bar;
use super::proxy::{Kind, Place, Proxy, Scope};
use super::report::{Report, round};
use super::server::Server;
use super::sidecar::{Shared, World, live, reconnect};
use super::usage::{self, Usage};
use super::walk::Variant;

/// Name of the threads that sidecars run on: their CPU time is told apart from
/// that of writing changes.
pub const SIDECAR_THREADS: &str = "sidecars";

/// Runs until all is done, or `stop`, which ends it with what was found so far.
/// Sidecars live on `sidecars`, a runtime whose threads have the name
/// [`SIDECAR_THREADS`]. There is no report where only clusters were to be
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
    let run = Run::new(args, server, mesh);
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
        let progress = |progress: super::mesh::Progress| {
            bar.set_length(progress.total);
            bar.set(progress.done);
        };
        mesh.populate(&progress).await?;
    }
    Ok(Some(mesh))
}

struct Run<'a> {
    args: &'a LoadArgs,
    shape: Shape,
    mesh: Option<Mesh>,
    world: Arc<World>,
    markers: Arc<Markers>,
}

/// Usage of the server, if its process is known, and of the sidecars.
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    server: Option<Usage>,
    client_cpu_s: f64,
    received: u64,
}

impl<'a> Run<'a> {
    fn new(args: &'a LoadArgs, server: Server, mesh: Option<Mesh>) -> Self {
        let shape = args.mesh.shape();
        let count = args.sidecars.count;
        let ledger = Ledger::new(count as usize, shape.clusters as usize);
        // Runs one after the other must not take each other's markers for
        // their own.
        let [tag, ..] = process::id().to_le_bytes();
        Self {
            args,
            shape,
            mesh,
            markers: Arc::new(Markers::new(tag)),
            world: Arc::new(World {
                server,
                variant: args.sidecars.variant(),
                ledger: Arc::new(ledger),
                shared: args.sidecars.connections.map(Shared::new),
                storms: tokio::sync::watch::Sender::new(()),
                nothing: args.offenders.subscribe_names,
            }),
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
        self.start_sidecars(&mut tasks, sidecars);
        let is_served = self.served(stop).await?;
        let connected = is_served.then(|| start.elapsed());
        self.settle(stop).await;
        self.start_offenders(&mut tasks, sidecars);
        let middle = self.costs()?;
        let floor = self.follow_floor(&mut tasks).await?;
        self.world.ledger.set_steady();
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
        let of_server =
            |pid| usage::of_process(pid).map_err(|source| LoadError::Process { pid, source });
        Ok(Costs {
            server: self.args.pid.map(of_server).transpose()?,
            client_cpu_s: usage::of_threads(process::id(), SIDECAR_THREADS),
            received: self.world.ledger.received.load(Relaxed),
        })
    }

    fn kind(&self, scope: ScopeArg) -> Arc<Kind> {
        let args = &self.args.sidecars;
        let scope = match scope {
            ScopeArg::All => Scope::Sent(args.hosts_with.as_str().into()),
            ScopeArg::Watched => {
                let services = 0..self.shape.services;
                let hosts = services.map(|service| self.shape.host(service, DOMAIN));
                let names = hosts.map(|host| cluster_of(&host).into_bytes().into_boxed_slice());
                Scope::Known(names.collect())
            }
        };
        Arc::new(Kind {
            variant: args.variant(),
            scope,
            watch: args.watch,
            namespace: args.sidecar_namespace.clone(),
            service_account: args.service_account.clone(),
        })
    }

    fn proxy(&self, kind: &Arc<Kind>, index: u32, offence: Option<Offence>) -> Proxy {
        let network = index % self.shape.clusters.max(1);
        let place = Place {
            index,
            network,
            offence,
        };
        Proxy::new(kind, &self.world.ledger, &self.markers, place)
    }

    fn start_sidecars(&self, tasks: &mut JoinSet<()>, runtime: &Handle) {
        let kind = self.kind(self.args.sidecars.scope);
        for index in 0..self.args.sidecars.count {
            let proxy = self.proxy(&kind, index, None);
            tasks.spawn_on(live(Arc::clone(&self.world), proxy), runtime);
        }
    }

    fn start_offenders(&self, tasks: &mut JoinSet<()>, runtime: &Handle) {
        let kind = self.kind(self.args.sidecars.scope);
        // Those that do not read never learn a name.
        let known = self.kind(ScopeArg::Watched);
        let mut index = self.args.sidecars.count;
        for (offence, count) in self.args.offenders.counts() {
            for _ in 0..count {
                let reads = !matches!(offence, Offence::Slow | Offence::Stuck);
                let proxy = self.proxy(if reads { &kind } else { &known }, index, Some(offence));
                index += 1;
                let world = Arc::clone(&self.world);
                if offence == Offence::Reconnects {
                    let rate = self.args.offenders.reconnect_rate;
                    tasks.spawn_on(reconnect(world, proxy, rate), runtime);
                } else {
                    tasks.spawn_on(live(world, proxy), runtime);
                }
            }
        }
    }

    /// Waits until all sidecars are served; false where it was stopped.
    async fn served(&self, stop: &CancellationToken) -> Result<bool, LoadError> {
        let ledger = &self.world.ledger;
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

    /// Waits until what was begun by connecting is over: nothing comes any more.
    async fn settle(&self, stop: &CancellationToken) {
        const QUIET: Duration = Duration::from_secs(1);
        const ROUNDS: usize = 10;
        let mut received = None;
        for _ in 0..ROUNDS {
            let now = Some(self.world.ledger.received.load(Relaxed));
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
            let (ledger, markers) = (&self.world.ledger, &self.markers);
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
        let churn = Churn::new(self.mesh.as_ref(), &self.world, &self.markers);
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
        let ledger = &self.world.ledger;
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
        let (args, ledger) = (self.args, &self.world.ledger);
        let endpoints = self.shape.endpoints.saturating_mul(self.shape.clusters);
        Report {
            proxies: args.sidecars.count,
            networks: self.shape.clusters,
            services: self.shape.services,
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

impl Report {
    fn set_costs(&mut self, before: Costs, middle: Costs, after: Costs) {
        let cpu = |from: Costs, to: Costs| Some(round(to.server?.cpu_s - from.server?.cpu_s));
        self.connect_cpu_s = cpu(before, middle);
        self.churn_cpu_s = cpu(middle, after);
        let per_write = |seconds: f64| round(seconds * 1e3 / as_float(self.writes.max(1)));
        self.churn_cpu_ms_per_write = self.churn_cpu_s.map(per_write);
        self.rss_mb_before = before.server.map(|usage| round(usage.rss_mb));
        self.rss_mb = after.server.map(|usage| round(usage.rss_mb));
        self.peak_mb = after.server.map(|usage| round(usage.peak_mb));
        let received = after.received.saturating_sub(middle.received);
        let client = after.client_cpu_s - middle.client_cpu_s;
        self.client_cpu_us_per_push =
            (received > 0).then(|| round(client * 1e6 / as_float(received)));
        self.client_connect_cpu_s = round(middle.client_cpu_s - before.client_cpu_s);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn as_float(count: u64) -> f64 {
    count as f64
}
