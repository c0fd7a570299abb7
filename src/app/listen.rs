//! Listening sockets.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use crate::config::ListenAddress;
use crate::server::listen;

/// Listens on the address of a flag.
pub(super) fn bind(address: ListenAddress, flag: &str) -> Result<TcpListener> {
    let bound = listen(address.socket).or_else(|error| {
        if !address.any_host {
            return Err(error);
        }
        // A machine without IPv6 has no [::].
        listen(SocketAddr::from((
            Ipv4Addr::UNSPECIFIED,
            address.socket.port(),
        )))
    });
    bound.with_context(|| format!("cannot listen on {address}; give another {flag}"))
}
