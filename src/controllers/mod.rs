//! Everything that isthmus writes to clusters, behind istiod's own lock.
//!
//! Discovery writes nothing. What mesh identity has to write is here: the root
//! certificate in every namespace of the clusters that this control plane
//! serves. Those are its own and, for a control plane that runs outside of
//! them, the remote ones that name it; a remote cluster that is only read is
//! never written to.

mod ca_secret;
mod cluster;
mod leader;
mod metrics;
mod root_cert;
mod served;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::cluster::Writer;
pub use self::{
    ca_secret::{CaSecretError, CaSecrets},
    leader::Pace,
    metrics::Metrics,
};
use crate::mesh::SnapshotReader;
use crate::model::ClusterId;
use crate::registry::kube::{ApiClient, ApiClients};

/// The root certificates as PEM, as they are now.
pub type Root = watch::Receiver<Arc<str>>;

/// What to write, where, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// The control plane's own cluster.
    pub config_cluster: ClusterId,
    /// Name of this process in locks (`POD_NAME`).
    pub identity: String,
    /// Revision of this control plane (`REVISION`).
    pub revision: String,
    /// Where locks are.
    pub system_namespace: Arc<str>,
    /// Remote clusters may name this control plane as theirs
    /// (`EXTERNAL_ISTIOD`).
    pub external: bool,
    /// Of several replicas one writes (`ENABLE_LEADER_ELECTION`).
    pub elects: bool,
    /// Its pace.
    pub pace: Pace,
    /// What people read in locks; nothing is measured with it.
    pub clock: fn() -> SystemTime,
    /// Name of the `ConfigMap`s (`PILOT_CA_CERT_CONFIGMAP`).
    pub config_map: Arc<str>,
    /// Counters.
    pub metrics: Metrics,
}

/// What the writers of all clusters share.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Clients of the clusters.
    pub clients: ApiClients,
    /// The root certificates.
    pub root: Root,
    /// Where the discovery selectors stand.
    pub snapshots: SnapshotReader,
}

/// Runs the controllers of all clusters until `stop`, then gives back the
/// locks. An error if one of them panics.
pub async fn run(
    options: Options,
    inputs: Inputs,
    stop: CancellationToken,
) -> Result<(), JoinError> {
    let mut table = inputs.clients.subscribe();
    let mut writers = Writers {
        options: Arc::new(options),
        inputs,
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    loop {
        let clients = Arc::clone(&table.borrow_and_update());
        writers.follow(&clients);
        tokio::select! {
            () = stop.cancelled() => break,
            () = changed(&mut table) => {}
            Some(ended) = writers.tasks.join_next() => finished(ended)?,
        }
    }
    for writer in writers.running.values() {
        writer.stop.cancel();
    }
    while let Some(ended) = writers.tasks.join_next().await {
        finished(ended)?;
    }
    Ok(())
}

struct Writers {
    options: Arc<Options>,
    inputs: Inputs,
    running: BTreeMap<ClusterId, Running>,
    tasks: JoinSet<()>,
}

/// The task of one cluster.
struct Running {
    serial: u64,
    stop: CancellationToken,
    task: AbortHandle,
}

impl Writers {
    /// Brings the tasks in line with the clusters there are.
    fn follow(&mut self, clients: &BTreeMap<ClusterId, ApiClient>) {
        let gone = self
            .running
            .extract_if(.., |cluster, _| !clients.contains_key(cluster));
        for (_, running) in gone {
            running.stop.cancel();
        }
        for (cluster, client) in clients {
            let own = *cluster == self.options.config_cluster;
            if !own && !self.options.external {
                continue;
            }
            if let Some(running) = self.running.get(cluster) {
                if running.serial == client.serial {
                    continue;
                }
                // The next one has the same name in the lock: it goes on where
                // this one stands.
                running.task.abort();
            }
            let running = self.start(cluster, client, own);
            self.running.insert(cluster.clone(), running);
        }
    }

    fn start(&mut self, cluster: &ClusterId, client: &ApiClient, own: bool) -> Running {
        let writer = Writer::new(
            &self.options,
            cluster.clone(),
            client.client.clone(),
            self.inputs.root.clone(),
            self.inputs.snapshots.clone(),
        );
        let stop = CancellationToken::new();
        let token = stop.clone();
        let task = if own {
            self.tasks.spawn(writer.run_local(token))
        } else {
            self.tasks.spawn(writer.run_remote(token))
        };
        Running {
            serial: client.serial,
            stop,
            task,
        }
    }
}

fn finished(ended: Result<(), JoinError>) -> Result<(), JoinError> {
    match ended {
        // Its credentials were replaced.
        Err(error) if error.is_cancelled() => Ok(()),
        other => other,
    }
}

/// Waits for a new value; for ever where none can come any more.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
