//! Everything one proxy gets at one generation.

use std::sync::Arc;

use super::client::Client;
use super::{cds, eds, lds, nds, rds};
use crate::mesh::{EdsKey, ServiceState, Snapshot};
use crate::model::{ClusterName, Proxy, TypeUrl};
use crate::wire::EncodedResource;

/// Resources sorted by name, shared by all proxies that get the same ones.
pub type ResourceList = Arc<[Arc<EncodedResource>]>;

/// What one proxy gets at one generation. Made anew for each generation; all
/// that costs is shared with other proxies of its class.
#[derive(Debug)]
pub struct ProxyResources {
    client: Client,
}

impl ProxyResources {
    /// The resources of `proxy` in `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>, proxy: Arc<Proxy>) -> Self {
        let client = Client::new(snapshot, proxy);
        Self { client }
    }

    /// All resources of a type that has a wildcard, sorted by name; empty for
    /// other types.
    pub fn all(&self, kind: TypeUrl) -> ResourceList {
        match kind {
            TypeUrl::Cluster => cds::list(&self.client),
            TypeUrl::Listener => lds::list(&self.client),
            TypeUrl::NameTable => nds::list(&self.client),
            TypeUrl::ClusterLoadAssignment | TypeUrl::RouteConfiguration => Arc::from([]),
        }
    }

    /// One resource by name. A name that nothing stands behind is answered all
    /// the same where Envoy would wait for it for ever (istiod-contract §2.7):
    /// with no endpoints, or no virtual hosts.
    pub fn named(&self, kind: TypeUrl, name: &str) -> Option<Arc<EncodedResource>> {
        match kind {
            TypeUrl::Cluster | TypeUrl::Listener | TypeUrl::NameTable => {
                let all = self.all(kind);
                let at = all.binary_search_by(|r| (**r.name()).cmp(name)).ok()?;
                all.get(at).cloned()
            }
            TypeUrl::ClusterLoadAssignment => self.endpoints(name),
            TypeUrl::RouteConfiguration => Some(rds::route(&self.client, name)),
        }
    }

    fn endpoints(&self, name: &str) -> Option<Arc<EncodedResource>> {
        let cluster: ClusterName = name.parse().ok()?;
        let Some(state) = self.answering(&cluster) else {
            return Some(Arc::new(eds::empty(&Arc::from(name))));
        };
        let view = self.client.view(state, &cluster);
        let kept = is_defined(state, &cluster);
        let key = EdsKey { cluster, view };
        Some(if kept {
            state.eds(key, eds::encode)
        } else {
            // Names that clients make up must not fill the memo.
            Arc::new(eds::encode(state, &key))
        })
    }

    /// The service whose endpoints a cluster has, unless it carries them itself.
    fn answering(&self, cluster: &ClusterName) -> Option<&Arc<ServiceState>> {
        let client = &self.client;
        let state = client.scope.service(&client.snapshot, &cluster.host)?;
        let port = state.service.port(cluster.port);
        (port.is_some() && cds::uses_eds(state, client.proxy.kind)).then_some(state)
    }
}

/// Whether some rule defines the subset.
fn is_defined(state: &ServiceState, cluster: &ClusterName) -> bool {
    let subset = &cluster.subset;
    subset.is_empty() || state.rules.iter().any(|rule| rule.subset(subset).is_some())
}

/// Sorts resources by name and drops those of a name that is taken: Envoy
/// refuses a list with two of one name.
pub(super) fn sorted(mut all: Vec<Arc<EncodedResource>>) -> ResourceList {
    all.sort_by(|a, b| a.name().cmp(b.name()));
    all.dedup_by(|b, a| a.name() == b.name());
    all.into()
}
