//! The simulated sidecars.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;
use crate::load::walk::Variant;

/// Where a sidecar learns what it may watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::load) enum Scope {
    /// It asks for all clusters, as Envoy does
    All,
    /// It asks for no clusters, and for endpoints by the names of --services
    Watched,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sidecars")]
pub(in crate::load) struct SidecarArgs {
    /// Sidecars, dealt over the networks in turn
    #[arg(
        long = "sidecars",
        alias = "proxies",
        default_value_t = 100,
        value_name = "N"
    )]
    pub(in crate::load) count: u32,
    /// They speak delta ADS (the default)
    #[arg(long, conflicts_with = "sotw")]
    delta: bool,
    /// They speak state-of-the-world ADS
    #[arg(long)]
    sotw: bool,
    /// Services that each watches; 0 is all
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(in crate::load) watch: usize,
    /// Where they learn the names
    #[arg(long, value_enum, default_value_t = Scope::All, value_name = "SCOPE")]
    pub(in crate::load) scope: Scope,
    /// Watch services that have this in their host
    #[arg(long, default_value = ".load-", value_name = "TEXT")]
    pub(in crate::load) hosts_with: String,
    /// Share so many connections; without, each sidecar has one of its own, as
    /// Envoys do
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::load) connections: Option<u32>,
    /// Namespace of the sidecars
    #[arg(long, default_value = "load-0", value_name = "NAME")]
    pub(in crate::load) sidecar_namespace: String,
    /// Service account of the sidecars
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(in crate::load) service_account: String,
    /// How long it may take until all are served
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "DURATION")]
    pub(in crate::load) patience: Duration,
    /// Threads that the sidecars run on
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(in crate::load) threads: usize,
}

impl SidecarArgs {
    pub(in crate::load) fn variant(&self) -> Variant {
        // Delta where neither was given.
        if self.sotw && !self.delta {
            Variant::Sotw
        } else {
            Variant::Delta
        }
    }
}
