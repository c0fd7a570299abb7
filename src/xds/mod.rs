//! Pure encoders: from a service and a view to framed Envoy resources.

mod cds;
mod client;
mod egress;
mod lds;
mod pb;
mod rds;
mod resources;
mod seam;
#[cfg(test)]
mod tests;
mod value;

pub use resources::{ProxyResources, ResourceList};
