//! Clients with bad manners.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::{interval, sleep};

use crate::client::{Client, EDS, SERVICES, first, names};

const DELTA: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// A kind of bad manners.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offender {
    ReadsNothing,
    ReadsAByteASecond,
    AcksNothing,
    NacksEverything,
    HundredThousandNames,
    Reconnects,
    Storm,
}

/// Each kind, how many of them, and what they do.
pub(crate) const OFFENDERS: [(Offender, usize, &str); 7] = [
    (Offender::ReadsNothing, 20, "20 read nothing"),
    (Offender::ReadsAByteASecond, 20, "20 read a byte a second"),
    (Offender::AcksNothing, 20, "20 ACK nothing"),
    (
        Offender::NacksEverything,
        20,
        "20 NACK all, 100 times a second",
    ),
    (
        Offender::HundredThousandNames,
        1,
        "1 asks for 100,000 names, again and again",
    ),
    (Offender::Reconnects, 1, "1 reconnects 100 times a second"),
    (Offender::Storm, 300, "300 reconnect at once, every 2 s"),
];

impl Offender {
    /// Does so for ever.
    pub(crate) async fn act(self, address: String, who: String) {
        match self {
            Self::ReadsNothing => {
                let client = Client::open(&address, &who, 1024).await;
                if let Ok(client) = &client {
                    client.subscribe(names(SERVICES)).await;
                }
                std::future::pending::<()>().await;
            }
            Self::ReadsAByteASecond => trickle(&address, &who).await,
            Self::AcksNothing => {
                let client = Client::open(&address, &who, 1 << 20).await;
                let mut client = client.expect("a stream");
                client.subscribe(names(SERVICES)).await;
                while client.next().await.is_some() {}
            }
            Self::NacksEverything => nack(&address, &who).await,
            Self::HundredThousandNames => many_names(&address, &who).await,
            Self::Reconnects => {
                let mut often = interval(Duration::from_millis(10));
                loop {
                    often.tick().await;
                    if let Ok(mut client) = Client::open(&address, &who, 1 << 20).await {
                        client.next().await;
                    }
                }
            }
            Self::Storm => loop {
                if let Ok(mut client) = Client::open(&address, &who, 1 << 20).await {
                    client.next().await;
                    client.subscribe(names(SERVICES)).await;
                    client.next().await;
                    sleep(Duration::from_secs(2)).await;
                }
            },
        }
    }
}

async fn nack(address: &str, who: &str) {
    let mut client = Client::open(address, who, 1 << 20).await.expect("a stream");
    let mut last = client.next().await.expect("a response");
    let mut often = interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            next = client.next() => match next {
                Some(next) => last = next,
                None => return,
            },
            _ = often.tick() => client.answer(last.clone(), false).await,
        }
    }
}

async fn many_names(address: &str, who: &str) {
    loop {
        let client = Client::open(address, who, 1 << 20).await;
        let Ok(mut client) = client else { continue };
        let names = (0..100_000).map(|n| format!("outbound|80||no-{n}.shop.svc.cluster.local"));
        client.subscribe(names.collect()).await;
        let mut told = 0;
        while told < 100_000
            && let Some(response) = client.next().await
        {
            if response.type_url == EDS.as_str() {
                told += response.resources.len();
            }
            client.answer(response, true).await;
        }
    }
}

async fn trickle(address: &str, who: &str) {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    let reading = async move {
        let message = first(who).encode_to_vec();
        let length = u32::try_from(message.len()).expect("small");
        let framed = [&[0][..], &length.to_be_bytes(), &message].concat();
        let framed = Ok::<_, Infallible>(Frame::data(Bytes::from(framed)));
        let body = StreamBody::new(stream::iter([framed]).chain(stream::pending()));
        let request = http::Request::post(format!("http://{address}{DELTA}"))
            .header("content-type", "application/grpc")
            .body(Box::pin(body));
        let response = sender.send_request(request.expect("a request")).await;
        let Ok(response) = response else { return };
        let mut body = response.into_body();
        while let Some(Ok(_)) = body.frame().await {
            sleep(Duration::from_secs(1)).await;
        }
    };
    let _ = tokio::join!(connection, reading);
}
