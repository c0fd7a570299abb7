//! Changes at a rate, and reconnect storms among them.

use std::time::Duration;

use futures::{
    StreamExt, TryStreamExt,
    future::{BoxFuture, FutureExt},
    stream::{self, FuturesUnordered},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::args::ChurnArgs;
use super::ledger::Ledger;
use super::markers::Markers;
use super::mesh::{Change, Mesh, MeshError};
use super::progress::Bar;
use super::report::Storm;
use super::sidecar::World;
use super::watch_set::id;

/// Writes that an API server may be busy with at once.
const IN_FLIGHT: usize = 64;

/// The cluster that is changed, from 0.
pub(super) const CLUSTER: u32 = 0;

/// Gives each service that a run changes a first marker: from then on a change
/// replaces one address by another and nothing else of what proxies see.
pub(super) async fn mark(
    mesh: &Mesh,
    markers: &Markers,
    args: &ChurnArgs,
) -> Result<(), MeshError> {
    let bar = Bar::new("marking", 0);
    let changes = changed(mesh, args);
    bar.set_length(u64::from(changes));
    let mark = |service| {
        mesh.change(Change {
            cluster: CLUSTER,
            service,
            marker: Some(markers.first(service)),
        })
    };
    let mut marked = stream::iter(0..changes)
        .map(mark)
        .buffer_unordered(IN_FLIGHT);
    let mut count = 0;
    while let Some(()) = marked.try_next().await? {
        count += 1;
        bar.set(count);
    }
    Ok(())
}

/// Services that a run changes: the first so many.
fn changed(mesh: &Mesh, args: &ChurnArgs) -> u32 {
    args.changes().min(mesh.shape().services)
}

/// How many first markers the sidecars of the changed network will see.
pub(super) fn marks(mesh: &Mesh, ledger: &Ledger, args: &ChurnArgs) -> u64 {
    let services = 0..changed(mesh, args);
    services
        .map(|service| watching(ledger, mesh, service))
        .sum()
}

/// Makes the changes of one run.
pub(super) struct Churn<'a> {
    mesh: Option<&'a Mesh>,
    world: &'a World,
    markers: &'a Markers,
    in_flight: FuturesUnordered<BoxFuture<'a, Result<u64, MeshError>>>,
    storm: Option<Instant>,
    done: Churned,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Churned {
    pub(super) writes: u64,
    pub(super) failed: u64,
    pub(super) error: Option<MeshError>,
    /// Sidecars of the changed network that watched what was changed.
    pub(super) expected: u64,
    pub(super) storms: Vec<Storm>,
}

impl<'a> Churn<'a> {
    pub(super) fn new(mesh: Option<&'a Mesh>, world: &'a World, markers: &'a Markers) -> Self {
        Self {
            mesh,
            world,
            markers,
            in_flight: FuturesUnordered::new(),
            storm: None,
            done: Churned::default(),
        }
    }

    /// Makes changes for as long as told, or until it is stopped.
    pub(super) async fn run(
        mut self,
        args: &ChurnArgs,
        stop: &CancellationToken,
        bar: &Bar,
    ) -> Churned {
        let start = Instant::now();
        let end = start + args.duration;
        let mut changes = every(Some(args.rate).filter(|rate| *rate > 0.0).map(period));
        let mut storms = every(args.reconnect_storm);
        let ledger = &self.world.ledger;
        loop {
            let has_room = self.in_flight.len() < IN_FLIGHT && self.mesh.is_some();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(end) => break,
                () = tick(&mut changes), if has_room => self.change(),
                Some(result) = self.in_flight.next() => self.written(result),
                () = tick(&mut storms), if self.storm.is_none() => self.begin_storm(),
                () = ledger.all_served(), if self.storm.is_some() => self.end_storm(),
            }
            bar.set(start.elapsed().as_secs());
        }
        self.finish(stop).await
    }

    fn change(&mut self) {
        let Some(mesh) = self.mesh else { return };
        let ledger = &self.world.ledger;
        let number = ledger.writes(Instant::now());
        let service = number % mesh.shape().services.max(1);
        let change = Change {
            cluster: CLUSTER,
            service,
            marker: Some(self.markers.address(number)),
        };
        let watching = watching(ledger, mesh, service);
        let write = async move { mesh.change(change).await.map(|()| watching) };
        self.done.writes += 1;
        self.in_flight.push(write.boxed());
    }

    fn written(&mut self, result: Result<u64, MeshError>) {
        match result {
            Ok(watching) => self.done.expected += watching,
            Err(error) => {
                self.done.failed += 1;
                self.done.error = Some(error);
            }
        }
    }

    fn begin_storm(&mut self) {
        self.storm = Some(Instant::now());
        self.world.ledger.next_round();
        self.world.storms.send_replace(());
    }

    fn end_storm(&mut self) {
        if let Some(start) = self.storm.take() {
            self.done.storms.push(Storm {
                all_served_s: Some(start.elapsed().as_secs_f64()),
            });
        }
    }

    /// Waits for writes under way, and for a storm to pass.
    async fn finish(mut self, stop: &CancellationToken) -> Churned {
        const PATIENCE: Duration = Duration::from_secs(30);
        let in_time = sleep(PATIENCE);
        tokio::pin!(in_time);
        while !self.in_flight.is_empty() || self.storm.is_some() {
            tokio::select! {
                Some(result) = self.in_flight.next() => self.written(result),
                () = self.world.ledger.all_served(), if self.storm.is_some() => self.end_storm(),
                () = stop.cancelled() => break,
                () = &mut in_time => break,
            }
        }
        if self.storm.is_some() {
            self.done.storms.push(Storm { all_served_s: None });
        }
        self.done
    }
}

/// Sidecars of the changed network that watch a service.
fn watching(ledger: &Ledger, mesh: &Mesh, service: u32) -> u64 {
    let cluster = cluster_of(&mesh.shape().host(service, DOMAIN));
    ledger.watching(CLUSTER as usize, id(cluster.as_bytes()))
}

/// The DNS domain of a mesh that did not choose another.
pub(super) const DOMAIN: &str = "cluster.local";

/// Envoy's name of a service's cluster.
pub(super) fn cluster_of(host: &str) -> String {
    format!("outbound|80||{host}")
}

fn period(rate: f64) -> Duration {
    Duration::from_secs_f64(1.0 / rate)
}

/// The first tick is a period away: nothing comes with the start.
fn every(period: Option<Duration>) -> Option<Interval> {
    let period = period.filter(|period| !period.is_zero())?;
    let mut ticks = interval_at(Instant::now() + period, period);
    // What was missed is not made good by a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    Some(ticks)
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
