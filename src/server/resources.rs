//! What a session asks of a snapshot, answered by the encoders.

use std::sync::Arc;

use crate::ads::Resources;
use crate::model::TypeUrl;
use crate::wire::EncodedResource;
use crate::xds::{ProxyResources, ResourceList};

impl Resources for ProxyResources {
    fn all(&self, kind: TypeUrl) -> ResourceList {
        Self::all(self, kind)
    }

    fn named(&self, kind: TypeUrl, name: &str) -> Option<Arc<EncodedResource>> {
        Self::named(self, kind, name)
    }
}
