//! What a run cost, server and sidecars apart.

use std::process;

use super::error::LoadError;
use super::report::{Report, round};
use super::usage::{self, Usage};

/// Name of the threads that sidecars run on: their CPU time is told apart from
/// that of writing changes.
pub const SIDECAR_THREADS: &str = "sidecars";

/// Usage of the server, if its process is known, and of the sidecars, so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Costs {
    server: Option<Usage>,
    client_cpu_s: f64,
    received: u64,
}

impl Costs {
    /// Reads them, after so many responses.
    pub(super) fn read(pid: Option<u32>, received: u64) -> Result<Self, LoadError> {
        let of_server =
            |pid| usage::of_process(pid).map_err(|problem| LoadError::Process { pid, problem });
        Ok(Self {
            server: pid.map(of_server).transpose()?,
            client_cpu_s: usage::of_threads(process::id(), SIDECAR_THREADS),
            received,
        })
    }
}

impl Report {
    /// Writes down the costs of connecting, and of changes.
    pub(super) fn set_costs(&mut self, before: Costs, middle: Costs, after: Costs) {
        let cpu = |from: Costs, to: Costs| Some(round(to.server?.cpu_s - from.server?.cpu_s));
        self.connect_cpu_s = cpu(before, middle);
        self.churn_cpu_s = cpu(middle, after);
        let per_write = |seconds: f64| round(seconds * 1e3 / as_float(self.writes.max(1)));
        self.churn_cpu_ms_per_write = self.churn_cpu_s.map(per_write);
        self.rss_mb_before = before.server.map(|usage| round(usage.rss_mb));
        self.rss_mb = after.server.map(|usage| round(usage.rss_mb));
        self.peak_mb = after.server.map(|usage| round(usage.peak_mb));
        let received = after.received.saturating_sub(middle.received);
        let client = after.client_cpu_s - middle.client_cpu_s;
        self.client_cpu_us_per_push =
            (received > 0).then(|| round(client * 1e6 / as_float(received)));
        self.client_connect_cpu_s = round(middle.client_cpu_s - before.client_cpu_s);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn as_float(count: u64) -> f64 {
    count as f64
}
