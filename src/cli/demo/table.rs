//! The first part: who sees what, at the scenario's own addresses.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use tokio::time::{Instant, timeout};

use super::observer::Observer;
use super::rows;
use super::scenario::Scenario;
use super::{BAD, DemoArgs, GOOD, TITLE, say};
use crate::app::App;

/// How long a change may take before the demo says that it did not arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows what each proxy sees of helloworld, and a change of it arriving;
/// whether all saw what they should.
pub(super) async fn show(args: &DemoArgs) -> Result<bool> {
    let scenario = Scenario::copy(&args.scenario)?;
    let app = App::start(super::discovery(&scenario)?.into_config()?)?;
    app.ready().await;
    let address = app
        .grpc_address()
        .context("there is no plain-text address")?;
    let mut observers = observers(&scenario, address).await?;
    say(format_args!(
        "{TITLE}helloworld, as each network's sidecar sees it{TITLE:#}\n"
    ))?;
    let well = show_start(&scenario, &mut observers).await?
        && scale_and_watch(&scenario, &mut observers, 2).await?;
    drop(observers);
    app.stop().await?;
    Ok(well)
}

async fn observers(scenario: &Scenario, control_plane: SocketAddr) -> Result<Vec<Observer>> {
    let proxies = scenario.proxies.iter().cloned();
    try_join_all(proxies.map(|proxy| Observer::open(proxy, control_plane))).await
}

async fn show_start(scenario: &Scenario, observers: &mut [Observer]) -> Result<bool> {
    let started = Instant::now();
    let arrivals = arrivals(scenario, observers, started).await?;
    for (observer, _) in observers.iter().zip(&arrivals) {
        let network = observer.proxy.text("NETWORK").unwrap_or("no network");
        let name = &observer.proxy.name;
        say(format_args!("  {TITLE}{network}{TITLE:#} ({name})"))?;
        say(format_args!("{}", rows::table(&observer.rows(scenario))))?;
    }
    report_missing(scenario, observers, &arrivals)
}

async fn scale_and_watch(
    scenario: &Scenario,
    observers: &mut [Observer],
    count: usize,
) -> Result<bool> {
    let cluster = scenario
        .clusters
        .last()
        .context("the scenario has no cluster")?;
    say(format_args!(
        "{TITLE}helloworld in {cluster} scaled to {count}{TITLE:#}"
    ))?;
    let changed = scenario.scale(cluster, count)?;
    let arrivals = arrivals(scenario, observers, changed).await?;
    for (observer, arrived) in observers.iter().zip(&arrivals) {
        let network = observer.proxy.text("NETWORK").unwrap_or("no network");
        if let Some(after) = arrived {
            let ms = after.as_secs_f64() * 1e3;
            say(format_args!(
                "\n  {TITLE}{network}{TITLE:#} after {GOOD}{ms:.1} ms{GOOD:#}"
            ))?;
            say(format_args!(
                "{}",
                rows::table(&observer.rows(scenario)).trim_end()
            ))?;
        }
    }
    say(format_args!(""))?;
    report_missing(scenario, observers, &arrivals)
}

/// How long after `since` each proxy saw what it should; none where it did not
/// in time.
async fn arrivals(
    scenario: &Scenario,
    observers: &mut [Observer],
    since: Instant,
) -> Result<Vec<Option<Duration>>> {
    let waits = observers.iter_mut().map(|observer| async {
        let expected = scenario.expected(&observer.proxy)?;
        match timeout(PATIENCE, observer.wait_for(&expected, scenario)).await {
            Ok(seen) => seen.map(|()| Some(since.elapsed())),
            Err(_) => Ok(None),
        }
    });
    try_join_all(waits).await
}

fn report_missing(
    scenario: &Scenario,
    observers: &[Observer],
    arrivals: &[Option<Duration>],
) -> Result<bool> {
    for (observer, _) in observers.iter().zip(arrivals).filter(|(_, a)| a.is_none()) {
        let name = &observer.proxy.name;
        say(format_args!(
            "{BAD}{name} does not see what it should after {PATIENCE:?}{BAD:#}"
        ))?;
        if let Ok(expected) = scenario.expected(&observer.proxy) {
            say(format_args!("  expected:\n{}", rows::table(&expected)))?;
        }
        say(format_args!(
            "  seen:\n{}",
            rows::table(&observer.rows(scenario))
        ))?;
    }
    Ok(arrivals.iter().all(Option::is_some))
}
