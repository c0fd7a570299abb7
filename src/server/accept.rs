//! The accept loop.

use std::{convert::Infallible, future::ready, net::SocketAddr, sync::Arc};

use futures::future::join_all;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Duration, sleep, timeout},
};
use tracing::{debug, warn};

use super::coalesce::Coalesced;
use super::drive::{Starts, Streams};
use super::service::Service;
use super::{Config, Listener, Peer, State};
use crate::identity::serving::ServerTls;

/// Unread request bytes that one stream, and one connection, may hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Serves ADS, and certificates, on `listeners` until `shutdown` resolves, then
/// tells every stream that it ends and gives connections `config.grace` to
/// close.
pub async fn serve(
    listeners: Vec<Listener>,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) {
    let grace = state.config.grace;
    let service = Service::new(state);
    let monitor = Arc::clone(&service.limits.monitor);
    service.tasks.spawn(monitor.run(service.stop.clone()));
    let accepting = listeners.into_iter().map(|from| accept(from, &service));
    tokio::select! {
        () = shutdown => {}
        _ = join_all(accepting) => {}
    }
    service.stop.cancel();
    service.tasks.close();
    if timeout(grace, service.tasks.wait()).await.is_err() {
        debug!(left = service.tasks.len(), "streams left at shutdown");
    }
}

async fn accept(listener: Listener, service: &Service) -> Infallible {
    loop {
        match listener.socket.accept().await {
            Ok((socket, peer)) => start(service, socket, peer, listener.tls.as_ref()),
            Err(error) => {
                // Out of file descriptors, mostly: it may pass.
                warn!(%error, "cannot accept connections");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn start(service: &Service, socket: TcpStream, address: SocketAddr, tls: Option<&ServerTls>) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(peer = %address, %error, "cannot set TCP_NODELAY");
    }
    let Some(tls) = tls.cloned() else {
        let connection = connection(service.clone(), socket, Peer::plaintext(address));
        service.tasks.spawn(Box::pin(connection));
        return;
    };
    let service = service.clone();
    let tasks = service.tasks.clone();
    tasks.spawn(async move {
        // Boxed apart: a connection must not hold the room of its handshake.
        let stop = service.stop.clone();
        let handshake = service
            .handshakes
            .accept(socket, &tls, &service.limits.turns);
        let handshake = Box::pin(handshake);
        match stop.run_until_cancelled(handshake).await {
            Some(Ok((stream, channel))) => {
                let peer = Peer::new(address, channel);
                Box::pin(connection(service, stream, peer)).await;
            }
            Some(Err(error)) => service.state.metrics.refusals.connection(address, &error),
            None => {}
        }
    });
}

async fn connection<T>(service: Service, socket: T, peer: Peer)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (socket, address) = (Coalesced::new(socket), peer.address);
    let config = service.state.config.clone();
    let (stop, cut) = (service.stop.clone(), peer.cut.clone());
    let streams = Streams::default();
    let builder = http2_of(&config, streams.starts());
    let respond =
        service_fn(move |request| ready(Ok::<_, Infallible>(service.respond(&peer, request))));
    // Boxed, or each future around it would hold room for it twice.
    let mut http = Box::pin(builder.serve_connection(TokioIo::new(socket.share()), respond));
    let serve = async move {
        tokio::select! {
            ended = http.as_mut() => return ended,
            () = stop.cancelled() => {}
            () = age(config.max_age) => {}
            // Its client does not read: it will not end its streams either.
            () = cut.cancelled() => return Ok(()),
        }
        // GOAWAY: clients open their next stream elsewhere (xDS rule 61).
        http.as_mut().graceful_shutdown();
        let closing = cut.run_until_cancelled(timeout(config.grace, http));
        closing.await.and_then(Result::ok).unwrap_or(Ok(()))
    };
    if let Err(error) = streams.drive(socket, serve).await {
        debug!(peer = %address, %error, "connection ended");
    }
}

async fn age(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Small windows and buffers: what an idle connection holds is most of what a
/// thousand sidecars cost.
fn http2_of(config: &Config, starts: Starts) -> http2::Builder<Starts> {
    let mut builder = http2::Builder::new(starts);
    builder
        .timer(TokioTimer::new())
        // Dead peers go; pings of clients are answered however often they come
        // (xDS rule 69).
        .keep_alive_interval(config.keepalive_interval)
        .keep_alive_timeout(config.keepalive_timeout)
        .max_concurrent_streams(config.max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(64 * 1024);
    builder
}
