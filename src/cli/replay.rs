//! `isthmus replay`: API servers of a mesh that is not there, for load runs
//! larger than a machine has real API servers for.

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use tokio::{net::TcpListener, runtime::Runtime};

use super::stop;
use crate::load::mesh::{
    Shape,
    replay::{Replay, write_kubeconfigs},
};

/// Flags of `isthmus replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Clusters, each a network
    #[arg(long, default_value_t = 3, value_name = "N")]
    clusters: u32,
    /// Services, the same in each cluster
    #[arg(long, default_value_t = 300, value_name = "N")]
    services: u32,
    /// Endpoints of each service in each cluster
    #[arg(long, default_value_t = 10, value_name = "N")]
    endpoints: u32,
    /// Namespaces that the services are spread over
    #[arg(long, default_value_t = 10, value_name = "N")]
    namespaces: u32,
    /// Each network has an east-west gateway
    #[arg(long)]
    gateways: bool,
    /// Folder to write the kubeconfigs to: c1.yaml and so on
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    listen: SocketAddr,
}

impl ReplayArgs {
    fn shape(&self) -> Shape {
        Shape {
            clusters: self.clusters,
            namespaces: self.namespaces,
            services: self.services,
            endpoints: self.endpoints,
            gateways: self.gateways,
        }
    }
}

pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
        let address = listener.local_addr()?;
        let shape = args.shape();
        let replay = Replay::new(shape, address)?;
        write_kubeconfigs(shape, address, &args.dir)?;
        // Whoever reads it may use the kubeconfigs.
        writeln!(anstream::stdout(), "ready http://{address}")?;
        replay.serve(listener, stop::told()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}
