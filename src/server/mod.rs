//! Moves messages between gRPC streams and sessions; limits and counts.
//!
//! [`serve`] accepts connections. Each gets hyper's HTTP/2 server over a
//! write-coalescing socket; each ADS stream gets one task, which holds an
//! [`ads::Session`](crate::ads::Session) and waits for requests, newer
//! snapshots and room in its response body. Responses are shared bytes:
//! a thousand streams that get the same resource hold it once.

mod accept;
mod body;
mod coalesce;
mod config;
mod connections;
mod limit;
mod message;
mod metrics;
mod requests;
mod resources;
mod service;
mod state;
mod stream;

pub use accept::{listen, serve};
pub use body::ResponseBody;
pub use config::Config;
pub use connections::{Connection, Connections};
pub use metrics::{Metrics, Number};
pub use service::Service;
pub use state::{MakeResources, State};
