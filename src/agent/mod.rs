//! `isthmus agent`: runs an Envoy beside a workload or as a gateway.
//!
//! It writes Envoy's bootstrap, gets its certificate and renews it, hands both
//! over on a unix socket, says whether the proxy is ready, and drains it in the
//! end. Configuration goes from the control plane to Envoy directly, and no
//! traffic of applications comes through here.

mod admin;
mod bootstrap;
mod certificate;
mod dial;
mod dns;
mod drain;
mod envoy;
mod readiness;
mod secrets;
mod status;

use std::{
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::SystemTime,
};

use tokio::{sync::watch, task::JoinSet};
use tracing::{error, info, warn};

use self::admin::Admin;
use self::certificate::{Renewal, WorkloadCertificate};
use self::dns::{DnsError, Names};
use self::drain::Drain;
use self::envoy::Envoy;
use self::readiness::Readiness;
use self::secrets::{Secrets, ServeError};
use crate::config::{AgentConfig, CertificateSource};

/// Tells the time of day.
pub type Clock = fn() -> SystemTime;

/// Why an agent cannot run, or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The folder cannot be used.
    #[error("cannot write {path:?}: {source}; --config-path names another folder")]
    Folder {
        /// What was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Envoy does not start.
    #[error("cannot start Envoy, {path:?}: {source}; --envoy names another binary")]
    Start {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Envoy ended by itself.
    #[error("Envoy ended by itself with {0}; its last lines of output say why")]
    EnvoyEnded(ExitStatus),
    /// Envoy cannot be waited for.
    #[error("cannot wait for Envoy: {0}")]
    Wait(io::Error),
    /// The pages cannot be served.
    #[error("cannot serve pages on port {port}: {source}; --status-port names another one")]
    Status {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Names cannot be served.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// Secrets cannot be served.
    #[error(transparent)]
    Secrets(#[from] ServeError),
    /// A task ended that was to go on.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

/// Runs a proxy until `stop` is done and it has drained, or until Envoy ends.
pub async fn run(
    config: AgentConfig,
    clock: Clock,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let folder = &config.envoy.folder;
    std::fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
    let socket = folder.join("SDS");
    let mut tasks = Tasks::default();
    let secrets = Secrets::default();
    let listener = secrets::listen(&socket)?;
    tasks.spawn(
        "the secrets server",
        secrets::serve(listener, secrets.clone()),
    );
    tasks.forever("the reader of secrets", secrets.clone().follow_files());
    let (current, issued) = watch::channel(None);
    let publisher = publish(issued.clone(), secrets.clone());
    tasks.forever("the publisher of certificates", publisher);
    certificates(&config, clock, &secrets, (current, &mut tasks));
    let names = names(&config, clock, issued, &mut tasks).await?;

    let path = write_bootstrap(&config, &socket)?;
    let admin_host = (bootstrap::loopback(&config), config.envoy.admin_port);
    let admin = Admin::new(admin_host);
    let drain = Drain::new(admin.clone(), &config);
    let readiness = Readiness::new(admin.clone(), drain.clone(), names.clone());
    if config.envoy.status_port != 0 {
        let pages = status::Pages {
            readiness,
            drain: drain.clone(),
            admin: admin.clone(),
            names,
        };
        let port = config.envoy.status_port;
        let failed = move |source| AgentError::Status { port, source };
        let listener = status::listen(&config).await.map_err(failed)?;
        let serve = async move { status::serve(listener, pages).await.map_err(failed) };
        tasks.spawn("the status server", serve);
    }
    let mut envoy = Envoy::start(&config, &path)?;
    info!(node = config.node.id(), pid = envoy.id(), "Envoy started");
    tokio::select! {
        ended = envoy.ended() => return Err(ended_by_itself(ended)),
        failed = tasks.first_end() => return Err(failed),
        () = drain.quit_asked() => info!("told to quit at once"),
        () = stop => {
            tokio::select! {
                ended = envoy.ended() => return Err(ended_by_itself(ended)),
                failed = tasks.first_end() => error!(problem = %failed, "while draining"),
                () = drain.run() => {}
            }
        }
    }
    envoy.stop(&admin).await.map_err(AgentError::Wait)
}

fn ended_by_itself(ended: io::Result<ExitStatus>) -> AgentError {
    match ended {
        Ok(status) => AgentError::EnvoyEnded(status),
        Err(source) => AgentError::Wait(source),
    }
}

type Issued = Option<Arc<WorkloadCertificate>>;

/// Starts what keeps the certificate of the workload current.
fn certificates(
    config: &AgentConfig,
    clock: Clock,
    secrets: &Secrets,
    (current, tasks): (watch::Sender<Issued>, &mut Tasks),
) {
    let authority = match &config.certificates {
        CertificateSource::Files(files) => return secrets.take_from(files),
        CertificateSource::Authority(authority) => authority.as_ref().clone(),
    };
    let renewal = Renewal {
        authority,
        identity: config.node.identity.clone(),
        clock,
        current,
    };
    tasks.forever("the renewal of certificates", certificate::renew(renewal));
}

/// Starts the DNS server, where one is wanted.
async fn names(
    config: &AgentConfig,
    clock: Clock,
    issued: watch::Receiver<Issued>,
    tasks: &mut Tasks,
) -> Result<Option<Names>, DnsError> {
    let Some(dns) = &config.dns else {
        return Ok(None);
    };
    let sockets = dns::listen(&dns.address).await?;
    let own: Vec<_> = sockets.iter().map(|sockets| sockets.address).collect();
    let names = Names::new(dns, &config.node, &own);
    info!(addresses = ?own, "serving DNS");
    tasks.forever("the DNS server", dns::serve(sockets, names.clone()));
    let source = dns::Source {
        config: config.clone(),
        clock,
        issued,
    };
    tasks.forever("the stream of names", dns::follow(names.clone(), source));
    Ok(Some(names))
}

/// Goes on when no certificate is issued: files may hold it.
async fn publish(mut issued: watch::Receiver<Issued>, secrets: Secrets) {
    while issued.changed().await.is_ok() {
        let certificate = issued.borrow_and_update().clone();
        if let Some(certificate) = certificate {
            secrets.put(&certificate);
        }
    }
    std::future::pending::<()>().await;
}

/// Writes the bootstrap. Headers may be secret, so only this user reads it.
fn write_bootstrap(config: &AgentConfig, socket: &Path) -> Result<PathBuf, AgentError> {
    let path = config.envoy.folder.join("envoy-rev.json");
    let text = format!("{:#}\n", bootstrap::bootstrap(config, socket));
    let write = || {
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path)?.write_all(text.as_bytes())
    };
    write().map_err(|source| unwritable(&path, source))?;
    Ok(path)
}

fn unwritable(path: &Path, source: io::Error) -> AgentError {
    AgentError::Folder {
        path: path.to_owned(),
        source,
    }
}

/// From 0 up to 1. The hasher's seed is enough to spread load over time.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u16::try_from(bits % 1000).unwrap_or_default()) / 1000.0
}

/// What runs beside Envoy; dropping it stops all of it.
#[derive(Debug, Default)]
struct Tasks {
    set: JoinSet<AgentError>,
}

impl Tasks {
    fn spawn<E: Into<AgentError> + Send>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.set.spawn(async move {
            match task.await {
                Ok(()) => AgentError::Task(name),
                Err(error) => error.into(),
            }
        });
    }

    fn forever(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            AgentError::Task(name)
        });
    }

    async fn first_end(&mut self) -> AgentError {
        match self.set.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(error)) => {
                warn!(%error, "a task did not finish");
                AgentError::Task("a task")
            }
            None => AgentError::Task("every task"),
        }
    }
}
