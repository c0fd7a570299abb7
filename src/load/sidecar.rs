//! The life of a sidecar: connect, talk, and come back when that ends.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use h2::{RecvStream, SendStream, client::SendRequest};
use parking_lot::Mutex as SyncMutex;
use tokio::{
    pin,
    sync::{Mutex, watch},
    task::JoinSet,
    time::{Instant, interval, sleep, timeout},
};
use tonic::Status;

use super::grpc::Messages;
use super::ledger::Ledger;
use super::offender::{Offence, Reading};
use super::proxy::Proxy;
use super::server::{End, Server};
use super::walk::Variant;

/// What the sidecars of a run share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) server: Server,
    pub(super) variant: Variant,
    pub(super) ledger: Arc<Ledger>,
    /// Connections, where sidecars share some.
    pub(super) shared: Option<Shared>,
    /// Tells all good sidecars to drop their streams.
    pub(super) storms: watch::Sender<()>,
    /// Names that nobody has, of the one client that asks for them.
    pub(super) nothing: u32,
}

/// Lives until its task is aborted.
pub(super) async fn live(world: Arc<World>, mut proxy: Proxy) {
    let mut storms = world.storms.subscribe();
    let is_good = proxy.place.offence.is_none();
    for attempt in 0_u64.. {
        storms.mark_unchanged();
        let end = tokio::select! {
            biased;
            end = stream(&world, &mut proxy) => Some(end),
            _ = storms.changed(), if is_good => None,
        };
        let was_served = proxy.on_end();
        let Some(end) = end else { continue };
        match proxy.place.offence {
            None => world.ledger.ended(was_served, end.to_string()),
            Some(offence) => closed(&world.ledger, offence, &end),
        }
        sleep(back_off(proxy.place.index, attempt)).await;
    }
}

/// Connects `rate` times a second, and leaves as soon as it is answered.
pub(super) async fn reconnect(world: Arc<World>, mut proxy: Proxy, rate: u32) {
    let period = Duration::from_secs(1) / rate.max(1);
    let mut ticks = interval(period);
    loop {
        ticks.tick().await;
        let end = timeout(period, stream(&world, &mut proxy)).await;
        proxy.on_end();
        closed(
            &world.ledger,
            Offence::Reconnects,
            &end.unwrap_or(End::Left),
        );
    }
}

fn closed(ledger: &Ledger, offence: Offence, end: &End) {
    ledger.offended(offence, |met| {
        *met.closed.entry(end.label()).or_default() += 1;
    });
}

/// Envoy opens a stream that ended again after 500 ms and up to as much more.
fn back_off(index: u32, attempt: u64) -> Duration {
    let spread = u64::from(index)
        .wrapping_mul(7919)
        .wrapping_add(attempt.wrapping_mul(104_729));
    Duration::from_millis(500 + spread % 501)
}

/// One stream, from connecting to its end.
async fn stream(world: &World, proxy: &mut Proxy) -> End {
    let reading = proxy.place.offence.map_or(Reading::All, Offence::reading);
    let opened = match (&world.shared, proxy.place.offence) {
        (Some(shared), None) => {
            let send = shared.link(&world.server, proxy.place.index).await;
            return match send {
                Ok(send) => converse(world, proxy, send, reading).await,
                Err(end) => end,
            };
        }
        _ => world.server.connect(reading).await,
    };
    let (send, mut connection) = match opened {
        Ok(link) => link,
        Err(end) => return end,
    };
    let conversation = converse(world, proxy, send, reading);
    pin!(conversation);
    // The connection first: all sockets that have something are read before
    // any ACK is written, so that ACKs are not in the measured time.
    tokio::select! {
        biased;
        ended = &mut connection => {
            // It may have left a status behind.
            let last = conversation.now_or_never();
            last.unwrap_or_else(|| ended.map_or_else(End::from, |()| End::Closed))
        }
        end = &mut conversation => end,
    }
}

async fn converse(
    world: &World,
    proxy: &mut Proxy,
    send: SendRequest<Bytes>,
    reading: Reading,
) -> End {
    match try_converse(world, proxy, send, reading).await {
        Ok(end) | Err(end) => end,
    }
}

async fn try_converse(
    world: &World,
    proxy: &mut Proxy,
    send: SendRequest<Bytes>,
    reading: Reading,
) -> Result<End, End> {
    let mut send = send.ready().await?;
    let (response, mut requests) = send.send_request(world.server.call(world.variant), false)?;
    let mut out = BytesMut::new();
    proxy.open(&mut out);
    if let Some(offence) = proxy.place.offence {
        world.ledger.offended(offence, |met| met.streams += 1);
        if offence == Offence::ManyNames {
            proxy.subscribe_to_nothing(world.nothing, &mut out);
        }
    }
    requests.send_data(out.split().freeze(), false)?;
    let response = response.await?;
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Ok(End::Status(Box::new(status)));
    }
    let body = response.into_body();
    match reading {
        Reading::All => read(proxy, body, requests, out).await,
        _ => dawdle(&world.ledger, proxy, body, reading).await,
    }
}

/// Reads and answers all there is.
async fn read(
    proxy: &mut Proxy,
    mut body: RecvStream,
    mut requests: SendStream<Bytes>,
    mut out: BytesMut,
) -> Result<End, End> {
    let mut messages = Messages::default();
    while let Some(data) = body.data().await {
        let data = data?;
        let now = Instant::now();
        let mut taken = Ok(());
        if let Some(offence) = proxy.place.offence {
            proxy
                .ledger
                .offended(offence, |met| met.bytes += data.len() as u64);
        }
        messages.feed(&data, |message| {
            if let Err(error) = proxy.on_response(message, now, &mut out) {
                taken = Err(error);
            }
        })?;
        taken?;
        body.flow_control().release_capacity(data.len())?;
        if !out.is_empty() {
            requests.send_data(out.split().freeze(), false)?;
        }
        if proxy.place.offence == Some(Offence::Reconnects) {
            return Ok(End::Left);
        }
    }
    Ok(last_words(&mut body).await)
}

/// Reads a byte a second, or nothing beyond the first window; answers nothing.
async fn dawdle(
    ledger: &Ledger,
    proxy: &Proxy,
    mut body: RecvStream,
    reading: Reading,
) -> Result<End, End> {
    while let Some(data) = body.data().await {
        let data = data?;
        if let Some(offence) = proxy.place.offence {
            ledger.offended(offence, |met| met.bytes += data.len() as u64);
        }
        if reading == Reading::Slowly {
            sleep(Duration::from_secs(1)).await;
            body.flow_control().release_capacity(data.len())?;
        }
    }
    Ok(last_words(&mut body).await)
}

/// The status that a server ends a stream with.
async fn last_words(body: &mut RecvStream) -> End {
    match body.trailers().await {
        Ok(trailers) => trailers
            .and_then(|trailers| Status::from_header_map(&trailers))
            .map_or(End::Closed, |status| End::Status(Box::new(status))),
        Err(error) => End::from(error),
    }
}

/// Connections that sidecars share.
#[derive(Debug)]
pub(super) struct Shared {
    links: Vec<Mutex<Option<SendRequest<Bytes>>>>,
    drivers: SyncMutex<JoinSet<()>>,
}

impl Shared {
    pub(super) fn new(count: u32) -> Self {
        Self {
            links: (0..count).map(|_| Mutex::default()).collect(),
            drivers: SyncMutex::default(),
        }
    }

    /// The connection of a sidecar, made anew where it is lost.
    async fn link(&self, server: &Server, index: u32) -> Result<SendRequest<Bytes>, End> {
        let place = (index as usize).checked_rem(self.links.len());
        let link = place.and_then(|place| self.links.get(place));
        let Some(link) = link else {
            return Err(End::Closed);
        };
        let mut link = link.lock().await;
        if let Some(send) = link.clone()
            && let Ok(send) = send.ready().await
        {
            return Ok(send);
        }
        let (send, connection) = server.connect(Reading::All).await?;
        let mut drivers = self.drivers.lock();
        while drivers.try_join_next().is_some() {}
        // How it ends, its streams tell.
        drivers.spawn(connection.map(drop));
        *link = Some(send.clone());
        Ok(send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_back_after_half_a_second_to_one_and_not_together() {
        let waits: Vec<_> = (0..100).map(|index| back_off(index, 0)).collect();
        let range = Duration::from_millis(500)..=Duration::from_secs(1);
        assert!(waits.iter().all(|wait| range.contains(wait)));
        let different: std::collections::BTreeSet<_> = waits.iter().collect();
        assert!(different.len() > 90);
    }
}
