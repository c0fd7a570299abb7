//! What came of a request.

use envoy_types::pb::google::rpc::Status as RpcStatus;

use crate::model::{TypeUrl, printable};

/// What came of a request; for counters and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Taken.
    Accepted,
    /// Of a type that is not served: the stream stays, nothing is sent (xDS
    /// rule 5).
    Ignored,
    /// Its nonce is not that of the last response.
    Stale(TypeUrl),
    /// The client rejected a response.
    Rejected {
        /// Type.
        kind: TypeUrl,
        /// gRPC code of the rejection.
        code: i32,
        /// The client's words, safe to log.
        message: String,
    },
}

impl Received {
    pub(super) fn of(kind: TypeUrl, ours: bool, error: Option<&RpcStatus>) -> Self {
        match error {
            Some(error) => Self::Rejected {
                kind,
                code: error.code,
                message: printable(&error.message, 2048),
            },
            None if ours => Self::Accepted,
            None => Self::Stale(kind),
        }
    }
}
