//! Pure encoders: from a service and a view to framed Envoy resources.

pub mod eds;
pub mod endpoint_policy;
pub mod locality_lb;
mod mtls;
pub mod split_horizon;
pub mod view;
