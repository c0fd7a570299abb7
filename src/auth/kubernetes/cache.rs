//! Service accounts of tokens seen lately, and reviews that are under way.

use std::{collections::HashMap, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Reason, ServiceAccount};
use crate::auth::token::TokenHash;
use crate::model::ClusterId;

/// How long an answer counts; a token that is revoked opens streams no longer
/// than this. An agent needs one for its certificate and one for its stream.
const LIFE: Duration = Duration::from_secs(30);
/// Tokens remembered at most; further ones are reviewed each time.
const MOST: usize = 16 * 1024;

/// A cluster and a token of it.
pub(super) type Key = (ClusterId, TokenHash);
/// What a review comes to.
pub(super) type Outcome = Result<ServiceAccount, Reason>;

/// Remembers what was accepted. Refusals are not remembered: nobody can fill
/// it but those with valid tokens.
#[derive(Default)]
pub(super) struct Cache {
    known: Mutex<Known>,
    reviews: Mutex<HashMap<Key, WeakShared<BoxFuture<'static, Outcome>>>>,
}

#[derive(Default)]
struct Known {
    accounts: HashMap<Key, (ServiceAccount, Instant)>,
    cleaned: Option<Instant>,
}

impl Cache {
    pub(super) fn known(&self, key: &Key) -> Option<ServiceAccount> {
        let known = self.known.lock();
        let (account, until) = known.accounts.get(key)?;
        (Instant::now() < *until).then(|| account.clone())
    }

    /// Remembers an account, no longer than its token has to live.
    pub(super) fn remember(&self, key: Key, account: &ServiceAccount, life: Option<Duration>) {
        let now = Instant::now();
        let until = now + life.map_or(LIFE, |life| life.min(LIFE));
        let mut known = self.known.lock();
        known.clean(now);
        if known.accounts.len() < MOST {
            // The first answer counts: joiners must not prolong it.
            let entry = known.accounts.entry(key);
            entry.or_insert_with(|| (account.clone(), until));
        }
    }

    /// The outcome of the review of this token that is under way, else of the
    /// one that `start` makes. It goes on while anybody waits for it.
    pub(super) fn join(
        &self,
        key: &Key,
        start: impl FnOnce() -> BoxFuture<'static, Outcome>,
    ) -> Shared<BoxFuture<'static, Outcome>> {
        let mut reviews = self.reviews.lock();
        let running = reviews.get(key).and_then(WeakShared::upgrade);
        if let Some(running) = running.filter(|review| review.peek().is_none()) {
            return running;
        }
        reviews.retain(|_, review| review.upgrade().is_some());
        let review = start().shared();
        if let Some(weak) = review.downgrade() {
            reviews.insert(key.clone(), weak);
        }
        review
    }
}

impl Known {
    /// Drops what is over, at most once a second.
    fn clean(&mut self, now: Instant) {
        let clean_again = |cleaned: Instant| now - cleaned >= Duration::from_secs(1);
        if self.cleaned.is_none_or(clean_again) {
            self.cleaned = Some(now);
            self.accounts.retain(|_, (_, until)| now < *until);
        }
    }
}
