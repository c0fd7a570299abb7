//! The xDS resource types that isthmus serves.

use std::fmt;

/// A resource type. The declaration order is the push order (xDS: make before
/// break; istiod `PushOrder`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TypeUrl {
    /// CDS.
    Cluster,
    /// EDS.
    ClusterLoadAssignment,
    /// LDS.
    Listener,
    /// RDS.
    RouteConfiguration,
}

impl TypeUrl {
    /// All types, in push order.
    pub const ALL: [Self; 4] = [
        Self::Cluster,
        Self::ClusterLoadAssignment,
        Self::Listener,
        Self::RouteConfiguration,
    ];

    /// The type named by a request, if isthmus serves it.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }

    /// The full type URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::ClusterLoadAssignment => {
                "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
            }
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::RouteConfiguration => {
                "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
            }
        }
    }

    /// The short name used in metrics and logs: `cds`, `eds`, `lds`, `rds`.
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::ClusterLoadAssignment => "eds",
            Self::Listener => "lds",
            Self::RouteConfiguration => "rds",
        }
    }

    /// Whether "no names" means "all resources" (xDS: CDS and LDS only).
    pub fn has_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
