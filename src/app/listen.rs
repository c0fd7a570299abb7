//! Listening sockets.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpSocket};

use crate::config::ListenAddress;

/// The usual backlog of 128 turns 1,000 reconnecting proxies into dropped SYNs
/// and seconds of retries.
const BACKLOG: u32 = 4096;

/// Listens on an address; `what` names it in the error.
pub(super) fn bind(address: ListenAddress, what: &str) -> Result<TcpListener> {
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
    bound.with_context(|| format!("cannot listen on {address} ({what}); is the port taken?"))
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
