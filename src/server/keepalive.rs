//! Peers that are gone without a word.

use std::future::{pending, poll_fn};

use h2::{Ping, PingPong};
use tokio::{
    io::AsyncWrite,
    time::{Instant, sleep_until, timeout_at},
};

use super::Config;
use super::coalesce::Coalesced;

/// Resolves when the peer is dead: it said nothing for `keepalive_interval`, was
/// asked with a ping, and said nothing for `keepalive_timeout` more. (Pings of
/// clients are answered however often they come: xDS rule 69.)
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
            while socket.heard().elapsed() < interval {
                sleep_until(socket.heard() + interval).await;
            }
            if pings.send_ping(Ping::opaque()).is_err() {
                // The connection has ended, and says so itself.
                return pending().await;
            }
            let mut last = Instant::now();
            // An answer may stand behind much else: while that comes, it lives.
            while timeout_at(last + limit, poll_fn(|cx| pings.poll_pong(cx)))
                .await
                .is_err()
            {
                if socket.heard() <= last {
                    return;
                }
                last = socket.heard();
            }
        }
    }
}

#[cfg(test)]
mod tests;
