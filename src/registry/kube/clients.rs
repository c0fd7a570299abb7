//! The API clients of all clusters, for whoever asks or writes beside watching.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kube::Client;
use tokio::sync::watch;

use crate::model::ClusterId;

/// A client and which credentials it stands for.
#[derive(Clone)]
pub struct ApiClient {
    /// The client; cloning it is cheap.
    pub client: Client,
    /// Grows with every change of any cluster's credentials, so two equal
    /// numbers of one cluster mean one set of credentials.
    pub serial: u64,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ApiClient").field(&self.serial).finish()
    }
}

/// The clusters that there are credentials for, the config cluster included.
pub type ClientTable = BTreeMap<ClusterId, ApiClient>;

/// A handle to the clients of all clusters; clones share one table.
///
/// [`crate::registry::multicluster`] writes it: a cluster is in it from the
/// moment its credentials are accepted until they are withdrawn, reachable or
/// not. New credentials replace the old ones once they were seen to work.
/// One that is a default or made of clients never changes.
#[derive(Debug, Clone, Default)]
pub struct ApiClients {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    table: watch::Sender<Arc<ClientTable>>,
    next_serial: AtomicU64,
}

impl ApiClients {
    /// The client of a cluster, if there are credentials for it.
    pub fn client(&self, cluster: &ClusterId) -> Option<Client> {
        let table = self.inner.table.borrow();
        table.get(cluster).map(|entry| entry.client.clone())
    }

    /// All clients as they are now.
    pub fn table(&self) -> Arc<ClientTable> {
        Arc::clone(&self.inner.table.borrow())
    }

    /// Follows changes; the first value counts as seen.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClientTable>> {
        self.inner.table.subscribe()
    }

    /// Waits until there is a client of the cluster.
    pub async fn wait_for(&self, cluster: &ClusterId) -> Client {
        let mut changes = self.inner.table.subscribe();
        loop {
            if let Some(client) = self.client(cluster) {
                return client;
            }
            // `self` holds the sender, so this does not fail.
            let _ = changes.changed().await;
        }
    }

    /// Puts a cluster in, or gives it new credentials.
    pub(in crate::registry) fn set(&self, cluster: ClusterId, client: Client) {
        let serial = self.inner.next_serial.fetch_add(1, Ordering::Relaxed);
        self.inner.table.send_modify(|table| {
            Arc::make_mut(table).insert(cluster, ApiClient { client, serial });
        });
    }

    /// Takes a cluster out.
    pub(in crate::registry) fn remove(&self, cluster: &ClusterId) {
        let table = &self.inner.table;
        table.send_if_modified(|table| Arc::make_mut(table).remove(cluster).is_some());
    }
}

impl FromIterator<(ClusterId, Client)> for ApiClients {
    fn from_iter<I: IntoIterator<Item = (ClusterId, Client)>>(clients: I) -> Self {
        let all = Self::default();
        for (cluster, client) in clients {
            all.set(cluster, client);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let url = "http://127.0.0.1:1".parse().unwrap();
        Client::try_from(kube::Config::new(url)).unwrap()
    }

    #[tokio::test]
    async fn readers_see_clusters_come_change_and_go() {
        let clients = ApiClients::default();
        let (c1, c2) = (ClusterId::from("c1"), ClusterId::from("c2"));
        let mut changes = clients.subscribe();
        clients.set(c1.clone(), client());
        assert!(changes.has_changed().unwrap());
        let first = changes.borrow_and_update()[&c1].serial;
        clients.set(c2.clone(), client());
        clients.set(c1.clone(), client());
        let table = Arc::clone(&changes.borrow_and_update());
        assert!(table[&c1].serial > table[&c2].serial && table[&c2].serial > first);
        clients.remove(&c2);
        assert!(clients.client(&c2).is_none() && clients.client(&c1).is_some());
        changes.mark_unchanged();
        clients.remove(&c2);
        assert!(!changes.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_client_that_comes_later_is_waited_for() {
        let clients = ApiClients::default();
        let cluster = ClusterId::from("c1");
        let wait = clients.wait_for(&cluster);
        let set = async { clients.set(cluster.clone(), client()) };
        let (_client, ()) = tokio::join!(wait, set);
    }
}
