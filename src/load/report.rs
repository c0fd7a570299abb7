//! What a run found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::figures::Percentiles;
use super::ledger::Offended;
use super::offender::Offence;

/// What a run found. A value that was not measured is none: `null` as JSON.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Sidecars.
    pub proxies: u32,
    /// Networks.
    pub networks: u32,
    /// Services of the mesh.
    pub services: u32,
    /// Endpoints of each service, of all clusters.
    pub endpoints_per_service: u32,
    /// Services that each sidecar watched; 0 is all.
    pub watch: usize,
    /// `delta` or `sotw`.
    pub protocol: &'static str,
    /// Whether connections were over TLS.
    pub tls: bool,
    /// It was stopped before its time.
    pub interrupted: bool,
    /// Time until all sidecars had connected and were served.
    pub connect_all_s: Option<f64>,
    /// Streams that ended before all was served on them.
    pub refused_streams: u64,
    /// Streams that ended after it.
    pub lost_streams: u64,
    /// CPU time of the server until then.
    pub connect_cpu_s: Option<f64>,
    /// Changes.
    pub writes: u64,
    /// Changes that the API server refused.
    pub failed_writes: u64,
    /// Changes a second that were asked for.
    pub rate: f64,
    /// Changes that arrived at a sidecar, by sidecar.
    pub deliveries: u64,
    /// Those that should have.
    pub expected_deliveries: u64,
    /// From before the write to the arrival.
    pub latency_ms: Option<Percentiles>,
    /// From before the write to its event on a bare watch.
    pub api_watch_ms: Option<Percentiles>,
    /// CPU time of the server while changes were made.
    pub churn_cpu_s: Option<f64>,
    /// The same for each change.
    pub churn_cpu_ms_per_write: Option<f64>,
    /// Responses while changes were made.
    pub pushes: u64,
    /// Those of them that brought no change that was new to the sidecar.
    pub needless_pushes: u64,
    /// All of them by network.
    pub pushes_by_network: Vec<u64>,
    /// Their size.
    pub bytes_mb: f64,
    /// Resident memory of the server before, after, and the most it ever was.
    pub rss_mb_before: Option<f64>,
    /// After.
    pub rss_mb: Option<f64>,
    /// The most.
    pub peak_mb: Option<f64>,
    /// CPU time of the sidecars, for each response while changes were made.
    pub client_cpu_us_per_push: Option<f64>,
    /// CPU time of the sidecars for connecting.
    pub client_connect_cpu_s: f64,
    /// Each reconnect storm.
    pub storms: Vec<Storm>,
    /// What bad clients met.
    pub offenders: BTreeMap<Offence, Offended>,
}

/// A reconnect storm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Storm {
    /// Time until all were served again; none where they were not in time.
    pub all_served_s: Option<f64>,
}

/// To the thousandth: more is noise.
pub(super) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
