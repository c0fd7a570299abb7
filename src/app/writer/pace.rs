//! When the next publish may come.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::mesh::{Pending, Read};

/// Longest time that a change waits for slow readers of the one before.
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Lets a publish go once the one before was read by all whom it woke: a change
/// after a quiet time waits for nothing, and in a storm as many changes share a
/// publish as come during one round of the readers. Readers that are stuck hold
/// up only the first publish that they do not read.
#[derive(Debug)]
pub(super) struct Pace {
    /// Least time between two changes of configuration, of which each makes
    /// every stream compare all that it holds.
    debounce: Duration,
    read: Option<Read>,
    quiet_at: Option<Instant>,
}

impl Pace {
    pub(super) fn new(debounce: Duration) -> Self {
        Self {
            debounce,
            read: None,
            quiet_at: None,
        }
    }

    /// Notes a publish.
    pub(super) fn published(&mut self, read: Read, config: bool) {
        self.read = Some(read);
        if config {
            self.quiet_at = Some(Instant::now() + self.debounce);
        }
    }

    /// Resolves when what is pending, the oldest of it since `oldest`, is to be
    /// published. May be dropped and called again at any time.
    pub(super) async fn turn(&mut self, pending: Pending, oldest: Instant) {
        match pending {
            Pending::Nothing => std::future::pending().await,
            // An endpoint that is gone gets requests until proxies know.
            Pending::Removal => {}
            Pending::Endpoints => self.all_read(oldest).await,
            Pending::Config => {
                self.all_read(oldest).await;
                if let Some(at) = self.quiet_at {
                    sleep_until(at).await;
                }
            }
        }
    }

    async fn all_read(&mut self, oldest: Instant) {
        if let Some(read) = &mut self.read {
            let _ = timeout_at(oldest + LONGEST_WAIT, read).await;
            self.read = None;
        }
    }
}
