//! The xDS protocol as a state machine over values; knows no socket, clock or
//! task.
//!
//! A [`Session`] is one ADS stream, delta or `SotW`: requests and changes go in,
//! [`Outgoing`] responses come out when the stream has room for one. What the
//! proxy can be told it asks of [`Resources`]. Rule numbers in comments and
//! tests are those of the project's list of xDS server rules.

mod collect;
mod delta;
mod entries;
mod error;
mod metadata;
mod node;
mod outgoing;
mod received;
mod request;
mod session;
mod sotw;
mod stirred;
mod subscription;

pub use error::{NodeError, ProtocolError, StatusCode};
pub use node::{NodeReader, parse_node};
pub use outgoing::{Nonce, Outgoing};
pub use received::Received;
pub use request::{Request, Variant};
pub use session::{Options, Resources, Session, TypeStatus};
pub use subscription::Watch;
