//! One task for a connection and its streams.
//!
//! A proxy has one stream on a connection, and what that says has to be written
//! by the connection: so both run in one task, and a message gets from the
//! session to the socket without a change of task. Each part is polled only when
//! it was woken.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::coalesce::Coalesced;

type Started = Mutex<Vec<BoxFuture<'static, ()>>>;

/// How often the two parts may wake each other before other tasks get a turn.
const TURNS: usize = 8;

/// Parts of a connection, and whether they run: the bits of [`Bell::rung`].
const STREAMS: u8 = 1;
const CONNECTION: u8 = 2;
const RUNNING: u8 = 4;

/// Starts the streams of one connection.
#[derive(Debug, Clone)]
pub(super) struct Starts(Weak<Started>);

impl Starts {
    pub(super) fn start(&self, stream: impl Future<Output = ()> + Send + 'static) {
        // Without a connection there is nobody to run it for.
        if let Some(started) = self.0.upgrade() {
            started.lock().push(Box::pin(stream));
        }
    }
}

/// The streams of one connection.
#[derive(Default)]
pub(super) struct Streams {
    /// Started and not polled yet.
    started: Arc<Started>,
    /// Most connections have one stream: it needs no list, and no waker of its
    /// own.
    only: Option<BoxFuture<'static, ()>>,
    /// Each is polled only when it was woken.
    many: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Streams {
    pub(super) fn starts(&self) -> Starts {
        Starts(Arc::downgrade(&self.started))
    }

    /// Runs `connection`, which owns a share of `socket`, and its streams; what
    /// they left behind is written when all of them wait.
    pub(super) async fn drive<T, F>(mut self, socket: Coalesced<T>, connection: F) -> F::Output
    where
        T: AsyncWrite + Unpin,
        F: Future,
    {
        let mut connection = pin!(connection);
        let bell = Arc::new(Bell::default());
        let [streams, own] = [STREAMS, CONNECTION].map(|part| bell.waker(part));
        bell.ring(CONNECTION);
        poll_fn(|cx| {
            bell.start(cx);
            let own = &mut Context::from_waker(&own);
            for _ in 0..TURNS {
                if bell.answer(STREAMS) {
                    self.poll(&mut Context::from_waker(&streams));
                }
                if bell.answer(CONNECTION) {
                    if let Poll::Ready(output) = connection.as_mut().poll(own) {
                        // What does not fit in the socket now is lost with it.
                        let _ = socket.poll_write_out(own);
                        return Poll::Ready(output);
                    }
                    if !self.started.lock().is_empty() {
                        bell.ring(STREAMS);
                    }
                }
                if bell.is_rung() {
                    continue;
                }
                if let Poll::Ready(Err(_)) = socket.poll_write_out(own) {
                    // The connection may wait for nothing but its peer: let it
                    // see the error.
                    bell.ring(CONNECTION);
                }
                if bell.stop() {
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        for stream in self.started.lock().drain(..) {
            if self.only.is_none() && self.many.is_empty() {
                self.only = Some(stream);
            } else {
                self.many.extend(self.only.take());
                self.many.push(stream);
            }
        }
        if let Some(only) = &mut self.only
            && only.as_mut().poll(cx).is_ready()
        {
            self.only = None;
        }
        if !self.many.is_empty() {
            while let Poll::Ready(Some(())) = self.many.poll_next_unpin(cx) {}
        }
    }
}

/// Remembers which part was woken, and wakes the task only while it sleeps.
#[derive(Debug, Default)]
struct Bell {
    task: AtomicWaker,
    rung: AtomicU8,
}

impl Bell {
    fn waker(self: &Arc<Self>, part: u8) -> Waker {
        let bell = Arc::clone(self);
        Waker::from(Arc::new(Part { bell, part }))
    }

    fn ring(&self, part: u8) {
        let before = self.rung.fetch_or(part, Ordering::AcqRel);
        if before == 0 {
            self.task.wake();
        }
    }

    /// Before the parts are asked for their turns.
    fn start(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.rung.fetch_or(RUNNING, Ordering::AcqRel);
    }

    /// Whether `part` was woken; it is asked once for that.
    fn answer(&self, part: u8) -> bool {
        self.rung.fetch_and(!part, Ordering::AcqRel) & part != 0
    }

    fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire) != RUNNING
    }

    /// Sleeps, unless a part was woken.
    fn stop(&self) -> bool {
        let stopped = self
            .rung
            .compare_exchange(RUNNING, 0, Ordering::AcqRel, Ordering::Acquire);
        stopped.is_ok()
    }
}

/// What wakes one part.
#[derive(Debug)]
struct Part {
    bell: Arc<Bell>,
    part: u8,
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.bell.ring(self.part);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(self.part);
    }
}

#[cfg(test)]
mod tests;
