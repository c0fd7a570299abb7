//! Lists one resource and follows it, for as long as its task lives.
//!
//! list (streaming, else paged) → follow from that version → on a cut resume
//! at the last version → on "expired" list again.

use std::{future::Future, pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use kube::Client;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::{
    api::{Failure, Resource},
    backoff::Backoff,
    head::Head,
    lines::Line,
    status::Progress,
};
use crate::manifest::Raw;
use crate::registry::jitter::jittered;

/// How long a watch lasts before it is opened again; with jitter, as the
/// watches of a process all begin together.
const WATCH: Duration = Duration::from_mins(5);
/// Beyond its own time, how long a watch may be silent before it counts as dead.
const SLACK: Duration = Duration::from_secs(10);
/// How long a streaming list may be silent before it counts as not supported:
/// API servers older than 1.27 ignore the request for an end mark.
const LIST_SILENCE: Duration = Duration::from_secs(10);
/// A watch that ends sooner than this counts as a failure.
const SHORT: Duration = Duration::from_secs(1);
/// Longest pause before a refused kind is asked for again.
const FORBIDDEN: Duration = Duration::from_mins(5);
/// So many refusals in a row are meant: RBAC reaches an API server with a delay.
const MEANT: u32 = 3;
/// Events that are taken together where they come together.
const BATCH: usize = 256;

/// The receiver is gone: the process is going down.
#[derive(Debug)]
pub(crate) struct Closed;

/// Where a watch puts what it sees. Objects come as they were sent, so that none
/// can fail the request it came with.
pub(crate) trait Sink: Send {
    /// A list begins; an unfinished one is void.
    fn begin(&mut self);
    /// One object of the list.
    fn listed(&mut self, object: Raw<'_>);
    /// The list is complete.
    fn complete(&mut self) -> impl Future<Output = Result<(), Closed>> + Send;
    /// An object is new (`added`) or different.
    fn applied(&mut self, object: Raw<'_>, added: bool);
    /// An object is gone.
    fn deleted(&mut self, object: Raw<'_>);
    /// The events so far came together; pass them on.
    fn flush(&mut self) -> impl Future<Output = Result<(), Closed>> + Send;
    /// The credentials may not read the resource.
    fn forbidden(&mut self) {}
}

/// Why a watch came to an end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process is going down.
    Closed,
    /// The API server does not serve the resource (any more).
    NotServed,
}

enum Stop {
    Closed,
    Failure(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// One watch.
pub(crate) struct Watch<'a, S> {
    client: &'a Client,
    resource: &'a Resource,
    progress: &'a Progress,
    sink: &'a mut S,
    backoff: Backoff,
    refusals: Backoff,
    /// Streaming lists are asked for until the server shows it has none.
    streaming: bool,
    /// Followed up to here; none before the first list.
    version: Option<String>,
}

impl<'a, S: Sink> Watch<'a, S> {
    pub(crate) fn new(
        client: &'a Client,
        resource: &'a Resource,
        progress: &'a Progress,
        sink: &'a mut S,
    ) -> Self {
        Self {
            client,
            resource,
            progress,
            sink,
            backoff: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            refusals: Backoff::new(Duration::from_millis(500), FORBIDDEN),
            streaming: true,
            version: None,
        }
    }

    /// Runs until the resource is no longer served or the process ends.
    pub(crate) async fn run(mut self) -> End {
        loop {
            let Err(stop) = self.round().await else {
                continue;
            };
            let failure = match stop {
                Stop::Closed => return End::Closed,
                Stop::Failure(failure) => failure,
            };
            if failure.code() == Some(404) {
                return End::NotServed;
            }
            sleep(self.pause_after(&failure)).await;
        }
    }

    /// Lists if need be, and follows until the watch ends.
    async fn round(&mut self) -> Result<(), Stop> {
        if self.version.is_none() && !self.streaming {
            self.list().await?;
        }
        let limit = jittered(WATCH);
        let version = self.version.as_deref();
        let lines = self.resource.watch(self.client, version, limit).await?;
        if self.version.is_some() {
            self.recovered();
        }
        self.follow(lines, limit + SLACK).await
    }

    async fn list(&mut self) -> Result<(), Stop> {
        self.sink.begin();
        let mut next = None;
        loop {
            let page = self.resource.page(self.client, next).await?;
            for json in page.items()? {
                self.sink.listed(Raw::Json(json));
            }
            next = page.next.clone();
            if next.is_none() {
                self.version = Some(page.version);
                self.backoff.reset();
                self.sink.complete().await?;
                self.recovered();
                return Ok(());
            }
        }
    }

    async fn follow(
        &mut self,
        lines: impl Stream<Item = Result<Line, Failure>> + Send,
        patience: Duration,
    ) -> Result<(), Stop> {
        let opened = Instant::now();
        let mut listing = self.version.is_none();
        if listing {
            self.sink.begin();
        }
        let mut heard = false;
        let mut batches = pin!(lines.ready_chunks(BATCH));
        loop {
            let silence = if listing { LIST_SILENCE } else { patience };
            let next = timeout(silence, batches.next());
            let batch = match next.await {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(_) if listing => return Err(Failure::Unfinished.into()),
                Err(_) => return Err(Failure::Silent(silence).into()),
            };
            let result = self.take(batch, &mut listing).await;
            self.sink.flush().await?;
            result?;
            heard = true;
        }
        if listing {
            return Err(Failure::Unfinished.into());
        }
        if !heard && opened.elapsed() < SHORT {
            return Err(Failure::Ended.into());
        }
        // Not when it was opened: a server may open watches and end them at once.
        self.backoff.reset();
        Ok(())
    }

    async fn take(
        &mut self,
        batch: Vec<Result<Line, Failure>>,
        listing: &mut bool,
    ) -> Result<(), Stop> {
        for line in batch {
            match line? {
                Line::Added(object) | Line::Modified(object) if *listing => {
                    self.sink.listed(object.get());
                }
                Line::Deleted(_) if *listing => {}
                Line::Added(object) => {
                    self.seen(object.get());
                    self.sink.applied(object.get(), true);
                }
                Line::Modified(object) => {
                    self.seen(object.get());
                    self.sink.applied(object.get(), false);
                }
                Line::Deleted(object) => {
                    self.seen(object.get());
                    self.sink.deleted(object.get());
                }
                Line::Bookmark { version, listed } => {
                    if *listing && !listed {
                        continue;
                    }
                    self.version = Some(version);
                    self.backoff.reset();
                    if std::mem::take(listing) {
                        self.sink.complete().await?;
                        self.recovered();
                    }
                }
            }
        }
        Ok(())
    }

    /// Keeps the version to resume at.
    fn seen(&mut self, object: Raw<'_>) {
        let version = Head::of(object).resource_version;
        if !version.is_empty() {
            self.version = Some(version.into_owned());
        }
        self.backoff.reset();
    }

    fn recovered(&mut self) {
        self.refusals.reset();
        if self.progress.healthy() {
            info!(
                cluster = %self.progress.cluster(),
                watch = self.progress.name(),
                "the API server answers again"
            );
        }
    }

    fn refused(&mut self, failure: &Failure) {
        self.sink.forbidden();
        if self.progress.forbidden(&failure.to_string()) {
            warn!(
                cluster = %self.progress.cluster(),
                watch = self.progress.name(),
                error = %failure,
                "may not be read with these credentials: grant get, list and watch; \
                 until then it counts as unchanged, or empty if it was never read"
            );
        }
    }

    /// Notes a failure and tells how long to wait.
    fn pause_after(&mut self, failure: &Failure) -> Duration {
        let cluster = self.progress.cluster();
        let name = self.progress.name();
        if failure.is_expired() {
            debug!(%cluster, watch = name, "the watch is too far behind, listing again");
            self.version = None;
            return self.backoff.next();
        }
        if failure.code() == Some(403) {
            let pause = self.refusals.next();
            if self.refusals.failures() >= MEANT {
                self.refused(failure);
                return pause;
            }
        }
        if self.streaming && self.version.is_none() && refuses_streaming(failure) {
            debug!(%cluster, watch = name, error = %failure, "no streaming lists there, listing by pages");
            self.streaming = false;
            return Duration::ZERO;
        }
        let pause = self.backoff.next();
        if self.progress.failed(&failure.to_string()) {
            warn!(
                %cluster,
                watch = name,
                error = %failure,
                "cannot watch the cluster: its last known state stays, trying again"
            );
        } else {
            debug!(%cluster, watch = name, error = %failure, ?pause, "watch failed");
        }
        pause
    }
}

/// A server without streaming lists says so with a 4xx (422 where the feature
/// is off), or forgets the end mark.
fn refuses_streaming(failure: &Failure) -> bool {
    match failure {
        Failure::Unfinished => true,
        Failure::Refused { code, .. } => matches!(code, 400 | 405 | 406 | 415 | 422),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
