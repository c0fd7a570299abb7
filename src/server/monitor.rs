//! Looks at all streams from time to time: for clients that take nothing,
//! answer nothing, or never say who they are.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::budget::Budget;
use super::metrics::Metrics;
use super::offenders::Offence;
use super::standing::Standing;
use super::turns::Turns;
use super::{Peer, State};

/// Memory of a stream whose client has not said who it is: about what an
/// Envoy's first request weighs.
const NEWCOMER: usize = 32 * 1024;

/// Time to see the status of a stream that is ended, before the connection is.
const GRACE: Duration = Duration::from_secs(1);

/// Where no time is set, an offence lasts this long before it is noted.
const PATIENCE: Duration = Duration::from_mins(1);

/// All streams. Each look costs a few loads a stream; nothing is written on
/// the way of a response but the stream's own [`Standing`].
#[derive(Debug)]
pub(super) struct Monitor {
    /// After this time without a byte taken a stream ends.
    limit: Option<Duration>,
    budget: Arc<Budget>,
    metrics: Metrics,
    turns: Turns,
    streams: Mutex<Streams>,
    /// When manners were judged last.
    judged: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Streams {
    open: Vec<Weak<Standing>>,
    /// No more are let in.
    closed: bool,
}

/// A stream that takes nothing.
struct Slow {
    time: Duration,
    holds: usize,
    stream: Arc<Standing>,
}

impl Monitor {
    pub(super) fn new(state: &State, budget: Arc<Budget>, turns: Turns) -> Self {
        Self {
            limit: state.config.send_timeout,
            metrics: state.metrics.clone(),
            turns,
            budget,
            streams: Mutex::default(),
            judged: Mutex::default(),
        }
    }

    /// Admits a stream, as long as there is memory for its first request.
    pub(super) fn admit(&self, peer: &Peer) -> Result<Arc<Standing>, Status> {
        let Some(share) = self.budget.admit(NEWCOMER) else {
            let text = "too many streams hold too much memory: try again later";
            return Err(Status::resource_exhausted(text));
        };
        let stream = Arc::new(Standing::new(peer.address, peer.cut.clone(), share));
        let mut streams = self.streams.lock();
        if streams.closed {
            return Err(shutdown());
        }
        streams.open.push(Arc::downgrade(&stream));
        Ok(stream)
    }

    /// Ends all streams, those that come from now on before they begin.
    pub(super) fn close(&self) {
        self.streams.lock().closed = true;
        for stream in self.live() {
            stream.end(shutdown());
        }
    }

    /// Looks again and again, until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let period = self.period().clamp(Duration::from_millis(50), GRACE);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.look(Instant::now());
        }
    }

    /// How long an offence lasts before it is noted: long before the end.
    fn patience(&self) -> Duration {
        self.limit.map_or(PATIENCE, |limit| limit / 5)
    }

    /// How often manners are judged: their memory is touched by nothing else
    /// for long, and to fetch that of thousands costs more than the judging.
    fn period(&self) -> Duration {
        self.patience() / 10
    }

    fn is_time_to_judge(&self, now: Instant) -> bool {
        let mut judged = self.judged.lock();
        let due = judged.is_none_or(|at| now.saturating_duration_since(at) >= self.period());
        if due {
            *judged = Some(now);
        }
        due
    }

    /// Looks at all streams once.
    pub(super) fn look(&self, now: Instant) {
        self.turns.call();
        let patience = self.patience();
        let is_time = self.is_time_to_judge(now);
        let mut slow = Vec::new();
        let mut unsent = 0;
        for stream in self.live() {
            if is_time {
                self.judge(&stream, now);
            }
            stream.cut_after(GRACE, now);
            let Some(time) = stream.waiting(now) else {
                continue;
            };
            let holds = stream.holds(time >= patience);
            unsent += holds;
            if time >= patience {
                slow.push(Slow {
                    time,
                    holds,
                    stream,
                });
            }
        }
        let count = i64::try_from(slow.len()).unwrap_or(i64::MAX);
        self.metrics.slow_streams.set(count);
        let excess = self.budget.set_unsent(unsent);
        relieve(slow, excess);
        let held = i64::try_from(self.budget.held()).unwrap_or(i64::MAX);
        self.metrics.held_bytes.set(held);
    }

    /// All open streams; those that ended leave the list.
    fn live(&self) -> Vec<Arc<Standing>> {
        let mut streams = self.streams.lock();
        let mut live = Vec::with_capacity(streams.open.len());
        let open = &mut streams.open;
        open.retain(|stream| stream.upgrade().map(|stream| live.push(stream)).is_some());
        live
    }

    /// Notes what one stream does, and ends it where that lasted too long.
    fn judge(&self, stream: &Standing, now: Instant) {
        for offence in stream.offences(now, self.patience()).into_iter().flatten() {
            self.note(offence, stream);
        }
        if let Some(limit) = self.limit
            && stream.end_status().is_none()
        {
            if stream.waiting(now).is_some_and(|time| time >= limit) {
                let text = format!("no response was taken for {limit:?}: the client does not read");
                stream.end(Status::deadline_exceeded(text));
            } else if stream.is_silent(now, limit) {
                self.note(Offence::Silent, stream);
                let text = format!("no first request came for {limit:?}");
                stream.end(Status::deadline_exceeded(text));
            }
        }
    }

    fn note(&self, offence: Offence, stream: &Standing) {
        let (proxy, peer) = (stream.proxy(), stream.peer);
        self.metrics.offenders.note(offence, proxy, peer);
    }
}

fn shutdown() -> Status {
    Status::unavailable("server is shutting down")
}

/// Ends the slowest until what they hold is no longer too much.
fn relieve(mut slow: Vec<Slow>, mut excess: usize) {
    slow.sort_by_key(|slow| std::cmp::Reverse(slow.time));
    for Slow { holds, stream, .. } in slow {
        if excess == 0 {
            return;
        }
        let text = "responses that nobody takes hold too much memory: come again and read";
        stream.end(Status::resource_exhausted(text));
        excess = excess.saturating_sub(holds);
    }
}

#[cfg(test)]
mod tests;
