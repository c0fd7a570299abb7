//! Memory that clients can make the server hold.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that all streams together may hold: of requests that are not read to
/// their end (xDS rule 63), of newcomers, and of responses that nobody takes.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    /// Requests and newcomers.
    taken: AtomicUsize,
    /// Responses, as the monitor saw them last.
    unsent: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
        }
    }

    /// Takes bytes for a request. Responses do not count: those of a client
    /// that does not read must not end the streams of others.
    pub(super) fn take(&self, bytes: usize) -> bool {
        self.take_beside(0, bytes)
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Takes bytes for a new stream, as long as the share lives.
    pub(super) fn admit(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let unsent = self.unsent.load(Ordering::Relaxed);
        let budget = Arc::clone(self);
        self.take_beside(unsent, bytes)
            .then(|| Share { budget, bytes })
    }

    /// Says what responses hold; the number of bytes that is too much.
    pub(super) fn set_unsent(&self, bytes: usize) -> usize {
        self.unsent.store(bytes, Ordering::Relaxed);
        self.held().saturating_sub(self.limit)
    }

    /// Everything.
    pub(super) fn held(&self) -> usize {
        let taken = self.taken.load(Ordering::Relaxed);
        taken.saturating_add(self.unsent.load(Ordering::Relaxed))
    }

    fn take_beside(&self, others: usize, bytes: usize) -> bool {
        let take = |taken: usize| {
            let next = taken.checked_add(bytes)?;
            (next.checked_add(others)? <= self.limit).then_some(next)
        };
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Arc::new(Budget::new(100));
        assert!(budget.take(60));
        let share = budget.admit(40).unwrap();
        assert!(!budget.take(1));
        assert_eq!(budget.held(), 100);
        drop(share);
        assert!(budget.take(40));
        budget.give_back(100);
        assert_eq!(budget.held(), 0);
        assert!(!budget.take(usize::MAX));
    }

    #[test]
    fn responses_that_nobody_takes_keep_newcomers_out_and_end_no_request() {
        let budget = Arc::new(Budget::new(100));
        assert_eq!(budget.set_unsent(90), 0);
        assert!(budget.admit(20).is_none());
        assert!(budget.take(20));
        assert_eq!(budget.set_unsent(90), 10);
        budget.set_unsent(0);
        assert!(budget.admit(20).is_some());
    }
}
