//! Builders, model client and in-process server that tests and benches share.

pub mod record;
