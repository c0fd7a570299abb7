//! Watches clusters and turns their objects into [`crate::mesh::Event`]s.

pub mod dns;
pub mod file;
pub(crate) mod jitter;
pub mod kube;
pub mod multicluster;
