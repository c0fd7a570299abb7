//! Fewer system calls below HTTP/2.
//!
//! h2 writes and flushes each frame on its own, so that a response of 1 MB
//! costs 64 system calls (and over TLS 128 records). [`Coalesced`] takes those
//! writes into one buffer and answers each flush at once; [`Coalesced::drive`]
//! wraps the connection and really writes once after each time it was polled.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait in memory before a write has to wait for the socket.
const FULL: usize = 128 * 1024;

/// A socket whose writes are gathered. Its clones are the same socket; all of
/// them live in one task, so the lock is never contended.
#[derive(Debug)]
pub(super) struct Coalesced<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    /// Accepted and not yet written; no memory when there is none.
    waiting: BytesMut,
    /// `io` took bytes that it may still hold: TLS does, when its socket is full.
    unflushed: bool,
    /// A write failed behind the connection's back: its next call gets this.
    failed: Option<io::ErrorKind>,
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Writes until nothing waits.
    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match written {
                Ok(count) => {
                    self.waiting.advance(count);
                    self.unflushed = true;
                }
                Err(error) => {
                    self.failed = Some(error.kind());
                    self.waiting = BytesMut::new();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waiting.is_empty() {
            ready!(self.write_out(cx))?;
        }
        if self.unflushed {
            let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
            self.unflushed = false;
            self.failed = flushed.as_ref().err().map(io::Error::kind).or(self.failed);
            return Poll::Ready(flushed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Coalesced<T> {
    pub(super) fn new(io: T) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            io,
            waiting: BytesMut::new(),
            unflushed: false,
            failed: None,
        })))
    }

    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Runs `connection`, which owns a share of this socket, and writes what it
    /// left behind after each time it is polled.
    pub(super) async fn drive<F: Future>(self, connection: F) -> F::Output {
        let mut connection = pin!(connection);
        poll_fn(|cx| {
            let done = connection.as_mut().poll(cx);
            let flushed = self.0.lock().flush(cx);
            if done.is_pending() && matches!(flushed, Poll::Ready(Err(_))) {
                // The connection may wait for nothing but its peer: let it see
                // the error.
                cx.waker().wake_by_ref();
            }
            done
        })
        .await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesced<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        inner.check()?;
        Pin::new(&mut inner.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalesced<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        inner.check()?;
        if inner.waiting.len() >= FULL {
            ready!(inner.write_out(cx))?;
        }
        let before = inner.waiting.len();
        for slice in slices {
            inner.waiting.extend_from_slice(slice);
        }
        Poll::Ready(Ok(inner.waiting.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        inner.check()?;
        ready!(inner.flush(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
