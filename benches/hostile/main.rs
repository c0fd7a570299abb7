//! What clients with bad manners cost the others.
//!
//! A hundred sidecars on real connections watch 20 services; one of these
//! changes every 20 ms. Measured are the times from the publish to each sidecar,
//! in turns without and with each kind of offender beside them: what else the
//! machine does then meets both. Offenders have a thread of their own, so that no
//! sidecar waits for one to do its work; but that thread, the sidecars' and the
//! server's share the machine's cores.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may panic and print"
)]

mod client;
mod offender;

use std::{sync::Arc, time::Duration};

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use isthmus::server::Config;
use isthmus::testing::ads_server::AdsServer;
use isthmus::testing::ads_world::{FakeWorld, endpoint_change};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use client::{CDS, Client, EDS, SERVICES, host, name, names};
use offender::{OFFENDERS, Offender};

const SIDECARS: usize = 100;
const WATCHED: usize = 20;
/// Changes of one measurement, and measurements with each offender.
const CHANGES: usize = 250;
const ROUNDS: usize = 3;
const GAP: Duration = Duration::from_millis(20);

/// Times of publishes, and how long after them sidecars had the news.
#[derive(Default)]
struct Clock {
    published: Mutex<Vec<Instant>>,
    seen: Mutex<Vec<Duration>>,
}

impl Clock {
    fn see(&self, response: &DeltaDiscoveryResponse) {
        let now = Instant::now();
        for resource in &response.resources {
            let body = resource.resource.as_ref().map(|body| &*body.value);
            let body = String::from_utf8_lossy(body.unwrap_or_default());
            let number = body.rsplit('=').next().and_then(|n| n.parse().ok());
            let published = number.and_then(|n: usize| self.published.lock().get(n).copied());
            self.seen.lock().extend(published.map(|at| now - at));
        }
    }

    /// The 99th percentile since the last call, in milliseconds.
    fn take(&self) -> f64 {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        seen.sort();
        let index = seen.len() * 99 / 100;
        seen.get(index).map_or(0.0, |d| d.as_secs_f64() * 1e3)
    }
}

async fn sidecar(address: String, number: usize, clock: Arc<Clock>, up: mpsc::Sender<()>) {
    let client = Client::open(&address, &format!("good-{number}"), 1 << 20).await;
    let mut client = client.expect("a stream");
    client.subscribe(names(WATCHED)).await;
    while let Some(response) = client.next().await {
        clock.see(&response);
        if response.type_url == EDS.as_str() {
            let _ = up.try_send(());
        }
        client.answer(response, true).await;
    }
}

/// The server, who is measured, and where offenders run.
struct Scene {
    server: AdsServer,
    clock: Arc<Clock>,
    offenders: Runtime,
}

impl Scene {
    fn address(&self) -> String {
        self.server.address.to_string()
    }

    /// Connects the sidecars that behave.
    async fn sidecars(&self) -> JoinSet<()> {
        let mut sidecars = JoinSet::new();
        let (up, mut is_up) = mpsc::channel(SIDECARS);
        for n in 0..SIDECARS {
            sidecars.spawn(sidecar(
                self.address(),
                n,
                Arc::clone(&self.clock),
                up.clone(),
            ));
        }
        for _ in 0..SIDECARS {
            is_up.recv().await.expect("a sidecar");
        }
        sidecars
    }

    /// The 99th percentile of the sidecars while services change.
    async fn churn(&self) -> f64 {
        self.clock.take();
        let mut ticks = interval(GAP);
        for n in 0..CHANGES {
            ticks.tick().await;
            let service = n % WATCHED;
            let number = self.clock.published.lock().len();
            self.clock.published.lock().push(Instant::now());
            let host = host(service);
            self.server.change(endpoint_change(&[&host]), |world| {
                world.set(EDS, &name(service), &number.to_string());
            });
        }
        sleep(Duration::from_secs(1)).await;
        self.clock.take()
    }

    /// One measurement without and one with offenders, and their ratio.
    async fn round(&self, number: usize, offender: Offender, count: usize) -> [f64; 3] {
        let alone = self.churn().await;
        let mut acting = JoinSet::new();
        for n in 0..count {
            let who = format!("bad-{n}-{offender:?}-{number}");
            let act = offender.act(self.address(), who);
            acting.spawn_on(act, self.offenders.handle());
        }
        let beside = self.churn().await;
        acting.shutdown().await;
        [alone, beside, beside / alone]
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn runtime(threads: usize) -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

fn main() {
    let mut world = FakeWorld::default();
    for n in 0..SERVICES {
        world.set(CDS, &name(n), &"c".repeat(1000));
        world.set(EDS, &name(n), "endpoints");
    }
    let config = Config {
        reconnect_burst: Some(30),
        ..Config::default()
    };
    let [serving, sidecars, offenders] = [2, 1, 1].map(runtime);
    let scene = Scene {
        server: {
            let _inside = serving.enter();
            AdsServer::start(world, config).expect("listens")
        },
        clock: Arc::default(),
        offenders,
    };
    sidecars.block_on(async {
        let _sidecars = scene.sidecars().await;
        println!(
            "{:42} {:>9} {:>8} {:>6}  ratio of each round",
            "p99 in ms, medians", "alone", "beside", "ratio"
        );
        for (offender, count, what) in OFFENDERS {
            let mut rounds = Vec::new();
            for number in 0..ROUNDS {
                rounds.push(scene.round(number, offender, count).await);
            }
            let alone = median(rounds.iter().map(|[alone, ..]| *alone).collect());
            let beside = median(rounds.iter().map(|[_, beside, _]| *beside).collect());
            let ratio = median(rounds.iter().map(|[.., ratio]| *ratio).collect());
            let each: Vec<String> = rounds.iter().map(|[.., r]| format!("{r:.1}")).collect();
            let each = each.join(" ");
            println!("{what:42} {alone:9.2} {beside:8.2} {ratio:6.2}  {each}");
        }
    });
}
