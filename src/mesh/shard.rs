//! One registry's part of a service's endpoints.

use std::{ops::Deref, sync::Arc};

use crate::model::{Endpoint, NetworkId};

/// The endpoints of a service that one registry reports, with what is asked of
/// them all: a change of one registry then costs no look at those of others.
#[derive(Debug)]
pub struct Shard {
    endpoints: Box<[Endpoint]>,
    /// Each once.
    networks: Box<[NetworkId]>,
    /// Each once; a bare address has none.
    identities: Box<[Arc<str>]>,
}

impl Shard {
    /// The networks that some endpoint is on.
    pub fn networks(&self) -> &[NetworkId] {
        &self.networks
    }

    /// SPIFFE identities of the endpoints.
    pub fn identities(&self) -> &[Arc<str>] {
        &self.identities
    }
}

impl From<Vec<Endpoint>> for Shard {
    fn from(endpoints: Vec<Endpoint>) -> Self {
        let mut networks: Vec<NetworkId> = Vec::new();
        let mut identities: Vec<Arc<str>> = Vec::new();
        for endpoint in &endpoints {
            let template = &endpoint.workload.template;
            // Few: the first look mostly decides.
            if let Some(network) = &template.network
                && !networks.contains(network)
            {
                networks.push(network.clone());
            }
            let identity = &template.identity;
            if !identity.is_empty() && !identities.contains(identity) {
                identities.push(Arc::clone(identity));
            }
        }
        Self {
            endpoints: endpoints.into(),
            networks: networks.into(),
            identities: identities.into(),
        }
    }
}

impl Deref for Shard {
    type Target = [Endpoint];

    fn deref(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

impl PartialEq for Shard {
    fn eq(&self, other: &Self) -> bool {
        self.endpoints == other.endpoints
    }
}

impl Eq for Shard {}
