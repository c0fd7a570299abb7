//! Tokens of Kubernetes service accounts, checked by the API server of the
//! caller's cluster.

mod account;
mod cache;
mod review;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::FutureExt;
use kube::Client;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::timeout};

pub(super) use account::ServiceAccount;

use self::cache::{Cache, Outcome};
use super::{
    Clock, Reason,
    error::printable,
    metrics::{Metrics, ReviewOutcome},
    token::Token,
};
use crate::model::ClusterId;
use crate::registry::kube::ApiClients;

#[cfg(test)]
mod tests;

/// Time for a TokenReview, the wait for a turn included.
const LIMIT: Duration = Duration::from_secs(5);
/// TokenReviews that one API server is asked for at once.
const AT_ONCE: usize = 16;
/// Callers that may wait for one API server. A hanging one holds up its own
/// cluster's callers only.
const WAITING: usize = 1024;

/// Where Kubernetes tokens are checked.
#[derive(Debug, Clone)]
pub struct KubernetesTokens {
    /// API servers by cluster.
    pub clients: ApiClients,
    /// The config cluster, which callers without `clusterid` belong to.
    pub own: ClusterId,
    /// Other names of clusters.
    pub aliases: BTreeMap<ClusterId, ClusterId>,
}

/// Asks API servers who a token belongs to, and remembers it for a while.
pub struct TokenReviews {
    tokens: KubernetesTokens,
    audiences: Arc<[String]>,
    cache: Arc<Cache>,
    lanes: Mutex<HashMap<ClusterId, Arc<Lane>>>,
    metrics: Metrics,
    now: Clock,
}

/// The callers that wait for one API server.
struct Lane {
    waiting: Arc<Semaphore>,
    asking: Semaphore,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING)),
            asking: Semaphore::new(AT_ONCE),
        }
    }
}

impl TokenReviews {
    /// Reviews for any of `audiences`.
    pub fn new(
        tokens: KubernetesTokens,
        audiences: &[String],
        metrics: Metrics,
        now: Clock,
    ) -> Self {
        Self {
            tokens,
            audiences: audiences.into(),
            cache: Arc::default(),
            lanes: Mutex::default(),
            metrics,
            now,
        }
    }

    /// The service account that `token` belongs to, by the word of the API
    /// server of `cluster`, which is what the caller calls it.
    pub(super) async fn check(
        &self,
        token: &Token,
        cluster: &str,
    ) -> Result<ServiceAccount, Reason> {
        let (cluster, client) = self.api_server(cluster)?;
        let key = (cluster.clone(), token.hash());
        if let Some(known) = self.cache.known(&key) {
            self.metrics.review(ReviewOutcome::Remembered);
            return Ok(known);
        }
        let lane = self.lane(&cluster);
        let place = Arc::clone(&lane.waiting).try_acquire_owned();
        let Ok(place) = place else {
            self.metrics.review(ReviewOutcome::Unanswered);
            return Err(Reason::Busy(cluster.to_string()));
        };
        let start = || {
            let review = self.review(client, token.clone(), cluster, lane);
            async move { (review.await, drop(place)).0 }.boxed()
        };
        let outcome = self.cache.join(&key, start).await;
        if let Ok(account) = &outcome {
            let life = life_of(token, (self.now)());
            self.cache.remember(key, account, life);
        }
        outcome
    }

    /// istiod: `getKubeClient`.
    fn api_server(&self, name: &str) -> Result<(ClusterId, Client), Reason> {
        let KubernetesTokens {
            clients,
            own,
            aliases,
        } = &self.tokens;
        let named = ClusterId::from(name);
        let alias = aliases.get(&named);
        let candidates = match () {
            () if name.is_empty() || named == *own || alias == Some(own) => [Some(own), None],
            () => [Some(&named), alias],
        };
        let mut candidates = candidates.into_iter().flatten();
        candidates
            .find_map(|cluster| Some((cluster.clone(), clients.client(cluster)?)))
            .ok_or_else(|| Reason::UnknownCluster(printable(name, 128)))
    }

    fn lane(&self, cluster: &ClusterId) -> Arc<Lane> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(cluster) {
            return Arc::clone(lane);
        }
        // Clusters come and go; names of those that went are let go of here.
        let table = self.tokens.clients.table();
        lanes.retain(|cluster, _| table.contains_key(cluster));
        Arc::clone(lanes.entry(cluster.clone()).or_default())
    }

    /// Owns all it needs: it goes on while any caller waits for it.
    fn review(
        &self,
        client: Client,
        token: Token,
        cluster: ClusterId,
        lane: Arc<Lane>,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let (audiences, metrics) = (Arc::clone(&self.audiences), self.metrics.clone());
        async move {
            let asked = async {
                let _turn = lane.asking.acquire().await;
                review::ask(&client, &token, &audiences, &cluster).await
            };
            let outcome = timeout(LIMIT, asked).await.unwrap_or_else(|_| {
                Err(Reason::NoAnswer {
                    cluster: cluster.to_string(),
                    seconds: LIMIT.as_secs(),
                })
            });
            metrics.review(match &outcome {
                Ok(_) => ReviewOutcome::Accepted,
                Err(reason) if reason.is_passing() => ReviewOutcome::Unanswered,
                Err(_) => ReviewOutcome::Refused,
            });
            outcome
        }
    }
}

/// How long the token will be valid, as it says itself; none where it does not.
fn life_of(token: &Token, now: SystemTime) -> Option<Duration> {
    let expiry = token.claimed_expiry()?;
    Some(expiry.duration_since(now).unwrap_or_default())
}

impl fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReviews")
            .field("tokens", &self.tokens)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}
