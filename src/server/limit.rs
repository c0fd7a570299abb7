//! What may come in, how fast and at which cost.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::State;
use super::budget::Budget;
use super::monitor::Monitor;
use super::reconnects::Reconnects;
use super::turns::Turns;

/// Longest wait for a turn (istiod: one second).
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The limits of one server.
#[derive(Debug)]
pub(super) struct Limits {
    /// `PILOT_MAX_REQUESTS_PER_SECOND`, where it is set.
    pub(super) rate: StreamLimit,
    pub(super) turns: Turns,
    pub(super) reconnects: Reconnects,
    pub(super) budget: Arc<Budget>,
    pub(super) monitor: Arc<Monitor>,
}

impl Limits {
    pub(super) fn new(state: &State) -> Self {
        let config = &state.config;
        let budget = Arc::new(Budget::new(config.max_held_bytes));
        let turns = Turns::default();
        let monitor = Monitor::new(state, Arc::clone(&budget), turns.clone());
        Self {
            rate: StreamLimit::new(config.streams_per_second),
            turns,
            reconnects: Reconnects::new(config.reconnect_burst),
            budget,
            monitor: Arc::new(monitor),
        }
    }
}

/// Lets one stream start every `1 / rate` seconds; as istiod's token bucket
/// with a burst of one.
#[derive(Debug)]
pub(super) struct StreamLimit {
    gap: Option<Duration>,
    next: Mutex<Option<Instant>>,
}

impl StreamLimit {
    pub(super) fn new(per_second: Option<f64>) -> Self {
        let rate = per_second.filter(|rate| *rate > 0.0);
        Self {
            gap: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            next: Mutex::new(None),
        }
    }

    /// Waits for this stream's turn (xDS rule 68).
    pub(super) async fn turn(&self) -> Result<(), Status> {
        let Some(at) = self.book(Instant::now()) else {
            return Err(Status::resource_exhausted(
                "too many new streams: try again later",
            ));
        };
        tokio::time::sleep_until(at).await;
        Ok(())
    }

    /// The time of the next free turn, or `None` if it is too far away.
    fn book(&self, now: Instant) -> Option<Instant> {
        let Some(gap) = self.gap else {
            return Some(now);
        };
        let mut next = self.next.lock();
        let at = next.unwrap_or(now).max(now);
        if at - now > LONGEST_WAIT {
            return None;
        }
        *next = Some(at + gap);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn streams_take_turns_and_the_late_ones_are_refused() {
        let limit = StreamLimit::new(Some(10.0));
        let start = Instant::now();
        let turns: Vec<_> = (0..12).map(|_| limit.book(start)).collect();
        assert_eq!(turns[0], Some(start));
        assert_eq!(turns[10], Some(start + Duration::from_secs(1)));
        assert_eq!(turns[11], None);
        assert!(limit.turn().await.is_err());
        tokio::time::advance(Duration::from_secs(2)).await;
        let later = Instant::now();
        assert!(limit.turn().await.is_ok());
        assert_eq!(Instant::now(), later);
    }

    #[tokio::test(start_paused = true)]
    async fn no_rate_is_no_limit() {
        let limit = StreamLimit::new(None);
        for _ in 0..1000 {
            assert!(limit.turn().await.is_ok());
        }
    }
}
