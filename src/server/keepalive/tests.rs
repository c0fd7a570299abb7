use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use h2::client;
use h2::server::Connection;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::server::drive::Streams;

const INTERVAL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(10);

/// Runs a connection until its peer counts as dead; tells how long that took.
fn served(socket: DuplexStream) -> JoinSet<Duration> {
    let config = Config {
        keepalive_interval: INTERVAL,
        keepalive_timeout: LIMIT,
        ..Config::default()
    };
    let socket = Coalesced::new(socket);
    let shared = socket.share();
    let serve = async move {
        let begun = h2::server::handshake(shared.share()).await;
        let mut http: Connection<_, Bytes> = begun.expect("h2");
        let begun = Instant::now();
        let lost = lost(http.ping_pong(), shared, &config);
        tokio::select! {
            () = lost => begun.elapsed(),
            ended = http.accept() => panic!("the connection ended: {ended:?}"),
        }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { Streams::default().drive(socket, Box::pin(serve)).await });
    tasks
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_lives() {
    let (near, far) = duplex(1024);
    let mut served = served(far);
    let (_requests, connection) = client::handshake(near).await.expect("h2");
    let mut client = JoinSet::new();
    client.spawn(async move { connection.await.expect("no error") });
    let ended = timeout(INTERVAL * 20, served.join_next()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert!(client.try_join_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_after_a_ping_is_dead() {
    let (near, far) = duplex(1024);
    let mut served = served(far);
    let (_requests, mut connection) = client::handshake(near).await.expect("h2");
    // It lives for a while, and then its host is gone.
    assert!(
        timeout(INTERVAL * 2 + LIMIT, &mut connection)
            .await
            .is_err()
    );
    let took = served.join_next().await.expect("a task");
    let took = took.expect("no panic");
    // The answer to the second ping is the last that came.
    let expected = INTERVAL * 3 + LIMIT;
    assert!(took.abs_diff(expected) < LIMIT / 10, "{took:?}");
    assert!(connection.now_or_never().is_some(), "it was closed");
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_answer_is_late_lives_while_other_things_come() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // Of a type that nobody knows: it is skipped.
    const SOMETHING: [u8; 9] = [0, 0, 0, 0xfa, 0, 0, 0, 0, 0];
    let (mut near, far) = duplex(1 << 16);
    let mut served = served(far);
    let start = [PREFACE, &SETTINGS].concat();
    near.write_all(&start).await.expect("open");
    // Long enough to be asked; the answer never comes.
    sleep(INTERVAL + LIMIT / 2).await;
    for _ in 0..50 {
        near.write_all(&SOMETHING).await.expect("open");
        sleep(LIMIT / 2).await;
    }
    assert!(served.try_join_next().is_none());
    let took = served.join_next().await.expect("a task");
    let took = took.expect("no panic");
    let spoke = INTERVAL + LIMIT / 2 * 50;
    assert!(took.abs_diff(spoke + LIMIT) < LIMIT / 10, "{took:?}");
}
