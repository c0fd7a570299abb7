//! What the server knows of one stream's manners.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::budget::Share;
use super::connections::Connection;
use super::offenders::Offence;
use crate::ads::Nonce;
use crate::telemetry::Throttle;

/// Memory below a stream whose client takes nothing, beside the response: a
/// frame in HTTP/2 and the write buffer of its connection.
const BELOW: usize = 256 * 1024;

/// Rejections in a row that make an offender. A rollout of bad configuration
/// is rejected once by each proxy, and once more with each change.
pub(super) const REJECTIONS: u32 = 5;

/// One stream, as its body and session report it and the monitor reads it.
/// Written with every response, so it has no lock on that path.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) peer: SocketAddr,
    opened: Instant,
    connection: OnceLock<Arc<Connection>>,
    /// Milliseconds from `opened`, plus one, to the time when bytes were handed
    /// out last; 0 while nothing waits for the client.
    busy_since: AtomicU64,
    /// Size of the response that is being handed out.
    unsent: AtomicUsize,
    rejections: AtomicU32,
    /// Lines about its rejections.
    pub(super) lines: Throttle,
    end: OnceLock<(Status, Instant)>,
    body: AtomicWaker,
    /// Ends the connection.
    cut: CancellationToken,
    /// The memory of a newcomer, until it has said who it is.
    newcomer: Mutex<Option<Share>>,
    seen: Mutex<Seen>,
}

/// What the monitor saw when it looked last.
#[derive(Debug, Default)]
struct Seen {
    slow: bool,
    unanswered: Option<(Nonce, Instant)>,
    named: bool,
}

impl Standing {
    pub(super) fn new(peer: SocketAddr, cut: CancellationToken, newcomer: Share) -> Self {
        Self {
            peer,
            opened: Instant::now(),
            connection: OnceLock::new(),
            // Until its body is asked for bytes, there is no room for any.
            busy_since: AtomicU64::new(1),
            unsent: AtomicUsize::new(0),
            rejections: AtomicU32::new(0),
            lines: Throttle::default(),
            end: OnceLock::new(),
            body: AtomicWaker::new(),
            cut,
            newcomer: Mutex::new(Some(newcomer)),
            seen: Mutex::default(),
        }
    }

    /// It has said who it is.
    pub(super) fn know(&self, connection: &Arc<Connection>) {
        // The first is the only one.
        let _ = self.connection.set(Arc::clone(connection));
        *self.newcomer.lock() = None;
    }

    /// Its name, if it is known.
    pub(super) fn proxy(&self) -> Option<&str> {
        self.connection.get().map(|known| known.proxy_name())
    }

    /// The body begins to hand out a response of this size.
    pub(super) fn begin(&self, size: usize) {
        self.unsent.store(size, Ordering::Relaxed);
    }

    /// The body handed out bytes; it is asked again when there is room.
    pub(super) fn hand_out(&self) {
        let since = self.opened.elapsed().as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1);
        self.busy_since.store(since + 1, Ordering::Relaxed);
    }

    /// The body has nothing to hand out, and waits to be told of more.
    pub(super) fn idle(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
        self.unsent.store(0, Ordering::Relaxed);
    }

    /// Counts a response that was rejected; whether that is one of many.
    pub(super) fn reject(&self) -> bool {
        let before = self.rejections.fetch_add(1, Ordering::Relaxed);
        before + 1 >= REJECTIONS
    }

    /// All that was sent last was accepted.
    pub(super) fn accept(&self) {
        self.rejections.store(0, Ordering::Relaxed);
    }

    /// Asks the stream to end with this status.
    pub(super) fn end(&self, status: Status) {
        if self.end.set((status, Instant::now())).is_ok() {
            self.body.wake();
        }
    }

    /// The status that the stream was asked to end with; if there is none,
    /// the task is woken when there is.
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Option<Status> {
        self.body.register(cx.waker());
        self.end_status()
    }

    /// The same, without waiting.
    pub(super) fn end_status(&self) -> Option<Status> {
        self.end.get().map(|(status, _)| status.clone())
    }

    /// Ends the connection if the client had `grace` to see the status.
    pub(super) fn cut_after(&self, grace: Duration, now: Instant) {
        let due = |(_, since): &(Status, Instant)| now.saturating_duration_since(*since) >= grace;
        if self.end.get().is_some_and(due) {
            self.cut.cancel();
        }
    }

    /// How long the client has taken no byte of what waits for it.
    pub(super) fn waiting(&self, now: Instant) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed).checked_sub(1)?;
        let since = self.opened + Duration::from_millis(since);
        Some(now.saturating_duration_since(since))
    }

    /// Bytes held for it. The response of a slow client may be the last that
    /// refers to its bytes; before that, others share them.
    pub(super) fn holds(&self, slow: bool) -> usize {
        let unsent = self.unsent.load(Ordering::Relaxed);
        let shared = if slow { unsent } else { 0 };
        shared + unsent.min(BELOW)
    }

    /// What it does that it should not, as far as it was not noted before:
    /// an offence lasts for `patience` first.
    pub(super) fn offences(&self, now: Instant, patience: Duration) -> [Option<Offence>; 2] {
        let mut seen = self.seen.lock();
        let slow = self.waiting(now).is_some_and(|time| time >= patience);
        let newly = slow && !std::mem::replace(&mut seen.slow, slow);
        let unanswered = self.connection.get().and_then(|known| known.unanswered());
        let since = seen
            .unanswered
            .filter(|(nonce, _)| Some(*nonce) == unanswered);
        if since.is_none() {
            seen.named = false;
        }
        seen.unanswered = since.or(unanswered.map(|nonce| (nonce, now)));
        // Who does not read cannot answer: that is one offence.
        let stuck = since.is_some_and(|(_, at)| now - at >= patience) && !slow;
        let stuck = stuck && !std::mem::replace(&mut seen.named, true);
        [
            newly.then_some(Offence::Slow),
            stuck.then_some(Offence::NoAck),
        ]
    }

    /// Whether it has not said who it is for `limit`.
    pub(super) fn is_silent(&self, now: Instant, limit: Duration) -> bool {
        self.connection.get().is_none() && now.saturating_duration_since(self.opened) >= limit
    }
}
