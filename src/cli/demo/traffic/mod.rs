//! The second part: the same system on loopback addresses, with requests.

mod client;
mod loopback;
mod process;
mod system;
mod tokens;

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use tokio::time::{Instant, sleep};

use self::client::{Client, Log};
use self::loopback::Workload;
use self::system::System;
use super::{BAD, DIM, DemoArgs, GOOD, TITLE, until_interrupted};

/// How long requests go on after a change.
const WATCHED: Duration = Duration::from_secs(2);

/// Runs requests through three networks; whether all were answered.
pub(super) async fn show(args: &DemoArgs) -> Result<bool> {
    anstream::println!("{TITLE}The same system on loopback addresses, with requests{TITLE:#}\n");
    let started = Instant::now();
    let mut system = System::start(args)?;
    let well = until_interrupted(run(&mut system, started)).await;
    // Whatever happened: it leaves nothing behind.
    system.end().await;
    Ok(well?.unwrap_or(true))
}

async fn run(system: &mut System, started: Instant) -> Result<bool> {
    system.start_workloads().await?;
    let seconds = started.elapsed().as_secs_f64();
    anstream::println!(
        "  A control plane and {} Envoys are ready after {seconds:.1} s\n",
        system.proxies.len()
    );
    story(system).await
}

async fn story(system: &mut System) -> Result<bool> {
    show_certificates(system).await?;
    show_closed_gateways(system).await?;
    let client = Client::new(system.client()?);
    anstream::println!("{TITLE}sleep in network-c1 asks helloworld{TITLE:#}");
    show_ways(system);
    let mut all = Log::default();
    all.add(report(&client.ask(9).await));

    anstream::println!("\n{TITLE}helloworld in network-c2 stops{TITLE:#}");
    let (stopped, log) = client
        .while_doing(system.stop_helloworld("mdemo-cluster2"))
        .await;
    let stopped = stopped?;
    all.add(report(&log));
    all.add(report(&client.ask(8).await));

    anstream::println!("\n{TITLE}helloworld in network-c2 is back{TITLE:#}");
    let (started, log) = client.while_doing(system.start_helloworld(stopped)).await;
    started?;
    all.add(report(&log));
    let ((), log) = client.while_doing(sleep(WATCHED)).await;
    all.add(log);
    all.add(report(&client.ask(9).await));
    Ok(conclude(&all))
}

/// Every Envoy's identity, read from the certificate that it uses.
async fn show_certificates(system: &System) -> Result<()> {
    anstream::println!("{TITLE}Certificates that isthmus issued{TITLE:#}");
    let mut network = "";
    for proxy in &system.proxies {
        let workload = &proxy.workload;
        if workload.network != network {
            network = &workload.network;
            anstream::println!("  {network}");
        }
        let (address, app) = (workload.address, &workload.app);
        let identity = proxy.identity().await?;
        anyhow::ensure!(identity == workload.identity(), "{app} is {identity}");
        anstream::println!("    {address:<14} {app:<22} {DIM}{identity}{DIM:#}");
    }
    anstream::println!();
    Ok(())
}

/// What a gateway says to plain text.
async fn show_closed_gateways(system: &System) -> Result<()> {
    let gateways = system.proxies.iter().map(|proxy| &proxy.workload);
    for gateway in gateways.filter(|workload| workload.is_gateway()) {
        let at = (gateway.address, system.place.gateway).into();
        let said = client::plain(at).await?;
        anyhow::ensure!(said.is_empty(), "{at} answers plain text: {said}");
    }
    anstream::println!("{TITLE}A request in plain text to any gateway{TITLE:#}");
    anstream::println!("  is closed without an answer\n");
    Ok(())
}

/// Where the client's Envoy sends requests for each version.
fn show_ways(system: &System) {
    let workloads = || system.proxies.iter().map(|proxy| &proxy.workload);
    let own = workloads().find(|workload| workload.app == "sleep");
    for server in workloads().filter(|workload| workload.app == "helloworld") {
        let (version, network) = (&server.version, &server.network);
        let is_way = |other: &&Workload| other.is_gateway() && other.network == *network;
        if own.is_some_and(|own| own.network == *network) {
            let at = SocketAddr::from((server.address, system.place.service));
            anstream::println!("  {DIM}{version} directly, at {at}{DIM:#}");
        } else if let Some(gateway) = workloads().find(is_way) {
            let at = SocketAddr::from((gateway.address, system.place.gateway));
            anstream::println!(
                "  {DIM}{version} over mTLS through the gateway of {network}, {at}{DIM:#}"
            );
        }
    }
}

fn report(log: &Log) -> Log {
    anstream::println!("  {log}");
    log.clone()
}

fn conclude(all: &Log) -> bool {
    let (count, failed) = (all.count(), all.problems().count());
    if let Some(first) = all.problems().next() {
        anstream::println!("\n{BAD}{failed} of {count} requests failed{BAD:#}; the first: {first}");
    } else {
        anstream::println!("\n{GOOD}{count} requests, none failed{GOOD:#}");
    }
    failed == 0
}
