//! Sockets that connections come from.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::identity::serving::ServerTls;

/// Connections that the kernel may hold for us: the usual 128 turn a thousand
/// reconnects at once into seconds of retries.
const BACKLOG: u32 = 4096;

/// A listening socket with a backlog that a reconnecting mesh fits in.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listening socket, and how its connections are carried.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<ServerTls>,
}

impl Listener {
    /// Connections as they are (`--grpcAddr`).
    pub fn plaintext(socket: TcpListener) -> Self {
        Self { socket, tls: None }
    }

    /// TLS, each connection with what `tls` says at its time
    /// (`--secureGRPCAddr`).
    pub fn secure(socket: TcpListener, tls: ServerTls) -> Self {
        let tls = Some(tls);
        Self { socket, tls }
    }
}
