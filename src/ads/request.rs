//! What a client may ask, in both forms of the protocol.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use crate::model::TypeUrl;

/// The two forms of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Incremental.
    Delta,
    /// State of the world.
    Sotw,
}

/// A request.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "moved once, never stored")]
pub enum Request {
    /// Incremental.
    Delta(DeltaDiscoveryRequest),
    /// State of the world.
    Sotw(DiscoveryRequest),
}

impl Request {
    /// Its type, if that is served.
    pub fn kind(&self) -> Option<TypeUrl> {
        TypeUrl::parse(match self {
            Self::Delta(request) => &request.type_url,
            Self::Sotw(request) => &request.type_url,
        })
    }

    /// How many names it gives.
    pub fn names(&self) -> usize {
        match self {
            Self::Delta(request) => {
                request.resource_names_subscribe.len()
                    + request.resource_names_unsubscribe.len()
                    + request.initial_resource_versions.len()
            }
            Self::Sotw(request) => request.resource_names.len(),
        }
    }
}
