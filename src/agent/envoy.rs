//! Envoy's process.

use std::{
    ffi::OsString,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};
use tracing::{info, warn};

use super::AgentError;
use super::admin::Admin;
use crate::config::AgentConfig;

/// How long Envoy may take to end once it has nothing left to do.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Envoy {
    process: Child,
}

impl Envoy {
    /// Starts Envoy with a bootstrap. What it prints is passed on as it is.
    pub(super) fn start(config: &AgentConfig, bootstrap: &Path) -> Result<Self, AgentError> {
        let binary = &config.envoy.binary;
        let process = Command::new(binary)
            .args(arguments(config, bootstrap))
            .stdin(Stdio::null())
            // Ctrl-C is for the agent, which then drains Envoy.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let process = process.map_err(|source| AgentError::Start {
            path: binary.clone(),
            source,
        })?;
        Ok(Self { process })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// How Envoy ended, once it has.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks Envoy to end, and makes it end if it does not.
    pub(super) async fn stop(mut self, admin: &Admin) -> io::Result<()> {
        if let Err(problem) = admin.post("/quitquitquit").await {
            warn!(%problem, "cannot ask Envoy to end");
            return self.process.kill().await;
        }
        if let Ok(ended) = timeout(STOP_TIMEOUT, self.process.wait()).await {
            info!(status = %ended?, "Envoy ended");
            return Ok(());
        }
        warn!("Envoy does not end by itself; it is killed");
        self.process.kill().await
    }
}

fn arguments(config: &AgentConfig, bootstrap: &Path) -> Vec<OsString> {
    let envoy = &config.envoy;
    let v6_only = config.node.ips.iter().all(std::net::IpAddr::is_ipv6);
    let seconds = config.drain.duration.as_secs().to_string();
    let family = if v6_only { "v6" } else { "v4" };
    let mut all: Vec<OsString> = vec!["-c".into(), bootstrap.into()];
    let fixed = [
        "--drain-time-s",
        &seconds,
        // Clients are told at once, not spread over the drain time.
        "--drain-strategy",
        "immediate",
        "--local-address-ip-version",
        family,
        "--file-flush-interval-msec",
        "1000",
        // Shared memory of a fixed name: two Envoys would meet in it.
        "--disable-hot-restart",
        "--allow-unknown-static-fields",
    ];
    all.extend(fixed.map(OsString::from));
    let levels = Levels::parse(&envoy.log_level, &envoy.component_log_level);
    all.extend(["-l".into(), levels.default.into()]);
    if !levels.components.is_empty() {
        all.extend(["--component-log-level".into(), levels.components.into()]);
    }
    if let Some(count) = envoy.concurrency {
        all.extend(["--concurrency".into(), count.to_string().into()]);
    }
    all
}

/// Envoy's two log settings.
struct Levels {
    default: String,
    components: String,
}

impl Levels {
    /// pilot-agent takes both in one: `info,misc:error`. Its other flag counts
    /// where the first names no component.
    fn parse(levels: &str, components: &str) -> Self {
        let (of_components, defaults): (Vec<&str>, Vec<&str>) =
            levels.split(',').partition(|part| part.contains(':'));
        let default = defaults.last().filter(|level| !level.is_empty());
        let components = match of_components.as_slice() {
            [] => components.to_owned(),
            named => named.join(","),
        };
        Self {
            default: (*default.unwrap_or(&"warning")).to_owned(),
            components,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels_name_a_default_and_components() {
        let levels = Levels::parse("info,misc:error,upstream:debug", "x:off");
        assert_eq!(levels.default, "info");
        assert_eq!(levels.components, "misc:error,upstream:debug");
        let levels = Levels::parse("", "misc:error");
        assert_eq!(levels.default, "warning");
        assert_eq!(levels.components, "misc:error");
    }
}
