//! HTTP/2 below the streams: one connection and its calls.
//!
//! On h2 itself, not on hyper: that has each stream wait for a reset all the
//! time, h2 wakes who waits for one when room is given, and room is given before
//! each question for more. A message then polls its stream four times where two
//! will do.

use std::{
    future::pending,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::{
    RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Duration, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::coalesce::Coalesced;
use super::drive::Starts;
use super::keepalive::lost;
use super::seldom::Seldom;
use super::service::Service;
use super::{Config, Peer};

/// Unread request bytes that one stream, and one connection, may hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Bytes of one stream's responses that may wait below it.
const SEND_BUFFER: usize = 64 * 1024;

/// Room for a token and a chain of certificates.
const HEADERS: u32 = 16 * 1024;

/// Small windows and buffers: what an idle connection holds is most of what a
/// thousand sidecars cost.
fn builder(config: &Config) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(config.max_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// What a connection is told from outside.
enum Order {
    /// To take no more streams, and to end with the last.
    Close,
    /// To end.
    Cut,
}

/// Serves one connection to its end. Its calls run where `starts` starts them.
pub(super) async fn serve<T>(
    service: Service,
    socket: Coalesced<T>,
    peer: Peer,
    starts: Starts,
) -> Result<(), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = service.state.config.clone();
    let Some(begun) = begin(&service.stop, socket.share(), &config).await else {
        return Ok(());
    };
    let mut http = begun?;
    let lost = lost(http.ping_pong(), socket, &config);
    let (stop, cut) = (service.stop.clone(), peer.cut.clone());
    let mut orders = Seldom::new(orders(stop, cut.clone(), config.max_age, lost));
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = http.accept() => accepted,
            order = &mut orders => match order {
                Order::Cut => return Ok(()),
                Order::Close => {
                    // GOAWAY: clients open their next stream elsewhere (xDS rule 61).
                    http.graceful_shutdown();
                    orders = Seldom::new(last_orders(cut.clone(), config.grace));
                    continue;
                }
            },
        };
        match accepted {
            Some(Ok((request, respond))) => answer(&service, &peer, &starts, request, respond),
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}

/// Waits for the client's first words, as long as for a sign of life later.
async fn begin<T>(
    stop: &CancellationToken,
    socket: Coalesced<T>,
    config: &Config,
) -> Option<Result<Connection<Coalesced<T>, Bytes>, h2::Error>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let begun = builder(config).handshake(socket);
    let patience = config.keepalive_interval + config.keepalive_timeout;
    let begun = timeout(patience, begun);
    stop.run_until_cancelled(Box::pin(begun)).await?.ok()
}

fn orders(
    stop: CancellationToken,
    cut: CancellationToken,
    max_age: Option<Duration>,
    lost: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, Order> {
    let age = async move {
        match max_age {
            Some(limit) => sleep(limit).await,
            None => pending().await,
        }
    };
    Box::pin(async move {
        tokio::select! {
            () = stop.cancelled() => Order::Close,
            () = age => Order::Close,
            // Its client does not read: it will not end its streams either.
            () = cut.cancelled() => Order::Cut,
            () = lost => Order::Cut,
        }
    })
}

fn last_orders(cut: CancellationToken, grace: Duration) -> BoxFuture<'static, Order> {
    Box::pin(async move {
        // Too late or cut, it ends.
        let _ = timeout(grace, cut.cancelled()).await;
        Order::Cut
    })
}

/// Starts the answer to one request.
fn answer(
    service: &Service,
    peer: &Peer,
    starts: &Starts,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let response = service.respond(peer, request.map(RequestBody));
    let (head, body) = response.into_parts();
    let is_all = body.is_end_stream();
    let head = Response::from_parts(head, ());
    // Who has gone already gets no answer.
    if let Ok(out) = respond.send_response(head, is_all)
        && !is_all
    {
        starts.start(Call {
            body,
            out,
            began: false,
        });
    }
}

/// A response on its way. It takes the next piece from its body when there is
/// room for it, and is woken by what its body waits for and by nothing else.
struct Call {
    body: ResponseBody,
    out: SendStream<Bytes>,
    /// Something was sent.
    began: bool,
}

impl Future for Call {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { body, out, began } = &mut *self;
        while ready!(poll_room(out, cx)) {
            let Poll::Ready(next) = Pin::new(&mut *body).poll_frame(cx) else {
                // Later, the client's reset is seen by who reads its requests.
                if !*began && out.poll_reset(cx).is_ready() {
                    return Poll::Ready(());
                }
                return Poll::Pending;
            };
            *began = true;
            let Some(Ok(frame)) = next else {
                // The end, as any error below: the client may have gone.
                let _ = out.send_data(Bytes::new(), true);
                return Poll::Ready(());
            };
            match frame.into_data() {
                Ok(data) => {
                    if out.send_data(data, false).is_err() {
                        return Poll::Ready(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = out.send_trailers(trailers);
                    }
                    return Poll::Ready(());
                }
            }
        }
        Poll::Ready(())
    }
}

/// Waits until the client and the buffer below have room; `false` where the
/// client has gone. A piece of any size is then taken by reference.
fn poll_room(out: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<bool> {
    out.reserve_capacity(1);
    while out.capacity() == 0 {
        match ready!(out.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

/// A request's body. What was read of it makes room for more at once: who reads
/// keeps account of what it holds.
#[derive(Debug)]
struct RequestBody(RecvStream);

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let next = ready!(self.0.poll_data(cx)).transpose()?;
        Poll::Ready(match next {
            Some(data) => {
                self.0.flow_control().release_capacity(data.len())?;
                Some(Ok(Frame::data(data)))
            }
            None => None,
        })
    }
}

#[cfg(test)]
mod tests;
