//! What the load generator puts into clusters, and how it changes it.
//!
//! A [`Shape`] says how large the mesh is and so what every object of it looks
//! like; nothing is kept. A [`Mesh`] writes the objects to where a control
//! plane reads them: real API servers, those of [`replay`], or folders.

mod apiserver;
mod error;
mod floor;
mod folders;
mod forms;
mod kubeconfig;
mod objects;
mod populate;
pub mod replay;
mod shape;

use std::{net::Ipv4Addr, path::PathBuf};

use self::{apiserver::ApiServer, folders::Folders};

pub use self::{
    error::MeshError,
    floor::{Floor, Seen},
    objects::Objects,
    shape::{MAX_ENDPOINTS, Shape, ShapeError, cluster_name, network_name, service_name},
};

/// Where the clusters are. Cluster `c1` is the first one, and the config
/// cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// API servers, real ones or those of [`replay`]: a kubeconfig each.
    Kubeconfigs(Vec<PathBuf>),
    /// Folders of manifests, for `--cluster-dir`.
    Folders(Vec<PathBuf>),
}

/// One write: the service's endpoints in one cluster are those of the shape and,
/// with a marker, one endpoint of that address more. A marker that was there
/// before is gone then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Cluster, from 0.
    pub cluster: u32,
    /// Service, from 0.
    pub service: u32,
    /// Address of the endpoint that no pod stands behind.
    pub marker: Option<Ipv4Addr>,
}

/// Objects that were written so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Services of all clusters that are there with all that belongs to them.
    pub done: u64,
    /// Services of all clusters.
    pub total: u64,
}

/// The clusters of a load run.
#[derive(Debug)]
pub struct Mesh {
    shape: Shape,
    clusters: Clusters,
}

#[derive(Debug)]
enum Clusters {
    ApiServers(Vec<ApiServer>),
    Folders(Folders),
}

impl Mesh {
    /// Opens the clusters; nothing is asked of them yet.
    pub async fn open(source: Source, shape: Shape) -> Result<Self, MeshError> {
        shape.check()?;
        let (Source::Kubeconfigs(paths) | Source::Folders(paths)) = &source;
        if u32::try_from(paths.len()) != Ok(shape.clusters) {
            return Err(MeshError::Sources {
                clusters: shape.clusters,
                sources: paths.len(),
            });
        }
        let clusters = match source {
            Source::Folders(paths) => Clusters::Folders(Folders::new(shape, paths)),
            Source::Kubeconfigs(paths) => {
                let mut servers = Vec::new();
                for (cluster, path) in (0..).zip(paths) {
                    servers.push(ApiServer::open(cluster, path).await?);
                }
                Clusters::ApiServers(servers)
            }
        };
        Ok(Self { shape, clusters })
    }

    /// What is in the clusters.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Writes all objects. Clusters that have been populated with the same shape
    /// are left as they are.
    pub async fn populate(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), MeshError> {
        match &self.clusters {
            Clusters::ApiServers(servers) => {
                populate::populate(self.shape, servers, progress).await
            }
            Clusters::Folders(folders) => folders.populate(progress).await,
        }
    }

    /// Makes one change. When it returns the API server has accepted it, or the
    /// file is there.
    pub async fn change(&self, change: Change) -> Result<(), MeshError> {
        let Change {
            cluster, service, ..
        } = change;
        if cluster >= self.shape.clusters || service >= self.shape.services {
            return Err(MeshError::NotThere { cluster, service });
        }
        match &self.clusters {
            Clusters::ApiServers(servers) => {
                let server = servers.get(cluster as usize);
                let server = server.ok_or(MeshError::NotThere { cluster, service })?;
                server.change(self.shape, change).await
            }
            Clusters::Folders(folders) => folders.change(change).await,
        }
    }

    /// Watches the changes of all API servers with nothing in between: what no
    /// control plane can be faster than. None for folders.
    pub async fn watch_floor(&self) -> Result<Option<Floor>, MeshError> {
        match &self.clusters {
            Clusters::ApiServers(servers) => Ok(Some(Floor::open(servers).await?)),
            Clusters::Folders(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
