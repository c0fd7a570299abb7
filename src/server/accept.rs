//! The accept loop.

use std::{convert::Infallible, future::ready, io, net::SocketAddr, pin::pin, sync::Arc};

use hyper::{rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Duration, sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::coalesce::Coalesced;
use super::service::Service;
use super::{Config, State};

/// Connections that the kernel may hold for us: the usual 128 turn a thousand
/// reconnects at once into seconds of retries.
const BACKLOG: u32 = 4096;

/// Unread request bytes that one stream, and one connection, may hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

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

/// Runs hyper's streams as children of the server's tasks.
#[derive(Debug, Clone)]
struct Tasks(TaskTracker);

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Serves ADS on `listener` until `shutdown` resolves, then tells every stream
/// that it ends and gives connections `config.grace` to close.
pub async fn serve(listener: TcpListener, state: Arc<State>, shutdown: impl Future<Output = ()>) {
    let grace = state.config.grace;
    let service = Service::new(state);
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => start(&service, socket, peer),
                Err(error) => {
                    // Out of file descriptors, mostly: it may pass.
                    warn!(%error, "cannot accept connections");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    service.stop.cancel();
    service.tasks.close();
    if timeout(grace, service.tasks.wait()).await.is_err() {
        debug!(left = service.tasks.len(), "streams left at shutdown");
    }
}

fn start(service: &Service, socket: TcpStream, peer: SocketAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let connection = Box::pin(connection(service.clone(), socket, peer));
    service.tasks.spawn(connection);
}

async fn connection(service: Service, socket: TcpStream, peer: SocketAddr) {
    let socket = Coalesced::new(socket);
    let config = service.state.config.clone();
    let stop = service.stop.clone();
    let builder = http2_of(&config, &service.tasks);
    let respond =
        service_fn(move |request| ready(Ok::<_, Infallible>(service.respond(peer, request))));
    // Boxed, or each future around it would hold room for it twice.
    let mut http = Box::pin(builder.serve_connection(TokioIo::new(socket.share()), respond));
    let serve = async move {
        tokio::select! {
            ended = http.as_mut() => return ended,
            () = stop.cancelled() => {}
            () = age(config.max_age) => {}
        }
        // GOAWAY: clients open their next stream elsewhere (xDS rule 61).
        http.as_mut().graceful_shutdown();
        timeout(config.grace, http).await.unwrap_or(Ok(()))
    };
    if let Err(error) = socket.drive(serve).await {
        debug!(%peer, %error, "connection ended");
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
fn http2_of(config: &Config, tasks: &TaskTracker) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(Tasks(tasks.clone()));
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
