//! Why a stream ends, in words for the operator of the client.

use crate::model::TypeUrl;

/// What of the node message cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No node, or a node without an id.
    #[error("the first request of a stream must carry a node with an id")]
    Missing,
    /// The id is longer than any real one.
    #[error("node id of {0} bytes: at most 4096 are accepted")]
    TooLong(usize),
    /// Not four parts.
    #[error(
        "node id {id:?} has {parts} parts; it must be TYPE~IP~POD.NAMESPACE~DOMAIN, as in \
         \"sidecar~10.1.2.3~web-1.default~default.svc.cluster.local\""
    )]
    Parts {
        /// The id.
        id: String,
        /// How many it has.
        parts: usize,
    },
    /// A type nobody knows.
    #[error("node id {id:?}: unknown proxy type {kind:?}; known are sidecar and router")]
    UnknownType {
        /// The id.
        id: String,
        /// Its first part.
        kind: String,
    },
    /// A type of istio's that is not served.
    #[error("proxy type {0:?} is not served here: only sidecar and router are")]
    Unserved(String),
    /// No address.
    #[error(
        "node id {id:?}: no valid IP address in its second part nor in the metadata key INSTANCE_IPS"
    )]
    NoAddress {
        /// The id.
        id: String,
    },
    /// A metadata value has the wrong form.
    #[error("node metadata {key}: expected {expected}, found {found}")]
    Metadata {
        /// Key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

/// The gRPC status codes that sessions end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCode {
    /// `INVALID_ARGUMENT`.
    InvalidArgument,
    /// `UNIMPLEMENTED`.
    Unimplemented,
    /// `RESOURCE_EXHAUSTED`.
    ResourceExhausted,
}

/// Why a stream ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// xDS rule 4.
    #[error("a request on an aggregated stream must name its resource type in type_url")]
    MissingTypeUrl,
    /// xDS rules 3 and 71.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// xDS rule 65.
    #[error("too many resource names of type {kind} on one stream: over {limit} bytes")]
    TooManyNames {
        /// Type.
        kind: TypeUrl,
        /// Limit in bytes of names.
        limit: usize,
    },
}

impl ProtocolError {
    /// The gRPC status code.
    pub fn code(&self) -> StatusCode {
        match self {
            Self::Node(NodeError::Unserved(_)) => StatusCode::Unimplemented,
            Self::MissingTypeUrl | Self::Node(_) => StatusCode::InvalidArgument,
            Self::TooManyNames { .. } => StatusCode::ResourceExhausted,
        }
    }
}
