//! Traffic between networks that are really apart: Linux network namespaces,
//! as root, by `make test-netns`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

#[path = "../support"]
mod support {
    pub(crate) mod envoy;
    pub(crate) mod kube;
}

mod clusters;
mod http;
mod mesh;
mod namespace;
mod plane;
mod proxy;
mod seed;
mod topology;
mod wire;

mod canary;
mod discovery_only;
mod flat;
mod hosted;
mod isolation;
mod primary_remote;
