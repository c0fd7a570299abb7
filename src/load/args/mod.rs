//! Flags of `isthmus load`.

mod churn;
mod mesh;
mod offenders;
mod server;
mod sidecars;

use std::time::Duration;

use clap::Args;

use crate::model::parse_duration;

pub(super) use self::{
    churn::ChurnArgs,
    mesh::MeshArgs,
    offenders::OffenderArgs,
    server::ServerArgs,
    sidecars::{Scope, SidecarArgs},
};

/// Flags of `isthmus load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    #[command(flatten)]
    pub(super) mesh: MeshArgs,
    #[command(flatten)]
    pub(super) sidecars: SidecarArgs,
    #[command(flatten)]
    pub(super) churn: ChurnArgs,
    #[command(flatten)]
    pub(super) offenders: OffenderArgs,
    /// Process id of the control plane, for its CPU time and memory
    #[arg(long, value_name = "PID")]
    pub(super) pid: Option<u32>,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl LoadArgs {
    /// The report is for programs.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Threads that the sidecars run on.
    pub fn threads(&self) -> usize {
        self.sidecars.threads.max(1)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is no duration such as 10s, 1m30s or 100ms"))
}
