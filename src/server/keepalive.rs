//! Peers that are gone without a word.

use std::future::{pending, poll_fn};

use h2::{Ping, PingPong};
use tokio::{
    io::AsyncWrite,
    time::{sleep, timeout},
};

use super::Config;
use super::coalesce::Coalesced;

/// Resolves when the peer is dead: nothing came for `keepalive_interval`, and
/// nothing for `keepalive_timeout` after a ping. (Pings of clients are answered
/// however often they come: xDS rule 69.)
pub(super) fn lost<T: AsyncWrite + Unpin>(
    pings: Option<PingPong>,
    socket: Coalesced<T>,
    config: &Config,
) -> impl Future<Output = ()> + use<T> {
    let (interval, limit) = (config.keepalive_interval, config.keepalive_timeout);
    async move {
        let Some(mut pings) = pings else {
            return pending().await;
        };
        loop {
            sleep(interval).await;
            if socket.take_heard() {
                continue;
            }
            if pings.send_ping(Ping::opaque()).is_err() {
                return pending().await;
            }
            let pong = poll_fn(|cx| pings.poll_pong(cx));
            match timeout(limit, pong).await {
                Ok(Ok(_)) => {}
                // The connection has ended, and says so itself.
                Ok(Err(_)) => return pending().await,
                Err(_) if socket.take_heard() => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
