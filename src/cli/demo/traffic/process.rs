//! The processes of the demo: what a user would start by hand.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use hyper::StatusCode;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::super::http::send;

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// A process with a page that says whether it is ready; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    ready: (SocketAddr, &'static str),
    log: PathBuf,
}

/// A command of this program with its files in `folder`, and nothing of the
/// user's environment.
pub(super) fn isthmus<A: AsRef<OsStr>>(
    folder: &Path,
    args: impl IntoIterator<Item = A>,
) -> Result<Command> {
    fs::create_dir_all(folder)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).env_clear().current_dir(folder);
    Ok(command)
}

impl Process {
    /// Starts a command of [`isthmus`].
    pub(super) fn start(
        name: &str,
        mut command: Command,
        folder: &Path,
        ready: (SocketAddr, &'static str),
    ) -> Result<Self> {
        let path = folder.join("log");
        let log = File::create(&path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the demo, which then ends its processes.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            ready,
            log: path,
        })
    }

    /// Waits until its page says that it is ready.
    pub(super) async fn ready(&mut self) -> Result<()> {
        let (address, path) = self.ready;
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = send("GET", address, "localhost", path).await;
            if answer.is_ok_and(|(status, _)| status == StatusCode::OK) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() >= end {
                let (name, log) = (&self.name, fs::read_to_string(&self.log)?);
                bail!("{name} is not ready ({ended:?}); its log:\n{log}");
            }
            sleep(POLL).await;
        }
    }

    /// Asks it for something by a POST to its page.
    pub(super) async fn post(&self, path: &str) -> Result<()> {
        send("POST", self.ready.0, "localhost", path).await?;
        Ok(())
    }

    /// Asks it to end by a POST to its page, and waits until it has.
    pub(super) async fn end(&mut self, path: &str) -> Result<()> {
        // One that is gone already does not answer.
        let _ = self.post(path).await;
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// Ends it at once: it has no process of its own to end.
    pub(super) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Ports that nobody listens on, below those that connections get.
#[derive(Debug)]
pub(super) struct Ports(u16);

impl Ports {
    pub(super) fn new() -> Self {
        let offset = std::process::id().wrapping_mul(97) % 8192;
        Self(16_384 + u16::try_from(offset).unwrap_or_default())
    }

    pub(super) fn next(&mut self) -> Result<u16> {
        while self.0 < 32_768 {
            self.0 += 1;
            if TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.0)).is_ok() {
                return Ok(self.0);
            }
        }
        bail!("no free port below 32768")
    }
}
