//! The sockets of the DNS server.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket, lookup_host},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::forward::{read_framed, write_framed};
use super::{Names, Transport};

/// Questions that may wait for other servers at once.
const MOST_QUESTIONS: usize = 1024;
/// Connections that may be open at once.
const MOST_CONNECTIONS: usize = 256;
/// How long a connection may be quiet (RFC 7766: some seconds).
const IDLE: Duration = Duration::from_secs(10);

/// Why names cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The address cannot be listened on.
    #[error("cannot serve DNS on {address}: {source}; --dns-proxy-addr names another address")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
}

/// The sockets of one address.
#[derive(Debug)]
pub(in crate::agent) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    pub(in crate::agent) address: SocketAddr,
}

/// Sockets for all addresses of `address`: `localhost` has two of them.
pub(in crate::agent) async fn listen(address: &str) -> Result<Vec<Sockets>, DnsError> {
    let failed = |source| DnsError::Listen {
        address: address.to_owned(),
        source,
    };
    let mut all: Vec<Sockets> = Vec::new();
    let mut problem = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for one in lookup_host(address).await.map_err(failed)? {
        if all.iter().any(|sockets| sockets.address == one) {
            continue;
        }
        match bind(one).await {
            Ok(sockets) => all.push(sockets),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
            // Of a family that this machine does not have.
            Err(error) => problem = error,
        }
    }
    if all.is_empty() {
        return Err(failed(problem));
    }
    Ok(all)
}

async fn bind(address: SocketAddr) -> io::Result<Sockets> {
    Ok(Sockets {
        udp: UdpSocket::bind(address).await?,
        tcp: TcpListener::bind(address).await?,
        address,
    })
}

/// Answers questions for ever.
pub(in crate::agent) async fn serve(sockets: Vec<Sockets>, names: Names) {
    let mut tasks = JoinSet::new();
    for one in sockets {
        tasks.spawn(datagrams(Arc::new(one.udp), names.clone()));
        tasks.spawn(connections(one.tcp, names.clone()));
    }
    // None of them ends; a panic of one is the end of all.
    if let Some(Err(error)) = tasks.join_next().await {
        warn!(%error, "the DNS server ended");
    }
}

async fn datagrams(socket: Arc<UdpSocket>, names: Names) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut questions = JoinSet::new();
    let room = Arc::new(Semaphore::new(MOST_QUESTIONS));
    loop {
        while questions.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An answer that a client did not wait for, mostly.
                debug!(%error, "cannot receive a DNS question");
                sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let question = buffer.get(..length).unwrap_or_default().to_vec();
        let (socket, names) = (Arc::clone(&socket), names.clone());
        questions.spawn(async move {
            let _permit = permit;
            if let Some(answer) = names.answer(&question, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, client).await
            {
                debug!(%client, %error, "cannot send a DNS answer");
            }
        });
    }
}

async fn connections(listener: TcpListener, names: Names) {
    let mut open = JoinSet::new();
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        while open.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let names = names.clone();
                open.spawn(async move {
                    let _permit = permit;
                    connection(stream, names).await;
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept DNS connections");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Until the client closes it, is quiet, or asks what is no question.
async fn connection(mut stream: TcpStream, names: Names) {
    while let Ok(Ok(question)) = timeout(IDLE, read_framed(&mut stream)).await {
        let Some(answer) = names.answer(&question, Transport::Tcp).await else {
            return;
        };
        let sent = timeout(IDLE, write_framed(&mut stream, &answer)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
