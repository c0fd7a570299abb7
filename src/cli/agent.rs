//! `isthmus agent`.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Result;
use tokio::runtime::Runtime;

use super::stop;
use crate::agent;
use crate::config::AgentArgs;
use crate::telemetry::{LogFormat, init_logs};

pub(super) fn run(args: AgentArgs) -> Result<ExitCode> {
    let config = args.into_config()?;
    let format = if config.log_as_json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    init_logs(config.log.default, &config.log.scopes, format);
    for what in &config.unused {
        tracing::warn!("{what}");
    }
    // One TLS provider for the process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Runtime::new()?.block_on(async {
        agent::run(config, now, stop::told()?).await?;
        Ok(ExitCode::SUCCESS)
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one clock of the agent, which is handed down"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
