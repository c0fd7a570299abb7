//! The other end of a connection.

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use crate::auth::Channel;

/// The other end of a connection, as the connection itself tells.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// What carries the connection.
    pub channel: Channel,
    /// Ends the connection.
    pub(super) cut: CancellationToken,
}

impl Peer {
    /// One that nothing is known of but its address.
    pub fn plaintext(address: SocketAddr) -> Self {
        Self::new(address, Channel::Plaintext)
    }

    /// One that came over `channel`.
    pub fn new(address: SocketAddr, channel: Channel) -> Self {
        let cut = CancellationToken::new();
        Self {
            address,
            channel,
            cut,
        }
    }
}
