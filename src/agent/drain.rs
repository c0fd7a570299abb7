//! How a proxy goes without a request lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::admin::{Admin, AdminError};
use crate::config::{AgentConfig, DrainConfig};
use crate::model::NodeKind;

/// How often connections are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How often counting may fail.
const MOST_FAILURES: u32 = 5;

/// The end of a proxy. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    admin: Admin,
    config: DrainConfig,
    kind: NodeKind,
    /// Listeners whose connections nobody waits for.
    own: Vec<String>,
    begun: AtomicBool,
    quit: CancellationToken,
}

impl Drain {
    pub(super) fn new(admin: Admin, config: &AgentConfig) -> Self {
        let envoy = &config.envoy;
        let ports = [envoy.ready_port, envoy.prometheus_port];
        let own = ports.map(|port| format!("_{port}.downstream_cx_active"));
        Self {
            shared: Arc::new(Shared {
                admin,
                config: config.drain.clone(),
                kind: config.node.kind,
                own: own.into(),
                begun: AtomicBool::new(false),
                quit: CancellationToken::new(),
            }),
        }
    }

    /// Whether the proxy is going.
    pub(super) fn has_begun(&self) -> bool {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// Ends the proxy at once.
    pub(super) fn quit(&self) {
        self.shared.quit.cancel();
    }

    /// Done when the proxy is to end at once.
    pub(super) async fn quit_asked(&self) {
        self.shared.quit.cancelled().await;
    }

    /// Asks clients to go, and takes no new ones; what runs is finished. The
    /// proxy stays, for a workload that goes on a while: Kubernetes' native
    /// sidecars are told of the end of their pod so.
    pub(super) async fn begin(&self) -> Result<(), AdminError> {
        let shared = &self.shared;
        shared.begun.store(true, Ordering::Relaxed);
        // A sidecar's own application may still call others.
        let inbound = match shared.kind {
            NodeKind::Sidecar => "&inboundonly",
            NodeKind::Router => "",
        };
        let path = format!("/drain_listeners?graceful&skip_exit{inbound}");
        shared.admin.post(&path).await.map(drop)
    }

    /// Drains and waits as long as it was told to; not at all where the drain
    /// has begun before, or once it is told to quit.
    pub(super) async fn run(&self) {
        if self.has_begun() {
            info!("already drained");
            return;
        }
        info!("draining");
        if let Err(problem) = self.begin().await {
            warn!(%problem, "cannot drain");
        }
        tokio::select! {
            () = self.quit_asked() => {}
            () = self.wait() => {}
        }
    }

    async fn wait(&self) {
        let config = &self.shared.config;
        if !config.until_idle {
            sleep(config.termination).await;
            return;
        }
        sleep(config.minimum).await;
        let mut failures = 0;
        loop {
            match self.connections().await {
                Ok(None | Some(0)) => return,
                Ok(Some(count)) => {
                    info!(count, "waiting for connections");
                    failures = 0;
                }
                Err(problem) => {
                    failures += 1;
                    warn!(%problem, "cannot count connections");
                    if failures == MOST_FAILURES {
                        return;
                    }
                }
            }
            sleep(COUNT_INTERVAL).await;
        }
    }

    /// Connections of clients; none where Envoy tells nothing of them.
    async fn connections(&self) -> Result<Option<u64>, AdminError> {
        let path = "/stats?usedonly&filter=downstream_cx_active$";
        let text = self.shared.admin.get(path).await?;
        let text = String::from_utf8_lossy(&text);
        Ok(count(&text, &self.shared.own))
    }
}

fn count(stats: &str, own: &[String]) -> Option<u64> {
    let is_clients = |name: &str| {
        name.starts_with("listener.")
            && !name.contains("worker_")
            && !name.starts_with("listener.admin.")
            && !name.starts_with("listener.envoy_internal_")
            && !own.iter().any(|end| name.ends_with(end.as_str()))
    };
    let mut lines = stats.lines().peekable();
    lines.peek()?;
    let values = lines
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| is_clients(name))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok());
    Some(values.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_clients_are_counted() {
        let stats = "http.x.downstream_cx_active: 7\n\
            listener.0.0.0.0_15021.downstream_cx_active: 1\n\
            listener.0.0.0.0_15006.downstream_cx_active: 2\n\
            listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2\n\
            listener.127.0.0.1_80.downstream_cx_active: 3\n\
            listener.admin.downstream_cx_active: 1\n";
        let own = ["_15021.downstream_cx_active".to_owned()];
        assert_eq!(count(stats, &own), Some(5));
        assert_eq!(count("", &own), None);
    }
}
