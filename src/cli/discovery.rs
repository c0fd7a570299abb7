//! `isthmus discovery` and `isthmus check`.

use std::process::ExitCode;

use anyhow::Result;

use crate::config::DiscoveryArgs;

pub(super) fn run(args: DiscoveryArgs) -> Result<ExitCode> {
    let config = args.into_config()?;
    drop(config);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(args: DiscoveryArgs) -> Result<ExitCode> {
    let config = args.into_config()?;
    anstream::println!("{config:#?}");
    Ok(ExitCode::SUCCESS)
}
