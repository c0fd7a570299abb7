//! `isthmus load`.

use std::{collections::BTreeMap, io::Write, process::ExitCode};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{descriptors, stop};
use crate::load::{self, LoadArgs, Report};
use crate::telemetry::{LogFormat, init_logs};

pub(super) fn run(args: &LoadArgs) -> Result<ExitCode> {
    init_logs("warn", &BTreeMap::new(), LogFormat::Text);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    descriptors::raise();
    // Apart from the runtime that writes changes and watches them come back,
    // which would have to wait for the sidecars.
    let sidecars = Builder::new_multi_thread()
        .worker_threads(args.threads())
        .thread_name(load::SIDECAR_THREADS)
        .enable_all()
        .build()?;
    let main = Runtime::new()?;
    let report = main.block_on(async {
        let stop = CancellationToken::new();
        let told = stop::told()?;
        let run = load::run(args, sidecars.handle(), &stop);
        tokio::pin!(run);
        let report = tokio::select! {
            report = &mut run => report,
            () = told => {
                stop.cancel();
                run.await
            }
        };
        anyhow::Ok(report?)
    });
    sidecars.shutdown_background();
    if let Some(report) = report? {
        print(&report, args.is_json())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, as_json: bool) -> Result<()> {
    let mut out = anstream::stdout();
    let written = if as_json {
        writeln!(out, "{}", serde_json::to_string(report)?)
    } else {
        write!(out, "{}", load::table(report))
    };
    written.context("the report cannot be printed")
}
