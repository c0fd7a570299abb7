//! What is in the clusters.

use std::path::PathBuf;

use clap::Args;

use crate::load::mesh::{Shape, Source};

#[derive(Debug, Args)]
#[command(next_help_heading = "Clusters")]
pub(in crate::load) struct MeshArgs {
    /// API servers to change, a kubeconfig each; the first is the config cluster
    #[arg(
        long,
        value_delimiter = ',',
        conflicts_with = "folders",
        value_name = "FILE,…"
    )]
    pub(in crate::load) kubeconfigs: Vec<PathBuf>,
    /// Folders of manifests to change, a cluster each, named c1, c2 … in
    /// --cluster-dir
    #[arg(long, value_delimiter = ',', value_name = "FOLDER,…")]
    pub(in crate::load) folders: Vec<PathBuf>,
    /// Networks of the sidecars where neither is given, so that nothing can be
    /// changed
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::load) networks: u32,
    /// Services, the same in each cluster
    #[arg(long, default_value_t = 300, value_name = "N")]
    pub(in crate::load) services: u32,
    /// Endpoints of each service in each cluster
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(in crate::load) endpoints: u32,
    /// Namespaces that the services are spread over
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(in crate::load) namespaces: u32,
    /// Each network has an east-west gateway
    #[arg(long)]
    pub(in crate::load) gateways: bool,
    /// Fill the clusters first
    #[arg(long)]
    pub(in crate::load) populate: bool,
    /// Fill the clusters, and do no more
    #[arg(long)]
    pub(in crate::load) populate_only: bool,
}

impl MeshArgs {
    /// Where the clusters are, if they were given.
    pub(in crate::load) fn source(&self) -> Option<Source> {
        if !self.kubeconfigs.is_empty() {
            return Some(Source::Kubeconfigs(self.kubeconfigs.clone()));
        }
        let folders = Some(&self.folders).filter(|folders| !folders.is_empty());
        folders.cloned().map(Source::Folders)
    }

    /// How large they are.
    pub(in crate::load) fn shape(&self) -> Shape {
        let given = self.kubeconfigs.len().max(self.folders.len());
        let given = u32::try_from(given).unwrap_or(u32::MAX);
        Shape {
            clusters: if given == 0 { self.networks } else { given },
            namespaces: self.namespaces,
            services: self.services,
            endpoints: self.endpoints,
            gateways: self.gateways,
        }
    }
}
