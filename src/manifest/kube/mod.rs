//! Objects of Kubernetes, Gateway API and Multi-Cluster Services.

pub(super) mod gateway;
pub(super) mod mcs;
pub(super) mod node;
pub(super) mod pod;
pub(super) mod service;
pub(super) mod slice;

use std::net::IpAddr;

use crate::manifest::Problem;

/// Reads an IP address.
fn ip(text: &str, field: impl FnOnce() -> String) -> Result<IpAddr, Problem> {
    let address = text.parse();
    address.map_err(|_| Problem::new(field(), format!("{text:?} is not an IP address")))
}
