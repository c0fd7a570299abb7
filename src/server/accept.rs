//! The accept loop.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use futures::future::join_all;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Duration, sleep, timeout},
};
use tracing::{debug, warn};

use super::coalesce::Coalesced;
use super::drive::Streams;
use super::service::Service;
use super::{Listener, Peer, State, http2};
use crate::identity::serving::ServerTls;

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
    service.limits.monitor.close();
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
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (socket, address) = (Coalesced::new(socket), peer.address);
    let streams = Streams::default();
    // Boxed, or each future around it would hold room for it twice.
    let http = Box::pin(http2::serve(
        service,
        socket.share(),
        peer,
        streams.starts(),
    ));
    if let Err(error) = streams.drive(socket, http).await {
        debug!(peer = %address, %error, "connection ended");
    }
}
