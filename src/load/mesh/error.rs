//! What may fail between the load generator and its clusters.

use std::{io, path::PathBuf};

use super::shape::{ShapeError, cluster_name};

/// Why the clusters cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// Such a mesh cannot be made.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A cluster without a source, or a source without a cluster.
    #[error("{clusters} clusters but {sources} kubeconfigs or folders: give one for each cluster")]
    Sources {
        /// Clusters of the shape.
        clusters: u32,
        /// What was given.
        sources: usize,
    },
    /// A kubeconfig that is of no use.
    #[error("the kubeconfig {} cannot be used: {problem}", path.display())]
    Kubeconfig {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An API server that refuses or does not answer.
    #[error("cluster {}: {action} failed: {source}", cluster_name(*cluster))]
    Api {
        /// The cluster, from 0.
        cluster: u32,
        /// What was asked.
        action: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The API server was populated for another run.
    #[error(
        "cluster {} holds a mesh of another shape ({held}): take empty API servers, or the same shape",
        cluster_name(*cluster)
    )]
    OtherShape {
        /// The cluster, from 0.
        cluster: u32,
        /// What it holds.
        held: String,
    },
    /// A change of a service that the shape has not.
    #[error("there is no service {service} in cluster {}", cluster_name(*cluster))]
    NotThere {
        /// The cluster, from 0.
        cluster: u32,
        /// The service, from 0.
        service: u32,
    },
}
