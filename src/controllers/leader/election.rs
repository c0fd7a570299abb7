//! Who may write: the rules of istiod's lock, without requests or a clock.
//!
//! A lock is held until nobody has changed it for a whole lease, by the clock
//! of the one who looks: the times in it are never compared, so clocks may
//! differ (client-go does the same).

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::record::{Key, Record, timestamp};

/// One control plane's part in the election of one cluster's writer.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    key: Key,
    lease: Duration,
    seen: Option<Seen>,
}

/// The record as it was found, and since when it has been so.
#[derive(Debug)]
struct Seen {
    text: String,
    since: Instant,
}

/// What to do about the lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Write this record: with success the lock is ours.
    Write(Record),
    /// Somebody else has it.
    Held(Record),
}

/// Both clocks: one to measure with, one to tell people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub steady: Instant,
    pub wall: SystemTime,
}

impl Election {
    pub(super) fn new(identity: String, key: Key, lease: Duration) -> Self {
        Self {
            identity,
            key,
            lease,
            seen: None,
        }
    }

    /// Whether the default revision matters for what to do about this holder.
    pub(super) fn asks_for_default(&self, text: &str) -> bool {
        let holder = read(text);
        let other = Key::parse(&holder.holder_key).revision != self.key.revision;
        other && !holder.holder_identity.is_empty() && holder.holder_identity != self.identity
    }

    /// Judges the lock as it was found: the annotation's text, or none where
    /// the lock does not exist.
    pub(super) fn judge(
        &mut self,
        found: Option<&str>,
        default_revision: Option<&str>,
        now: Now,
    ) -> Verdict {
        let Some(text) = found else {
            return Verdict::Write(self.record(0, None, now.wall));
        };
        let since = self.observe(text, now.steady);
        let held = read(text);
        if held.holder_identity == self.identity {
            let (transitions, acquired) = (held.leader_transitions, held.acquire_time);
            return Verdict::Write(self.record(transitions, acquired, now.wall));
        }
        let live = !held.holder_identity.is_empty() && now.steady < since + self.lease;
        let holder = Key::parse(&held.holder_key);
        if live && !self.key.outranks(&holder, default_revision) {
            return Verdict::Held(held);
        }
        let transitions = held.leader_transitions.saturating_add(1);
        Verdict::Write(self.record(transitions, None, now.wall))
    }

    /// What gives the lock back (client-go: nobody, for a second).
    pub(super) fn released(found: &str, wall: SystemTime) -> Record {
        Record {
            lease_duration_seconds: 1,
            acquire_time: Some(timestamp(wall)),
            renew_time: Some(timestamp(wall)),
            leader_transitions: read(found).leader_transitions,
            ..Record::default()
        }
    }

    /// Whether the record is this control plane's own.
    pub(super) fn is_own(&self, found: &str) -> bool {
        read(found).holder_identity == self.identity
    }

    fn observe(&mut self, text: &str, now: Instant) -> Instant {
        match &self.seen {
            Some(seen) if seen.text == text => seen.since,
            _ => {
                let text = text.to_owned();
                self.seen = Some(Seen { text, since: now });
                now
            }
        }
    }

    fn record(&self, transitions: u64, acquired: Option<String>, wall: SystemTime) -> Record {
        let now = timestamp(wall);
        Record {
            holder_identity: self.identity.clone(),
            holder_key: self.key.text(),
            lease_duration_seconds: self.lease.as_secs(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            leader_transitions: transitions,
        }
    }
}

/// A record that cannot be read is somebody's: it is waited out as if held,
/// where client-go would wait for ever.
fn read(text: &str) -> Record {
    if text.is_empty() {
        return Record::default();
    }
    serde_json::from_str(text).unwrap_or_else(|_| Record {
        holder_identity: "unreadable".to_owned(),
        ..Record::default()
    })
}

#[cfg(test)]
mod tests;
