//! Builders, model client and in-process server that tests and benches share.

pub mod ads_server;
pub mod ads_stream;
pub mod ads_world;
pub mod client;
pub mod gateways;
pub mod identity;
pub mod inbound;
pub mod record;
pub mod secure;
pub mod snapshot;
pub mod state;
pub mod told;
pub mod virtual_services;
pub mod world;
