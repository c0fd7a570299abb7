use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};

use super::*;

/// A connection's socket, the client's end of it, and its streams.
fn connection() -> (Coalesced<DuplexStream>, DuplexStream, Streams) {
    let (socket, client) = duplex(1024);
    (Coalesced::new(socket), client, Streams::default())
}

/// Counts how often it is polled.
async fn counted<F: Future>(polls: &AtomicUsize, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(cx)
    })
    .await
}

#[tokio::test]
async fn what_a_stream_says_is_written_in_the_turn_of_its_task() {
    let (socket, mut client, streams) = connection();
    let starts = streams.starts();
    let (news, mut heard) = mpsc::channel(1);
    let (message, mut messages) = mpsc::channel(1);
    starts.start(async move {
        while let Some(one) = heard.recv().await {
            message.send(one).await.expect("a connection");
        }
    });
    let mut inside = socket.share();
    let write = async move {
        while let Some(one) = messages.recv().await {
            inside.write_u8(one).await.expect("accepted");
        }
    };
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polls);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { counted(&counter, streams.drive(socket, write)).await });
    for round in 1..=5 {
        yield_now().await;
        let before = polls.load(Ordering::Relaxed);
        news.send(round).await.expect("a stream");
        assert_eq!(client.read_u8().await.expect("written"), round);
        assert_eq!(polls.load(Ordering::Relaxed), before + 1);
    }
    drop(news);
    tasks.join_all().await;
}

#[tokio::test]
async fn a_part_that_was_not_woken_is_not_polled() {
    let (socket, _client, streams) = connection();
    let (news, mut heard) = mpsc::channel::<()>(1);
    let (asked, mut seen) = mpsc::channel(1);
    streams.starts().start(async move {
        while heard.recv().await.is_some() {
            let _ = asked.send(()).await;
        }
    });
    let polls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&polls);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let waits = std::future::pending::<()>();
        let connection = async { counted(&counter, waits).await };
        streams.drive(socket, connection).await;
    });
    for _ in 0..5 {
        news.send(()).await.expect("a stream");
        seen.recv().await.expect("a stream");
    }
    assert_eq!(polls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_stream_that_the_connection_starts_runs() {
    let (socket, _client, streams) = connection();
    let starts = streams.starts();
    let connection = async move {
        let (done, finished) = oneshot::channel();
        starts.start(async move {
            let _ = done.send(7);
        });
        finished.await
    };
    assert_eq!(streams.drive(socket, connection).await, Ok(7));
}

#[tokio::test]
async fn all_streams_of_a_connection_run() {
    let (socket, _client, streams) = connection();
    let starts = streams.starts();
    let connection = async move {
        let mut running = Vec::new();
        for number in 0..20 {
            let (ask, asked) = oneshot::channel();
            let (answer, answered) = oneshot::channel();
            starts.start(async move {
                let _ = asked.await;
                let _ = answer.send(number);
            });
            running.push((ask, answered, number));
        }
        yield_now().await;
        // The first to start is the last to end.
        for (ask, answered, number) in running.into_iter().rev() {
            ask.send(()).expect("a stream");
            assert_eq!(answered.await, Ok(number));
        }
    };
    streams.drive(socket, connection).await;
}

#[tokio::test]
async fn streams_end_with_their_connection() {
    let (socket, _client, streams) = connection();
    let starts = streams.starts();
    let (held, freed) = oneshot::channel::<()>();
    let stream = |held| async move {
        let _held = held;
        std::future::pending::<()>().await;
    };
    starts.start(stream(held));
    streams.drive(socket, yield_now()).await;
    assert!(freed.await.is_err(), "dropped");
    let (held, freed) = oneshot::channel::<()>();
    starts.start(stream(held));
    assert!(freed.await.is_err(), "there is nobody to run it");
}

#[tokio::test]
async fn parts_that_never_rest_leave_room_for_other_tasks() {
    let (socket, _client, streams) = connection();
    let restless = poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { streams.drive(socket, restless).await });
    yield_now().await;
    yield_now().await;
}
