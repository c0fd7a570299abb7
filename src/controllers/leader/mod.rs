//! istiod's lock around the writers of one cluster: a `ConfigMap` of the same
//! name, with the same record, so that isthmus and istiod exclude each other.

mod election;
mod record;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, core::v1::ConfigMap,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use self::{
    election::{Election, Now, Verdict},
    record::{ANNOTATION, Key, Record},
};
use crate::model::ClusterId;
use crate::registry::jitter::jittered;
use crate::registry::kube::Failure;

/// istiod: `leaderelection.NamespaceController`.
const LOCK: &str = "istio-namespace-controller-election";
/// The webhook whose revision label names the default revision.
const DEFAULT_TAG: &str = "istio-revision-tag-default";
const REVISION_LABEL: &str = "istio.io/rev";
/// How long giving back the lock may take while the process goes down.
const RELEASE: Duration = Duration::from_secs(3);

/// The pace of the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long a lock that nobody renews stays its holder's.
    pub lease: Duration,
}

impl Default for Pace {
    /// istiod's.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
        }
    }
}

impl Pace {
    /// A holder that could not renew for so long stops writing.
    fn give_up(self) -> Duration {
        self.lease / 2
    }

    /// Time between two looks at the lock.
    fn retry(self) -> Duration {
        self.lease / 4
    }
}

/// Who takes part.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub cluster: ClusterId,
    pub namespace: String,
    /// Name of this process (istiod: `POD_NAME`).
    pub identity: String,
    pub revision: String,
    /// The cluster is not this control plane's own.
    pub remote: bool,
    /// What people read in the lock.
    pub clock: fn() -> SystemTime,
}

/// Whose the lock is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not known.
    Unknown,
    /// This process.
    Leading,
    /// Somebody else, who is alive.
    Following(Arc<str>),
}

/// The lock of one cluster.
pub(super) struct Lock {
    cluster: ClusterId,
    maps: Api<ConfigMap>,
    webhooks: Api<MutatingWebhookConfiguration>,
    election: Election,
    pace: Pace,
    clock: fn() -> SystemTime,
}

impl Lock {
    pub(super) fn new(client: &Client, candidate: Candidate, pace: Pace) -> Self {
        let revision = match candidate.revision.as_str() {
            "" => "default".to_owned(),
            revision => revision.to_owned(),
        };
        let key = Key {
            revision,
            remote: candidate.remote,
        };
        Self {
            cluster: candidate.cluster,
            maps: Api::namespaced(client.clone(), &candidate.namespace),
            webhooks: Api::all(client.clone()),
            election: Election::new(candidate.identity, key, pace.lease),
            pace,
            clock: candidate.clock,
        }
    }

    /// Waits until the lock is ours; tells each time whose it is until then.
    pub(super) async fn acquire(&mut self, tell: impl Fn(Standing)) {
        let mut failing = false;
        loop {
            let attempt = timeout(self.pace.give_up(), self.attempt());
            match attempt
                .await
                .unwrap_or(Err(Failure::NoAnswer(self.pace.give_up())))
            {
                Ok(Standing::Leading) => {
                    info!(cluster = %self.cluster, lock = LOCK, "leading");
                    return tell(Standing::Leading);
                }
                Ok(standing) => {
                    failing = false;
                    tell(standing);
                }
                Err(error) => {
                    // Once: a follower may wait for long.
                    if !std::mem::replace(&mut failing, true) {
                        warn!(cluster = %self.cluster, lock = LOCK, %error, "cannot take the lock, trying again");
                    }
                    tell(Standing::Unknown);
                }
            }
            // client-go: up to 2.2 times the period.
            sleep(jittered(self.pace.retry() * 2)).await;
        }
    }

    /// Renews the lock until it is lost.
    pub(super) async fn keep(&mut self) {
        let mut renewed = Instant::now();
        let mut pause = self.pace.retry();
        loop {
            sleep(pause).await;
            pause = self.pace.retry() / 4;
            let (started, deadline) = (Instant::now(), renewed + self.pace.give_up());
            match timeout_at(deadline, self.attempt()).await {
                Ok(Ok(Standing::Leading)) => (renewed, pause) = (started, self.pace.retry()),
                // client-go goes on until its deadline; whoever was overtaken
                // should not write one more time.
                Ok(Ok(Standing::Following(holder))) => {
                    info!(cluster = %self.cluster, lock = LOCK, %holder, "overtaken");
                    return;
                }
                Ok(Ok(Standing::Unknown)) => {}
                Ok(Err(error)) => {
                    debug!(cluster = %self.cluster, lock = LOCK, %error, "cannot renew the lock");
                }
                Err(_) => {
                    warn!(cluster = %self.cluster, lock = LOCK, "the lock was not renewed in time: not leading any more");
                    return;
                }
            }
        }
    }

    /// Gives the lock back, if it is ours.
    pub(super) async fn release(&mut self) {
        match timeout(RELEASE, self.give_back()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(cluster = %self.cluster, %error, "the lock runs out by itself");
            }
            Err(_) => debug!(cluster = %self.cluster, "no time to give back the lock"),
        }
    }

    async fn give_back(&mut self) -> Result<(), Failure> {
        let Some(map) = self.maps.get_opt(LOCK).await? else {
            return Ok(());
        };
        let found = text_of(&map);
        if !self.election.is_own(&found) {
            return Ok(());
        }
        let record = Election::released(&found, (self.clock)());
        self.replace(map, &record).await?;
        info!(cluster = %self.cluster, lock = LOCK, "gave back the lock");
        Ok(())
    }

    /// Looks at the lock and takes or renews it where that is right.
    async fn attempt(&mut self) -> Result<Standing, Failure> {
        let map = self.maps.get_opt(LOCK).await?;
        let found = map.as_ref().map(text_of);
        let default = match &found {
            Some(text) if self.election.asks_for_default(text) => self.default_revision().await,
            _ => None,
        };
        let now = Now {
            steady: Instant::now(),
            wall: (self.clock)(),
        };
        let verdict = self
            .election
            .judge(found.as_deref(), default.as_deref(), now);
        match (verdict, map) {
            (Verdict::Held(record), _) => Ok(Standing::Following(record.holder_identity.into())),
            (Verdict::Write(record), Some(map)) => self.replace(map, &record).await,
            (Verdict::Write(record), None) => self.create(&record).await,
        }
    }

    async fn create(&self, record: &Record) -> Result<Standing, Failure> {
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(LOCK.to_owned()),
                annotations: Some(BTreeMap::from([annotation(record)?])),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        won(self.maps.create(&PostParams::default(), &map).await)
    }

    /// Its resource version guards the write: of two that try, one fails.
    async fn replace(&self, mut map: ConfigMap, record: &Record) -> Result<Standing, Failure> {
        map.annotations_mut().extend([annotation(record)?]);
        won(self.maps.replace(LOCK, &PostParams::default(), &map).await)
    }

    /// Which revision is the default one; none where there is none or where it
    /// may not be read.
    async fn default_revision(&self) -> Option<String> {
        let webhook = self.webhooks.get_metadata_opt(DEFAULT_TAG).await.ok()??;
        let revision = webhook.labels().get(REVISION_LABEL)?;
        Some(revision.clone()).filter(|revision| !revision.is_empty())
    }
}

fn won(written: kube::Result<ConfigMap>) -> Result<Standing, Failure> {
    match written {
        Ok(_) => Ok(Standing::Leading),
        // Somebody was faster; the next look tells who.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Standing::Unknown),
        Err(error) => Err(error.into()),
    }
}

fn text_of(map: &ConfigMap) -> String {
    map.annotations()
        .get(ANNOTATION)
        .cloned()
        .unwrap_or_default()
}

fn annotation(record: &Record) -> Result<(String, String), Failure> {
    let text = serde_json::to_string(record).map_err(|e| Failure::Transport(e.to_string()))?;
    Ok((ANNOTATION.to_owned(), text))
}
