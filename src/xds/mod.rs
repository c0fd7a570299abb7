//! Pure encoders: from a service and a view to framed Envoy resources.

// Equal input, equal bytes, equal version.
#![deny(clippy::iter_over_hash_type)]

pub mod eds;
pub mod endpoint_policy;
pub mod locality_lb;
mod mtls;
pub mod split_horizon;
pub mod view;
