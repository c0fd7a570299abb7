use std::{collections::VecDeque, sync::atomic::Ordering};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::server::drive::Streams;

/// A socket that does as it is told: each write takes the next answer, and
/// takes everything when there is no answer left.
#[derive(Debug, Default)]
struct Scripted {
    answers: VecDeque<Answer>,
    written: Vec<u8>,
    writes: usize,
    /// How often a flush has to wait, as that of TLS may with nothing to write.
    flush_waits: usize,
    flushed: usize,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Take(usize),
    Wait,
    Fail,
}

impl AsyncRead for Scripted {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        let count = match self.answers.pop_front() {
            Some(Answer::Take(count)) => count.min(bytes.len()),
            Some(Answer::Wait) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Answer::Fail) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None => bytes.len(),
        };
        self.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flush_waits > 0 {
            self.flush_waits -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.flushed = self.written.len();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Runs `connection` over the socket that it has a share of.
async fn drive<F: Future>(io: Coalesced<Scripted>, connection: F) -> F::Output {
    Streams::default().drive(io, connection).await
}

fn socket(answers: &[Answer]) -> Coalesced<Scripted> {
    Coalesced::new(Scripted {
        answers: answers.iter().copied().collect(),
        ..Scripted::default()
    })
}

#[tokio::test]
async fn many_writes_and_flushes_become_one() {
    let io = socket(&[]);
    let mut inside = io.share();
    let outside = io.share();
    drive(io, async move {
        for byte in 0..100_u8 {
            inside.write_all(&[byte; 100]).await.expect("written");
            inside.flush().await.expect("flushed");
        }
    })
    .await;
    let inner = outside.0.lock();
    assert_eq!((inner.io.written.len(), inner.io.writes), (10_000, 1));
    assert_eq!(inner.waiting.bytes.capacity(), 0, "no memory when idle");
}

/// TLS keeps what its socket does not take, and gives it away in flushes only.
#[tokio::test]
async fn a_flush_that_waits_is_done_again_though_nothing_is_left_to_write() {
    let io = socket(&[]);
    io.0.lock().io.flush_waits = 3;
    let mut inside = io.share();
    let outside = io.share();
    let serve = drive(io, async move {
        inside.write_all(b"answer").await.expect("accepted");
        // A connection that waits for its peer.
        std::future::pending::<()>().await;
    });
    let _ = timeout(std::time::Duration::from_millis(50), serve).await;
    assert_eq!(outside.0.lock().io.flushed, 6);
}

#[tokio::test]
async fn a_full_buffer_waits_for_the_socket() {
    let io = socket(&[Answer::Wait, Answer::Take(7), Answer::Wait]);
    let mut inside = io.share();
    let outside = io.share();
    drive(io, async move {
        for _ in 0..40 {
            inside.write_all(&[1; 16 * 1024]).await.expect("written");
            assert!(inside.0.lock().waiting.left().len() <= FULL + 16 * 1024);
        }
    })
    .await;
    assert_eq!(outside.0.lock().io.written.len(), 40 * 16 * 1024);
}

#[tokio::test]
async fn a_failed_write_reaches_a_connection_that_only_reads() {
    let io = socket(&[Answer::Fail]);
    let mut inside = io.share();
    let read = drive(io, async move {
        inside.write_all(b"answer").await.expect("accepted");
        // The socket never says anything: only the failure ends this.
        inside.read_u8().await
    });
    let patience = std::time::Duration::from_secs(10);
    let ended = timeout(patience, read).await.expect("ends");
    assert_eq!(
        ended.expect_err("an error").kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn after_a_failed_write_every_call_fails() {
    let io = socket(&[Answer::Fail]);
    let mut inside = io.share();
    drive(io, async move {
        inside.write_all(b"answer").await.expect("accepted");
        tokio::task::yield_now().await;
        assert!(inside.write_all(b"more").await.is_err());
        assert!(inside.flush().await.is_err());
        assert!(inside.shutdown().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_an_error() {
    let io = socket(&[Answer::Take(0)]);
    let mut inside = io.share();
    drive(io, async move {
        inside.write_all(b"answer").await.expect("accepted");
        tokio::task::yield_now().await;
        let error = inside.flush().await.expect_err("an error");
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    })
    .await;
}

#[tokio::test]
async fn shutdown_writes_what_waits_first() {
    let io = socket(&[Answer::Take(2), Answer::Wait]);
    let mut inside = io.share();
    let outside = io.share();
    drive(io, async move {
        inside.write_all(b"goodbye").await.expect("written");
        inside.shutdown().await.expect("closed");
    })
    .await;
    let inner = outside.0.lock();
    assert_eq!(inner.io.written, b"goodbye");
    assert!(inner.io.closed);
}

proptest! {
    #[test]
    fn bytes_arrive_complete_and_in_order(
        sizes in prop::collection::vec(0..40_000_usize, 0..20),
        answers in prop::collection::vec(
            prop_oneof![(1..30_000_usize).prop_map(Answer::Take), Just(Answer::Wait)], 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let io = socket(&answers);
        let (mut inside, outside) = (io.share(), io.share());
        let counter = std::sync::atomic::AtomicUsize::new(0);
        let next = || u8::try_from(counter.fetch_add(1, Ordering::Relaxed) % 251).expect("small");
        let chunks: Vec<Vec<u8>> =
            sizes.iter().map(|size| (0..*size).map(|_| next()).collect()).collect();
        let sent = chunks.concat();
        runtime.block_on(drive(io, async move {
            for chunk in chunks {
                inside.write_all(&chunk).await.expect("written");
            }
            inside.shutdown().await.expect("closed");
        }));
        prop_assert!(outside.0.lock().io.written == sent);
    }
}
