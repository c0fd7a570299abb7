//! The load generator: what it puts into clusters, and how it changes it.

pub mod mesh;
