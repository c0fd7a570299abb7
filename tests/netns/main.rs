//! Traffic between networks that are really apart: Linux network namespaces,
//! as root, by `make test-netns`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod namespace;
mod seed;
mod topology;

mod isolation;
