//! The other end of a connection.

use std::net::SocketAddr;

use crate::auth::Channel;

/// The other end of a connection, as the connection itself tells.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// What carries the connection.
    pub channel: Channel,
}

impl Peer {
    /// One that nothing is known of but its address.
    pub fn plaintext(address: SocketAddr) -> Self {
        let channel = Channel::Plaintext;
        Self { address, channel }
    }
}
