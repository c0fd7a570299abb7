//! How long to wait before asking an API server again.

use std::time::Duration;

use crate::registry::jitter::jittered;

/// Doubling pauses with jitter: the one policy for every request of a watch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from `first` up to `last`.
    pub(super) fn new(first: Duration, last: Duration) -> Self {
        Self {
            first,
            last,
            failures: 0,
        }
    }

    /// The pause after one more failure: half of it fixed, half random, so that
    /// the watches of many clusters do not come back in one instant.
    pub(super) fn next(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        jittered(doubled.min(self.last))
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// After a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_last_and_start_over_after_a_success() {
        let (first, last) = (Duration::from_millis(100), Duration::from_secs(3));
        let mut backoff = Backoff::new(first, last);
        for expected in [100, 200, 400, 800, 1600, 3000, 3000].map(Duration::from_millis) {
            let pause = backoff.next();
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first);
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        for _ in 0..1000 {
            assert!(backoff.next() <= Duration::from_secs(30));
        }
    }
}
