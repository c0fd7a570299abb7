//! Which source of credentials speaks for which cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::kubeconfig::KubeconfigBytes;
use crate::model::ClusterId;

/// A Secret or a file. The oldest comes first, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    /// RFC 3339 creation time of a Secret; empty for a file.
    pub created: Arc<str>,
    /// `namespace/name`, or the file's name.
    pub name: Arc<str>,
}

/// Credentials by cluster, of one source.
pub(super) type Credentials = BTreeMap<ClusterId, KubeconfigBytes>;

/// A change of what sources there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimChange {
    /// These and no others.
    All(Vec<(Source, Credentials)>),
    /// A source is new or different.
    Set(Source, Credentials),
    /// A source is gone.
    Gone(Arc<str>),
}

/// All sources and what they claim. Of several claims to one cluster the oldest
/// source's counts; when it goes, the next one's does. (istiod keeps whichever
/// came first and forgets the others, so that a replica that started later may
/// have chosen otherwise.)
#[derive(Debug, Default)]
pub(super) struct Claims {
    sources: BTreeMap<Source, Credentials>,
}

/// The claim that counts for a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Source.
    pub source: Arc<str>,
    /// Credentials.
    pub kubeconfig: KubeconfigBytes,
}

/// Two sources that claim one cluster: (cluster, the one that counts, the other).
pub(super) type Conflict = (ClusterId, Arc<str>, Arc<str>);

impl Claims {
    /// Applies a change.
    pub(super) fn apply(&mut self, change: ClaimChange) {
        match change {
            ClaimChange::All(sources) => self.sources = sources.into_iter().collect(),
            ClaimChange::Set(source, credentials) => {
                // Deleted and made anew, a Secret has another age.
                self.remove(&source.name);
                self.sources.insert(source, credentials);
            }
            ClaimChange::Gone(name) => self.remove(&name),
        }
    }

    fn remove(&mut self, name: &Arc<str>) {
        self.sources.retain(|source, _| &source.name != name);
    }

    /// The claim that counts, of every cluster but `own`, whose credentials are
    /// this process's own.
    pub(super) fn owners(&self, own: &ClusterId) -> BTreeMap<ClusterId, Claim> {
        let mut owners = BTreeMap::new();
        for (source, cluster, kubeconfig) in self.all(own) {
            owners.entry(cluster.clone()).or_insert_with(|| Claim {
                source: Arc::clone(&source.name),
                kubeconfig: kubeconfig.clone(),
            });
        }
        owners
    }

    /// Claims that do not count.
    pub(super) fn conflicts(&self, own: &ClusterId) -> BTreeSet<Conflict> {
        let owners = self.owners(own);
        let losers = self.all(own).filter_map(|(source, cluster, _)| {
            let owner = Arc::clone(&owners.get(cluster)?.source);
            (owner != source.name).then(|| (cluster.clone(), owner, Arc::clone(&source.name)))
        });
        losers.collect()
    }

    fn all<'a>(
        &'a self,
        own: &'a ClusterId,
    ) -> impl Iterator<Item = (&'a Source, &'a ClusterId, &'a KubeconfigBytes)> {
        let claims = self.sources.iter().flat_map(|(source, credentials)| {
            credentials
                .iter()
                .map(move |(cluster, kubeconfig)| (source, cluster, kubeconfig))
        });
        claims.filter(move |(_, cluster, _)| *cluster != own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(created: &str, name: &str) -> Source {
        Source {
            created: Arc::from(created),
            name: Arc::from(name),
        }
    }

    fn credentials(of: &[(&str, &str)]) -> Credentials {
        of.iter()
            .map(|(id, bytes)| (ClusterId::from(*id), KubeconfigBytes::new(bytes.as_bytes())))
            .collect()
    }

    fn owners(claims: &Claims) -> Vec<String> {
        let owners = claims.owners(&ClusterId::from("config"));
        owners
            .into_iter()
            .map(|(id, claim)| format!("{id} by {}", claim.source))
            .collect()
    }

    #[test]
    fn several_clusters_of_one_secret_are_claimed_but_never_the_own() {
        let mut claims = Claims::default();
        let all = credentials(&[("a", "1"), ("b", "2"), ("config", "3")]);
        claims.apply(ClaimChange::Set(source("1", "s"), all));
        assert_eq!(owners(&claims), ["a by s", "b by s"]);
        claims.apply(ClaimChange::Set(
            source("1", "s"),
            credentials(&[("b", "2")]),
        ));
        assert_eq!(owners(&claims), ["b by s"]);
    }

    #[test]
    fn the_oldest_secret_owns_a_cluster_and_the_other_takes_over_when_it_goes() {
        let mut claims = Claims::default();
        claims.apply(ClaimChange::Set(
            source("2", "new"),
            credentials(&[("a", "n")]),
        ));
        claims.apply(ClaimChange::Set(
            source("1", "old"),
            credentials(&[("a", "o")]),
        ));
        assert_eq!(owners(&claims), ["a by old"]);
        let conflict = (ClusterId::from("a"), Arc::from("old"), Arc::from("new"));
        let conflicts = claims.conflicts(&ClusterId::from("config"));
        assert_eq!(conflicts.into_iter().collect::<Vec<_>>(), [conflict]);
        claims.apply(ClaimChange::Gone(Arc::from("old")));
        assert_eq!(owners(&claims), ["a by new"]);
        assert!(claims.conflicts(&ClusterId::from("config")).is_empty());
    }

    #[test]
    fn a_relist_forgets_secrets_that_are_gone() {
        let mut claims = Claims::default();
        claims.apply(ClaimChange::Set(
            source("1", "s"),
            credentials(&[("a", "1")]),
        ));
        claims.apply(ClaimChange::All(vec![(
            source("2", "t"),
            credentials(&[("b", "1")]),
        )]));
        assert_eq!(owners(&claims), ["b by t"]);
    }
}
