//! Keeps the keys of an issuer current.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{
    fetch::{FetchError, Fetcher},
    keys::Keys,
    rule::RuleKeys,
};
use crate::auth::{Reason, error::printable};

/// Least time between two fetches: tokens with made-up key ids must not turn
/// callers into a storm on the issuer.
const LEAST: Duration = Duration::from_secs(10);
/// Age at which keys are asked for again, since the issuer may have withdrawn
/// some. While it does not answer, those that are held count.
const OLDEST: Duration = Duration::from_mins(20);
/// Time for one fetch.
const LIMIT: Duration = Duration::from_secs(5);

/// Where the keys come from, and the last ones that came.
#[derive(Debug)]
pub(super) enum KeySource {
    /// They are in the rule.
    Given(Arc<Keys>),
    /// They are fetched.
    Fetched(Box<Fetched>),
}

#[derive(Debug)]
pub(super) struct Fetched {
    fetcher: Fetcher,
    held: ArcSwapOption<Held>,
    /// Held while fetching: those who wait share the outcome.
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Held {
    keys: Arc<Keys>,
    since: Instant,
}

/// The last fetch.
#[derive(Debug, Default)]
struct Last {
    ended: Option<Instant>,
    error: Option<String>,
}

impl KeySource {
    pub(super) fn new(keys: RuleKeys, issuer: &str) -> Self {
        let fetcher = match keys {
            RuleKeys::Given(keys) => return Self::Given(Arc::new(keys)),
            RuleKeys::At(uri) => Fetcher::at(uri),
            RuleKeys::Discovered => Fetcher::discover(issuer),
        };
        Self::Fetched(Box::new(Fetched {
            fetcher,
            held: ArcSwapOption::empty(),
            last: Mutex::default(),
        }))
    }

    /// The keys, with that of this id among them if the issuer has it.
    pub(super) async fn having(&self, id: Option<&str>) -> Result<Arc<Keys>, Reason> {
        match self {
            Self::Given(keys) => Ok(Arc::clone(keys)),
            Self::Fetched(fetched) => fetched.having(id).await,
        }
    }
}

impl Fetched {
    async fn having(&self, id: Option<&str>) -> Result<Arc<Keys>, Reason> {
        let known = self.known(id);
        let mut last = match &known {
            Some(held) if held.since.elapsed() < OLDEST => return Ok(Arc::clone(&held.keys)),
            // Old keys go on while someone else asks for new ones.
            Some(held) => match self.last.try_lock() {
                Ok(last) => last,
                Err(_) => return Ok(Arc::clone(&held.keys)),
            },
            None => self.last.lock().await,
        };
        let is_due = last.ended.is_none_or(|ended| ended.elapsed() >= LEAST);
        // Whoever held the lock before may have fetched it.
        if is_due && (known.is_some() || self.known(id).is_none()) {
            last.error = self.fetch().await.err();
            last.ended = Some(Instant::now());
        }
        match (self.held.load_full(), &last.error) {
            (Some(held), _) if held.keys.have(id) => Ok(Arc::clone(&held.keys)),
            // An unknown key may be a new one that could not be fetched.
            (_, Some(error)) => Err(Reason::Keys(error.clone())),
            (Some(held), None) => Ok(Arc::clone(&held.keys)),
            (None, None) => Ok(Arc::default()),
        }
    }

    fn known(&self, id: Option<&str>) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| held.keys.have(id))
    }

    async fn fetch(&self) -> Result<(), String> {
        let fetched = timeout(LIMIT, self.fetcher.fetch()).await;
        let fetched = fetched.unwrap_or(Err(FetchError::NoAnswer(LIMIT)));
        match fetched.and_then(|json| Keys::parse(&json).ok_or(FetchError::NoKeys)) {
            Ok(keys) => {
                info!(?keys, "fetched the keys of the token issuer");
                let held = Held {
                    keys: Arc::new(keys),
                    since: Instant::now(),
                };
                self.held.store(Some(Arc::new(held)));
                Ok(())
            }
            Err(error) => {
                let error = printable(&error.to_string(), 512);
                warn!(error, "cannot fetch the keys of the token issuer");
                Err(error)
            }
        }
    }
}
