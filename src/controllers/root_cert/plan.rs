//! Which namespaces want their root certificate written, and when.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::model::{LabelSelector, Labels};

/// istiod: `inject.IgnoredNamespaces` without `kube-system`, where node agents
/// of the mesh live.
const IGNORED: [&str; 3] = ["kube-public", "kube-node-lease", "local-path-storage"];
/// Namespaces written in one go; the rest comes right after.
const BATCH: usize = 64;
/// Writes to one namespace so close together mean that somebody else writes
/// there too, or that the write fails.
const QUIET: Duration = Duration::from_mins(10);
/// First pause of those.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LAST_PAUSE: Duration = Duration::from_mins(5);
/// So many writes of one text to one namespace: somebody undoes them.
const CONTESTED: u32 = 4;

/// Name of a namespace.
pub(super) type Name = Arc<str>;

/// Stands for the text of a root certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl Digest {
    pub(super) fn of(text: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
    }
}

/// A namespace as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamespaceState {
    pub labels: Labels,
    /// It is being deleted: nothing can be created in it.
    pub ending: bool,
}

/// How a write went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The text was new there.
    Written,
    /// It was there already.
    Unchanged,
    /// Not done: try again later.
    Failed,
}

impl Outcome {
    /// Label of a metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// The last write to a namespace.
#[derive(Debug)]
struct Attempt {
    root: Digest,
    at: Instant,
    /// Writes of this root that were not long apart.
    count: u32,
}

/// The namespaces of one cluster and what their `ConfigMap`s hold.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// None until listed.
    namespaces: Option<BTreeMap<Name, NamespaceState>>,
    /// None until listed; a `ConfigMap` without the key holds the empty text.
    held: Option<BTreeMap<Name, Digest>>,
    attempts: BTreeMap<Name, Attempt>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Write these now.
    pub now: Vec<Name>,
    /// Look again then, whatever happens until then.
    pub next: Option<Instant>,
}

impl Plan {
    pub(super) fn list_namespaces(&mut self, all: BTreeMap<Name, NamespaceState>) {
        self.attempts.retain(|name, _| all.contains_key(name));
        self.namespaces = Some(all);
    }

    pub(super) fn set_namespace(&mut self, name: Name, state: NamespaceState) {
        self.namespaces.get_or_insert_default().insert(name, state);
    }

    pub(super) fn remove_namespace(&mut self, name: &str) {
        self.namespaces.get_or_insert_default().remove(name);
        self.attempts.remove(name);
    }

    pub(super) fn list_held(&mut self, all: BTreeMap<Name, Digest>) {
        self.held = Some(all);
    }

    pub(super) fn set_held(&mut self, name: Name, digest: Digest) {
        self.held.get_or_insert_default().insert(name, digest);
    }

    pub(super) fn remove_held(&mut self, name: &str) {
        self.held.get_or_insert_default().remove(name);
    }

    /// The namespaces to write `root` to. With `selectors` only those that one
    /// of them selects; the others keep what they have, as with istiod.
    pub(super) fn due(&self, root: Digest, selectors: &[LabelSelector], now: Instant) -> Due {
        let mut due = Due {
            now: Vec::new(),
            next: None,
        };
        let (Some(namespaces), Some(held)) = (&self.namespaces, &self.held) else {
            return due;
        };
        let wanting = namespaces.iter().filter(|(name, state)| {
            is_served(name, state, selectors) && held.get(*name) != Some(&root)
        });
        for (name, _) in wanting {
            let at = self.attempts.get(name).map(|attempt| attempt.next(root));
            match at {
                Some(at) if at > now => due.next = Some(due.next.map_or(at, |next| next.min(at))),
                _ if due.now.len() < BATCH => due.now.push(Arc::clone(name)),
                _ => {}
            }
        }
        due
    }

    /// Notes how a write went. Tells whether somebody seems to undo them, the
    /// first time it looks so.
    pub(super) fn wrote(&mut self, name: &Name, root: Digest, now: Instant, how: Outcome) -> bool {
        if how != Outcome::Failed {
            self.set_held(Arc::clone(name), root);
        }
        if how == Outcome::Unchanged {
            return false;
        }
        let attempt = Attempt {
            root,
            at: now,
            count: 0,
        };
        let attempt = self.attempts.entry(Arc::clone(name)).or_insert(attempt);
        if attempt.root != root || now > attempt.at + QUIET {
            attempt.count = 0;
        }
        attempt.root = root;
        attempt.at = now;
        attempt.count = attempt.count.saturating_add(1);
        how == Outcome::Written && attempt.count == CONTESTED
    }
}

impl Attempt {
    /// When to write there again: a first repair is made at once.
    fn next(&self, root: Digest) -> Instant {
        if self.root != root || self.count <= 1 {
            return self.at + FIRST_PAUSE;
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.count.min(16));
        self.at + doubled.min(LAST_PAUSE)
    }
}

fn is_served(name: &str, state: &NamespaceState, selectors: &[LabelSelector]) -> bool {
    let selected = || selectors.is_empty() || selectors.iter().any(|s| s.matches(&state.labels));
    !state.ending && !IGNORED.contains(&name) && selected()
}

#[cfg(test)]
mod tests;
