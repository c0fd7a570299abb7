//! Turns at work that newcomers cause.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Lets as many at costly work as there are cores; the others wait, those that
/// came first in front. Costly is what a client asks for: a handshake, a look
/// at its credentials, the answer to a subscription. What changed in the mesh
/// takes no turn, so that a mesh that reconnects delays a push by the work
/// under way and not by all that waits.
///
/// A turn is one poll and never lasts across a wait for the client: whoever
/// is slow holds up nobody, and no timer is needed to take turns back.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// Turns for `count` at once; at least one.
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.max(1))))
    }

    /// A place from which to wait for turns.
    pub(super) fn place(&self) -> Place {
        Place {
            turns: self.clone(),
            queued: None,
        }
    }

    /// Does `work`, each step of it in a turn.
    pub(super) async fn during<F: Future>(&self, work: F) -> F::Output {
        let mut place = self.place();
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _turn = ready!(place.poll_turn(cx));
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl Default for Turns {
    /// As many as there are cores.
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// A turn; the next in the queue gets it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[allow(dead_code, reason = "held")] Option<OwnedSemaphorePermit>);

/// One who takes turns. It holds memory only while it waits for one.
#[derive(Debug)]
pub(super) struct Place {
    turns: Turns,
    queued: Option<PollSemaphore>,
}

impl Place {
    /// The next turn. To be dropped before waiting for anything else.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.queued.is_none()
            && let Ok(permit) = Arc::clone(&self.turns.0).try_acquire_owned()
        {
            return Poll::Ready(Turn(Some(permit)));
        }
        let semaphore = || PollSemaphore::new(Arc::clone(&self.turns.0));
        let queued = self.queued.get_or_insert_with(semaphore);
        let permit = ready!(queued.poll_acquire(cx));
        self.queued = None;
        // Nobody closes the semaphore.
        Poll::Ready(Turn(permit))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures::future::{join, join_all};
    use parking_lot::Mutex;
    use tokio::{task::yield_now, time::timeout};

    use super::*;

    #[tokio::test]
    async fn turns_go_to_those_who_came_first() {
        let turns = Turns::new(1);
        let mut first = turns.place();
        let held = poll_fn(|cx| first.poll_turn(cx)).await;
        let order = Mutex::new(Vec::new());
        let waiting = (0..50).map(|n| {
            let (turns, order) = (&turns, &order);
            async move { turns.during(async { order.lock().push(n) }).await }
        });
        join(join_all(waiting), async {
            yield_now().await;
            drop(held);
        })
        .await;
        assert!(order.lock().is_sorted(), "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_its_client_holds_no_turn() {
        let turns = Turns::new(1);
        let stuck = (0..100).map(|_| turns.during(pending::<()>()));
        let stuck = timeout(Duration::from_secs(1), join_all(stuck));
        let (stuck, ()) = join(stuck, turns.during(async {})).await;
        assert!(stuck.is_err());
    }

    #[tokio::test]
    async fn no_more_work_at_once_than_turns() {
        let turns = Turns::new(2);
        let mut places = [turns.place(), turns.place(), turns.place()];
        let mut taken = Vec::new();
        for place in &mut places {
            taken.push(futures::poll!(poll_fn(|cx| place.poll_turn(cx))));
        }
        assert!(taken[0].is_ready() && taken[1].is_ready());
        assert!(taken[2].is_pending());
        taken.clear();
        let [_, _, third] = &mut places;
        assert!(futures::poll!(poll_fn(|cx| third.poll_turn(cx))).is_ready());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_takes_no_turn_along() {
        let turns = Turns::new(1);
        let [mut first, mut second, mut third] = [turns.place(), turns.place(), turns.place()];
        let held = poll_fn(|cx| first.poll_turn(cx)).await;
        assert!(futures::poll!(poll_fn(|cx| second.poll_turn(cx))).is_pending());
        assert!(futures::poll!(poll_fn(|cx| third.poll_turn(cx))).is_pending());
        drop(held);
        // The turn is the second's already; it goes without having taken it.
        drop(second);
        poll_fn(|cx| third.poll_turn(cx)).await;
    }
}
