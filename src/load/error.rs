//! Why there is no report.

use std::{io, path::PathBuf};

use super::mesh::MeshError;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The address cannot be used.
    #[error("{address:?} cannot be used: {problem}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody listens, or not for ADS.
    #[error(
        "no control plane at {address} ({problem}): start one, or give its ADS address with --address"
    )]
    NoServer {
        /// Where it should be.
        address: String,
        /// What was met.
        problem: String,
    },
    /// A file is of no use.
    #[error("{}: {problem}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate, key or authorities do not go together.
    #[error("TLS cannot be set up with --tls-ca, --tls-cert and --tls-key: {0}")]
    Tls(rustls::Error),
    /// The clusters cannot be filled or changed.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// Filling needs clusters.
    #[error("--populate needs clusters to fill: give --kubeconfigs or --folders")]
    NothingToPopulate,
    /// A service that will be changed cannot be.
    #[error("{0}: fill the clusters first (--populate), and give the same --services")]
    Unfilled(MeshError),
    /// Not all sidecars were served.
    #[error(
        "{served} of {sidecars} sidecars were served within {seconds} s{reason}: is the mesh \
         populated (--populate) with hosts that have {hosts:?} in them (--hosts-with)?"
    )]
    NotServed {
        /// Sidecars that were.
        served: usize,
        /// Sidecars.
        sidecars: u32,
        /// How long was waited.
        seconds: u64,
        /// Why the last stream ended, if one did.
        reason: String,
        /// What is looked for in hosts.
        hosts: String,
    },
    /// No change could be made.
    #[error("no change could be made; the last one failed: {0}")]
    NoChange(MeshError),
    /// The process to measure is not there.
    #[error("--pid {pid}: {problem}: give the process id of the control plane")]
    Process {
        /// Its id.
        pid: u32,
        /// Why it cannot be read.
        problem: io::Error,
    },
    /// It was told to stop before there was anything to report.
    #[error("stopped before there was anything to report")]
    Stopped,
}
