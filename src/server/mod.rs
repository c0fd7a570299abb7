//! Moves messages between gRPC streams and sessions; limits and counts.
//!
//! [`serve`] accepts connections, over TLS where the listener says so. Each
//! gets an HTTP/2 server over a write-coalescing socket; each ADS stream
//! is the source of its response body: it finds out who calls, then holds an
//! [`ads::Session`](crate::ads::Session) and waits for requests and for news of
//! what it watches, whenever the body has room. Responses are shared bytes:
//! a thousand streams that get the same resource hold it once.

mod accept;
mod admission;
mod apart;
mod body;
mod budget;
mod certificates;
mod coalesce;
mod config;
mod connections;
mod drive;
mod handshake;
mod http2;
mod keepalive;
mod limit;
mod listener;
mod message;
mod messages;
mod metrics;
mod monitor;
mod offenders;
mod peer;
mod reconnects;
mod refusals;
mod requests;
mod resources;
mod seldom;
mod service;
mod standing;
mod state;
mod stream;
mod turns;
mod unary;

#[cfg(test)]
mod tests;

pub use accept::serve;
pub(crate) use apart::apart;
pub use body::ResponseBody;
pub use certificates::Certificates;
pub use config::Config;
pub use connections::{Connection, Connections};
pub use listener::{Listener, listen};
pub use metrics::{Metrics, Number};
pub use peer::Peer;
pub use service::Service;
pub use state::{Class, Classify, State};
