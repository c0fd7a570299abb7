//! Everything one proxy gets at one generation.

use std::sync::Arc;

use super::audience::Audience;
use super::client::Client;
use super::{cds, lds, nds, rds};
use crate::mesh::Snapshot;
use crate::model::{Proxy, TypeUrl};
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
    /// The resources of `proxy`, which belongs to `audience`, in `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>, proxy: Arc<Proxy>, audience: Arc<Audience>) -> Self {
        let client = Client::new(snapshot, proxy, audience);
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
            TypeUrl::ClusterLoadAssignment => {
                let client = &self.client;
                client.audience.endpoints(&client.snapshot, name)
            }
            TypeUrl::RouteConfiguration => Some(rds::route(&self.client, name)),
        }
    }
}

/// Sorts resources by name and drops those of a name that is taken: Envoy
/// refuses a list with two of one name.
pub(super) fn sorted(mut all: Vec<Arc<EncodedResource>>) -> ResourceList {
    all.sort_by(|a, b| a.name().cmp(b.name()));
    all.dedup_by(|b, a| a.name() == b.name());
    all.into()
}
