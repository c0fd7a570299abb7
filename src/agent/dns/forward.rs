//! Questions about names that are not of the mesh: passed on, and the answer
//! passed back, byte by byte.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tracing::debug;

use super::Transport;

/// The answer of the first server that gives one, in the time that each has.
pub(super) async fn ask(
    servers: &[SocketAddr],
    turn: usize,
    question: &[u8],
    (transport, limit): (Transport, Duration),
) -> Option<Vec<u8>> {
    let first = turn.checked_rem(servers.len()).unwrap_or_default();
    let in_turn = servers.iter().skip(first).chain(servers.iter().take(first));
    for server in in_turn {
        let exchange = async {
            match transport {
                Transport::Udp => over_udp(*server, question).await,
                Transport::Tcp => over_tcp(*server, question).await,
            }
        };
        match timeout(limit, exchange).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => debug!(%server, %error, "DNS server"),
            Err(_) => debug!(%server, "DNS server does not answer"),
        }
    }
    None
}

/// The socket is connected, so that only this server's packets come in, on a
/// port of the kernel's choice; its answer has the number of the question.
async fn over_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if length > 2 && answer.get(..2) == question.get(..2) {
            return Ok(answer.to_vec());
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_framed(&mut stream, question).await?;
    read_framed(&mut stream).await
}

/// A message behind its length.
pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// The next message behind its length.
pub(super) async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
