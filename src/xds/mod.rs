//! Pure encoders: from a service and a view to framed Envoy resources.

pub mod audience;
mod cds;
mod client;
pub mod eds;
mod egress;
pub mod endpoint_policy;
mod gateway;
mod http_route;
mod inbound;
mod lds;
pub mod locality_lb;
mod mtls;
mod nds;
mod pb;
mod rds;
mod resources;
pub mod split_horizon;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod value;
pub mod view;

pub use audience::{Audience, Audiences};
pub use resources::{ProxyResources, ResourceList};
