//! Turns at work that newcomers cause.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use parking_lot::Mutex;

/// Lets as many at costly work as there are cores; the others wait, those that
/// came first in front. Costly is what a client asks for: a handshake, a look
/// at its credentials, the answer to a subscription. What changed in the mesh
/// takes no turn, so that a mesh that reconnects delays a push by the work
/// under way and not by all that waits.
///
/// A turn is one poll and never lasts across a wait for the client: whoever
/// is slow holds up nobody, and no timer is needed to take turns back. Who is
/// called owns nothing before it comes: a stream whose client has no room is
/// woken and does not run.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The number of the next to wait.
    next: u64,
    /// Who waits and was not called, by number.
    waiting: BTreeMap<u64, Waker>,
}

impl Queue {
    /// As many of the first as could have a turn now.
    fn first(&mut self) -> Vec<Waker> {
        let mut called = Vec::new();
        while called.len() < self.free
            && let Some((_, waker)) = self.waiting.pop_first()
        {
            called.push(waker);
        }
        called
    }
}

impl Turns {
    /// Turns for `count` at once; at least one.
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue {
            free: count.max(1),
            next: 0,
            waiting: BTreeMap::new(),
        })))
    }

    /// A place from which to wait for turns.
    pub(super) fn place(&self) -> Place {
        Place {
            turns: self.clone(),
            number: None,
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

    /// Calls those who may go now. Whoever gives a turn back does; beside that
    /// it is to be done from time to time, for those who were called and did
    /// not come.
    pub(super) fn call(&self) {
        let called = self.0.lock().first();
        called.into_iter().for_each(Waker::wake);
    }
}

impl Default for Turns {
    /// As many as there are cores.
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// A turn; the next in the queue is called when this is dropped.
#[derive(Debug)]
pub(super) struct Turn(Turns);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().free += 1;
        self.0.call();
    }
}

/// One who takes turns.
#[derive(Debug)]
pub(super) struct Place {
    turns: Turns,
    /// Its place in the queue, while it waits.
    number: Option<u64>,
}

impl Place {
    /// The next turn. To be dropped before waiting for anything else.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut queue = self.turns.0.lock();
        let first = queue.waiting.keys().next();
        let before = |first: &u64| self.number.is_some_and(|number| number <= *first);
        if queue.free > 0 && first.is_none_or(before) {
            queue.free -= 1;
            if let Some(number) = self.number.take() {
                queue.waiting.remove(&number);
            }
            return Poll::Ready(Turn(self.turns.clone()));
        }
        let number = self.number.unwrap_or(queue.next);
        queue.next = queue.next.max(number + 1);
        self.number = Some(number);
        queue.waiting.insert(number, cx.waker().clone());
        // The first may have been called in vain.
        let called = queue.first();
        drop(queue);
        called.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.turns.0.lock().waiting.remove(&number);
            self.turns.call();
        }
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

    #[tokio::test]
    async fn a_turn_is_not_lost_on_one_who_is_called_and_does_not_come() {
        let turns = Turns::new(1);
        let [mut first, mut dead, mut third] = [turns.place(), turns.place(), turns.place()];
        let held = poll_fn(|cx| first.poll_turn(cx)).await;
        assert!(futures::poll!(poll_fn(|cx| dead.poll_turn(cx))).is_pending());
        let mut third = pin!(poll_fn(|cx| third.poll_turn(cx)));
        assert!(futures::poll!(third.as_mut()).is_pending());
        drop(held);
        turns.call();
        drop(third.await);
        // It keeps its place, in front of those who came later.
        let mut fourth = turns.place();
        let held = poll_fn(|cx| fourth.poll_turn(cx)).await;
        drop(held);
        drop(poll_fn(|cx| dead.poll_turn(cx)).await);
    }
}
