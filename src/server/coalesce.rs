//! Fewer system calls below HTTP/2.
//!
//! h2 writes and flushes each frame on its own, so that a response of 1 MB
//! costs 64 system calls (and over TLS 128 records). [`Coalesced`] takes those
//! writes into one buffer and answers each flush at once; the task of the
//! connection really writes, with [`Coalesced::poll_write_out`], when it has
//! nothing else to do.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Bytes that wait in memory before a write has to wait for the socket.
const FULL: usize = 128 * 1024;

thread_local! {
    /// The buffer of whichever connection writes now: warm in the cache, and no
    /// memory of the connections that do not write.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that were accepted and not yet written.
#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    written: usize,
}

impl Waiting {
    fn left(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn push(&mut self, slices: &[IoSlice<'_>]) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
        }
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
    }

    /// Keeps the room while a connection writes on.
    fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Holds no more room than what waits needs.
    fn shrink(&mut self) {
        if self.left().len() < self.bytes.capacity() / 2 {
            let left = self.left().to_vec();
            let mut spare = mem::replace(&mut self.bytes, left);
            self.written = 0;
            spare.clear();
            SPARE.set(spare);
        }
    }
}

/// A socket whose writes are gathered. Its clones are the same socket; all of
/// them live in one task, so the lock is never contended.
#[derive(Debug)]
pub(super) struct Coalesced<T>(Arc<Mutex<Inner<T>>>);

#[derive(Debug)]
struct Inner<T> {
    io: T,
    waiting: Waiting,
    /// `io` took bytes that it may still hold: TLS does, when its socket is full.
    unflushed: bool,
    /// When bytes came last.
    heard: Instant,
    /// A write failed behind the connection's back: its next call gets this.
    failed: Option<io::ErrorKind>,
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Writes until nothing waits.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.left().is_empty() {
            let left = self.waiting.left();
            let written = match ready!(Pin::new(&mut self.io).poll_write(cx, left)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                other => other,
            };
            match written {
                Ok(count) => {
                    self.waiting.written += count;
                    self.unflushed = true;
                }
                Err(error) => {
                    self.failed = Some(error.kind());
                    self.waiting.clear();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.waiting.clear();
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write(cx))?;
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
            waiting: Waiting::default(),
            unflushed: false,
            heard: Instant::now(),
            failed: None,
        })))
    }

    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// When the peer said something last.
    pub(super) fn heard(&self) -> Instant {
        self.0.lock().heard
    }

    /// Writes what waits, and gives its room away.
    pub(super) fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        let flushed = inner.flush(cx);
        inner.waiting.shrink();
        flushed
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut inner.io).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            inner.heard = Instant::now();
        }
        read
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
        if inner.waiting.left().len() >= FULL {
            ready!(inner.write(cx))?;
        }
        inner.waiting.push(slices);
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
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
