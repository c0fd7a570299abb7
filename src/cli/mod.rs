//! The commands of `isthmus`.

mod agent;
mod demo;
mod descriptors;
mod discovery;
mod helloworld;
mod load;
mod parse;
mod replay;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::demo::DemoArgs;
pub use self::helloworld::HelloworldArgs;
pub use self::replay::ReplayArgs;
use crate::config::{AgentArgs, DiscoveryArgs};
use crate::load::LoadArgs;
use crate::manifest::{self, Kind};

/// Multi-cluster, multi-network xDS control plane.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve discovery to Envoy; takes istiod's flags and environment
    Discovery(Box<DiscoveryArgs>),
    /// Check flags, files and manifests as discovery would read them, and exit
    Check(Box<DiscoveryArgs>),
    /// Run an Envoy beside a workload or as a gateway; takes pilot-agent's flags and environment
    Agent(Box<AgentArgs>),
    /// Print the custom resource definitions that isthmus reads
    Crds,
    /// Answer GET /hello with a version, as the sample service of Istio's guides
    #[command(disable_version_flag = true)]
    Helloworld(HelloworldArgs),
    /// Answer as the API servers of a mesh of any size, for load runs
    #[command(disable_version_flag = true)]
    Replay(ReplayArgs),
    /// Show three networks with a real Envoy in each, and a change arriving
    Demo(DemoArgs),
    /// Measure an ADS server: simulated sidecars, changes, and how long they take to arrive
    Load(Box<LoadArgs>),
}

fn crds() -> ExitCode {
    let kinds = Kind::all((manifest::MCS_GROUP, manifest::MCS_VERSION));
    anstream::print!("{}", manifest::crds(&kinds));
    ExitCode::SUCCESS
}

/// Runs the command line and tells the exit status.
pub fn run() -> ExitCode {
    let result = match parse::parse::<Cli>().command {
        Command::Discovery(args) => discovery::run(*args),
        Command::Check(args) => discovery::check(*args),
        Command::Agent(args) => agent::run(*args),
        Command::Helloworld(args) => helloworld::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Crds => Ok(crds()),
        Command::Demo(args) => demo::run(&args),
        Command::Load(args) => load::run(&args),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            anstream::eprintln!("isthmus: {error:#}");
            ExitCode::FAILURE
        }
    }
}
