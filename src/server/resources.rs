//! What a session asks of a snapshot, answered by the encoders.

use std::sync::Arc;

use super::Class;
use crate::ads::Resources;
use crate::mesh::Snapshot;
use crate::model::{Proxy, TypeUrl};
use crate::wire::EncodedResource;
use crate::xds::{Audience, ProxyResources, ResourceList};

impl Resources for ProxyResources {
    fn all(&self, kind: TypeUrl) -> ResourceList {
        Self::all(self, kind)
    }

    fn named(&self, kind: TypeUrl, name: &str) -> Option<Arc<EncodedResource>> {
        Self::named(self, kind, name)
    }
}

impl Class for Audience {
    fn resources(
        self: Arc<Self>,
        snapshot: Arc<Snapshot>,
        proxy: Arc<Proxy>,
    ) -> Box<dyn Resources + Send> {
        Box::new(ProxyResources::new(snapshot, proxy, self))
    }
}
