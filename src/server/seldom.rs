//! A future that is polled only when it was woken itself.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// What ends a connection hardly ever happens, and its task wakes for every
/// message: so each poll would look at timers and at a stop that all
/// connections share, and take its lock, for nothing.
#[derive(Debug)]
pub(super) struct Seldom<F> {
    future: F,
    bell: Arc<Bell>,
    own: Waker,
}

#[derive(Debug)]
struct Bell {
    task: AtomicWaker,
    rung: AtomicBool,
}

impl<F> Seldom<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            task: AtomicWaker::new(),
            rung: AtomicBool::new(true),
        });
        Self {
            future,
            own: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Registered first: who rings after the look below wakes the task.
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let Self { future, own, .. } = &mut *self;
        Pin::new(future).poll(&mut Context::from_waker(own))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::{FutureExt, channel::oneshot};

    use super::*;

    #[test]
    fn it_looks_once_and_again_only_when_something_happened() {
        let (ring, rung) = oneshot::channel::<()>();
        let polls = Cell::new(0);
        let mut rung = rung.fuse();
        let mut seldom = Seldom::new(std::future::poll_fn(|cx| {
            polls.set(polls.get() + 1);
            rung.poll_unpin(cx)
        }));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(seldom.poll_unpin(&mut cx).is_pending());
        }
        assert_eq!(polls.get(), 1);
        ring.send(()).expect("it is waited for");
        assert!(seldom.poll_unpin(&mut cx).is_ready());
        assert_eq!(polls.get(), 2);
    }
}
