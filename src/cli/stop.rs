//! What ends a process: SIGTERM from Kubernetes, Ctrl-C from a terminal.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};

/// Done when the process is told to end.
pub(super) fn told() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
