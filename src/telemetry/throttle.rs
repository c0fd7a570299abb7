//! Log lines that others can cause as often as they like.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines in one second.
const BURST: u32 = 10;
const SPAN: Duration = Duration::from_secs(1);

/// Lets ten lines a second through and counts the others.
#[derive(Debug, Default)]
pub struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    passed: u32,
    kept_back: u64,
}

impl Throttle {
    /// Whether a line may be written now, and if so, how many were not since
    /// the last one that was.
    pub fn pass(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.since.is_none_or(|since| now - since >= SPAN) {
            state.since = Some(now);
            state.passed = 0;
        }
        if state.passed == BURST {
            state.kept_back += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_above_ten_a_second_are_counted_and_told_with_the_next() {
        let throttle = Throttle::default();
        for _ in 0..10 {
            assert_eq!(throttle.pass(), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(throttle.pass(), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.pass(), Some(3));
        assert_eq!(throttle.pass(), Some(0));
    }
}
