//! Watches clusters and turns their objects into [`crate::mesh::Event`]s.

pub mod file;
