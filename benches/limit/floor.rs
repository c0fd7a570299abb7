//! The least that a server can do: a task wakes up and writes ready frames with
//! one system call. It reads no request, keeps no window and knows no client.

use std::{
    io::{self, IoSlice, stdin},
    net::Ipv4Addr,
};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use isthmus::model::TypeUrl;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::http2::{self, FRAME};
use super::{isthmus as real, runtime, tls};

/// A response like that of the other server.
fn response(size: usize) -> Bytes {
    let kind = TypeUrl::ClusterLoadAssignment.as_str().to_owned();
    let body = Any {
        type_url: kind.clone(),
        value: vec![b'x'; size],
    };
    let response = DeltaDiscoveryResponse {
        system_version_info: "0123456789abcdef".to_owned(),
        resources: vec![Resource {
            name: real::NAME.to_owned(),
            version: "0123456789abcdef".to_owned(),
            resource: Some(body),
            ..Resource::default()
        }],
        type_url: kind,
        nonce: "0123456789abcdef".to_owned(),
        ..DeltaDiscoveryResponse::default()
    };
    http2::message(&response).into()
}

/// Writes one message: one `writev`, and more only where the socket is full.
async fn send<T: AsyncWrite + Unpin>(socket: &mut T, message: &[u8]) -> io::Result<()> {
    let heads: Vec<_> = message.chunks(FRAME).map(http2::data).collect();
    let frames = heads.iter().zip(message.chunks(FRAME));
    let mut slices: Vec<_> = frames
        .flat_map(|(head, part)| [IoSlice::new(head), IoSlice::new(part)])
        .collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let written = socket.write_vectored(left).await?;
        IoSlice::advance_slices(&mut left, written);
    }
    socket.flush().await
}

async fn serve<T>(mut socket: T, message: Bytes, mut rounds: watch::Receiver<()>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // The client says everything at once.
    if socket.read(&mut [0; 4096]).await? == 0 {
        return Ok(());
    }
    socket.write_all(&http2::accept()).await?;
    loop {
        send(&mut socket, &message).await?;
        if rounds.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    message: Bytes,
    rounds: watch::Receiver<()>,
) {
    let mut streams = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        socket.set_nodelay(true).expect("a socket");
        let (message, rounds) = (message.clone(), rounds.clone());
        match tls.clone() {
            None => streams.spawn(serve(socket, message, rounds)),
            Some(tls) => streams.spawn(async move {
                let socket = tls.accept(socket).await?;
                serve(socket, message, rounds).await
            }),
        };
    }
}

pub fn run(size: usize, root: Option<&str>) {
    let runtime = runtime();
    let _inside = runtime.enter();
    let listener = isthmus::server::listen((Ipv4Addr::LOCALHOST, 0).into()).expect("listens");
    let rounds = watch::Sender::new(());
    // Who is told the address may read the root at once.
    let tls = root.map(|root| TlsAcceptor::from(tls::server(root.as_ref()).config()));
    println!("{}", listener.local_addr().expect("an address"));
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, tls, response(size), rounds.subscribe()));
    for _ in stdin().lines() {
        rounds.send_replace(());
    }
}
