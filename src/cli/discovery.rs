//! `isthmus discovery` and `isthmus check`.

use std::process::ExitCode;

use anyhow::Result;
use tokio::runtime::Runtime;

use super::{descriptors, stop};
use crate::app::{self, App};
use crate::config::{Config, DiscoveryArgs};
use crate::telemetry::{LogFormat, init_logs};

pub(super) fn run(args: DiscoveryArgs) -> Result<ExitCode> {
    let config = configure(args)?;
    descriptors::raise();
    Runtime::new()?.block_on(async {
        let stop = stop::told()?;
        App::start(config)?.run_until(stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Says what is wrong with the configuration; the status tells whether
/// anything is.
pub(super) fn check(args: DiscoveryArgs) -> Result<ExitCode> {
    let config = configure(args)?;
    let findings = Runtime::new()?.block_on(app::check(&config))?;
    anstream::println!("{findings}");
    Ok(ExitCode::from(u8::from(findings.refused > 0)))
}

fn configure(args: DiscoveryArgs) -> Result<Config> {
    let config = args.into_config()?;
    let format = if config.log_as_json {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    init_logs(config.log.default, &config.log.scopes, format);
    tracing::debug!(?config, "configuration");
    Ok(config)
}
