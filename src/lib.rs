//! isthmus: a multi-cluster, multi-network xDS control plane.
//!
//! Data flows one way: [`registry`] → [`mesh`] events → one writer → immutable
//! [`mesh::Snapshot`] → [`xds`] encoders → [`wire`] bytes → [`ads`] sessions →
//! [`server`] streams. A module uses only modules of a strictly lower level
//! (`docs/ARCHITECTURE.md`, held by `tests/layering.rs`).

pub mod admin;
pub mod ads;
pub mod agent;
pub mod app;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod controllers;
pub mod identity;
pub mod load;
pub mod manifest;
pub mod mesh;
pub mod model;
pub mod proto;
pub mod registry;
pub mod server;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod wire;
pub mod xds;
