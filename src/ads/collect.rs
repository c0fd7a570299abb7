//! Finds out what a response of one type has to carry.

use std::{collections::BTreeSet, sync::Arc};

use super::entries::{Entry, State};
use super::subscription::{InFlight, Subscription};
use super::{Nonce, Outgoing, Resources, Variant};
use crate::model::TypeUrl;
use crate::wire::EncodedResource;

/// Names answered in one response. A type without wildcard may be answered in
/// parts, and a client that asks for a hundred thousand names must not hold a
/// thread for all of them at once.
const MOST_NAMES: usize = 1000;

/// Contents of a response.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) updates: Vec<Arc<EncodedResource>>,
    /// What the client held and that is gone.
    pub(super) removed: Vec<Arc<str>>,
    /// What it asked for and that was never there: only the delta form can
    /// say so (xDS rules 21, 22).
    missing: Vec<Arc<str>>,
}

impl Draft {
    fn len(&self) -> usize {
        self.updates.len() + self.removed.len()
    }

    fn append(&mut self, mut other: Draft) {
        self.updates.append(&mut other.updates);
        self.removed.append(&mut other.removed);
        self.missing.append(&mut other.missing);
    }

    fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let updated = self.updates.iter().map(|r| r.name());
        updated.chain(&self.removed)
    }

    /// Sorts by name; a name stands in one place only, once (xDS rule 9).
    fn tidy(&mut self) {
        self.updates.sort_by(|a, b| a.name().cmp(b.name()));
        self.updates.dedup_by(|b, a| a.name() == b.name());
        self.removed.sort();
        self.removed.dedup();
        let updates = &self.updates;
        self.removed.retain(|name| find(updates, name).is_none());
    }
}

/// The resource of `name` in a list sorted by name.
fn find<'a>(list: &'a [Arc<EncodedResource>], name: &str) -> Option<&'a Arc<EncodedResource>> {
    let at = list.binary_search_by(|r| (**r.name()).cmp(name)).ok()?;
    list.get(at)
}

/// The two halves of "make before break" (xDS rule 49).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// What is new or changed, in push order.
    Make,
    /// Clusters that go, and the endpoints of these.
    Break,
}

/// The world as one stream sees it in one type.
pub(super) struct Source<'a> {
    pub(super) kind: TypeUrl,
    pub(super) variant: Variant,
    /// Everything of the type if the stream has a wildcard on it, else nothing.
    pub(super) all: Arc<[Arc<EncodedResource>]>,
    pub(super) resources: &'a dyn Resources,
}

impl Source<'_> {
    /// `SotW` responses of CDS and LDS are the whole state (xDS rule 40).
    fn is_whole(&self) -> bool {
        self.variant == Variant::Sotw && self.kind.has_wildcard()
    }

    fn look_up(&self, name: &str, explicit: bool) -> Option<Arc<EncodedResource>> {
        let covered = find(&self.all, name).cloned();
        if explicit {
            return covered.or_else(|| self.resources.named(self.kind, name));
        }
        covered
    }
}

/// Compares an entry with what the world says; adds to the draft what the
/// client has to be told. Says whether the entry is to be kept.
fn judge(
    name: &Arc<str>,
    entry: &mut Entry,
    found: Option<&Arc<EncodedResource>>,
    draft: &mut Draft,
) -> bool {
    entry.due = false;
    let forced = std::mem::take(&mut entry.forced);
    let Some(found) = found else {
        if !entry.is_absent() {
            draft.removed.push(Arc::clone(name));
        } else if forced {
            draft.missing.push(Arc::clone(name));
        }
        if forced || !entry.is_absent() {
            entry.state = State::Absent;
        }
        return entry.explicit || entry.state == State::RejectedAbsent;
    };
    // xDS rules 33, 46: the same content is not sent again, rejected or not.
    if forced || entry.is_absent() || entry.version != found.version() {
        draft.updates.push(Arc::clone(found));
        *entry = Entry::with(found.version(), State::Sent, entry.explicit);
    }
    true
}

impl Subscription {
    /// What a response has to carry now; `None` if there is nothing to say.
    /// Names in `later` wait for the other phase.
    pub(super) fn draft(
        &mut self,
        world: &Source<'_>,
        phase: Phase,
        later: &BTreeSet<Arc<str>>,
    ) -> Option<Draft> {
        let mut draft = Draft::default();
        let before = self.entries.len();
        let must_answer = self.must_answer;
        self.answer(world, &mut draft);
        if must_answer || !self.is_waiting() {
            let mut pushed = Draft::default();
            self.review(world, later, &mut pushed);
            // Not with a mere answer or what is left of the rejected state (33).
            if pushed.len() > 0 && phase == Phase::Make {
                self.add_rejected(world, &mut pushed);
            }
            if world.kind == TypeUrl::Cluster {
                self.leaving.extend(pushed.removed.drain(..));
            }
            draft.append(pushed);
        }
        if self.asked.is_empty() {
            self.reported.clear();
        }
        if phase == Phase::Break && world.kind == TypeUrl::Cluster {
            draft.removed.extend(std::mem::take(&mut self.leaving));
        }
        match world.variant {
            Variant::Delta => draft.removed.append(&mut draft.missing),
            // Absence means nothing there, or is part of the whole state.
            Variant::Sotw if !world.is_whole() => draft.removed.clear(),
            Variant::Sotw => {}
        }
        self.added += self.entries.len().saturating_sub(before);
        if self.asked.is_empty() {
            self.entries.pack(std::mem::take(&mut self.added));
        }
        draft.tidy();
        for name in draft.names() {
            self.leaving.remove(name);
        }
        (must_answer || draft.len() > 0).then_some(draft)
    }

    /// Makes a draft the next response.
    pub(super) fn send(&mut self, world: &Source<'_>, draft: &Draft, nonce: Nonce) -> Outgoing {
        let frames = match world.variant {
            Variant::Delta => draft.updates.iter().map(|r| r.delta_frame()).collect(),
            Variant::Sotw if world.is_whole() => {
                self.leaving.clear();
                self.whole(world).iter().map(|r| r.sotw_frame()).collect()
            }
            Variant::Sotw => draft.updates.iter().map(|r| r.sotw_frame()).collect(),
        };
        let removed = match world.variant {
            Variant::Delta => draft.removed.clone(),
            Variant::Sotw => Vec::new(),
        };
        self.sent = Some(nonce);
        self.in_flight.push_back(InFlight {
            nonce,
            updated: draft.updates.iter().map(|r| Arc::clone(r.name())).collect(),
            removed: removed.clone(),
        });
        Outgoing {
            variant: world.variant,
            kind: world.kind,
            nonce,
            version: self.entries.content(),
            frames,
            removed,
        }
    }

    /// Answers the names that were asked for; of very many, the first.
    fn answer(&mut self, world: &Source<'_>, draft: &mut Draft) {
        let asked = self.asked.len();
        let most = if world.kind.has_wildcard() {
            asked
        } else {
            asked.min(MOST_NAMES)
        };
        if self.unanswered == 0 {
            self.unanswered = asked;
        }
        self.unanswered = self.unanswered.saturating_sub(most).min(asked - most);
        for _ in 0..most {
            let Some((name, explicit)) = self.asked.pop_first() else {
                return;
            };
            let reported = self.reported.remove(&name).flatten();
            let found = world.look_up(&name, explicit);
            let key = match &found {
                Some(found) if **found.name() == *name => Arc::clone(found.name()),
                _ => Arc::from(name),
            };
            let known = self.entries.get(&key).copied();
            let mut entry = known.unwrap_or(Entry::absent(explicit));
            entry.explicit |= explicit;
            let version = found.as_ref().map(|r| r.version());
            let keep = match reported {
                // xDS rule 57 (c): what it holds may be left out.
                Some(held) if Some(held) == version => {
                    entry = Entry::with(held, State::Kept, explicit);
                    true
                }
                _ => {
                    entry.forced = true;
                    judge(&key, &mut entry, found.as_ref(), draft)
                }
            };
            if keep {
                self.entries.put(&key, entry);
            } else {
                self.entries.remove(&key);
            }
        }
    }

    /// Looks at what may have changed. Names in `later` stay due.
    fn review(&mut self, world: &Source<'_>, later: &BTreeSet<Arc<str>>, draft: &mut Draft) {
        let answering = std::mem::take(&mut self.must_answer);
        let mut due = std::mem::take(&mut self.due);
        if std::mem::take(&mut self.look) || answering {
            due = self.review_all(world, later, answering, draft);
        }
        for name in due {
            if later.contains(&name) {
                self.due.push(name);
                continue;
            }
            self.entries.update(&name, |entry| {
                let found = world.look_up(&name, entry.explicit);
                !entry.due || judge(&name, entry, found.as_ref(), draft)
            });
        }
    }

    /// Looks at everything; returns the names that are left for later.
    fn review_all(
        &mut self,
        world: &Source<'_>,
        later: &BTreeSet<Arc<str>>,
        answering: bool,
        draft: &mut Draft,
    ) -> Vec<Arc<str>> {
        for resource in world.all.iter() {
            let name = resource.name();
            let known = self.entries.update(name, |entry| {
                entry.forced |= answering;
                judge(name, entry, Some(resource), draft)
            });
            if known {
                continue;
            }
            let held = self.reported.remove(&**name).flatten();
            let state = if held == Some(resource.version()) {
                State::Kept
            } else {
                draft.updates.push(Arc::clone(resource));
                State::Sent
            };
            let entry = Entry::with(resource.version(), state, false);
            self.entries.put(name, entry);
        }
        // xDS rule 57 (a): what it holds and is gone. Names outside a wildcard
        // are not subscribed to by being reported.
        for (name, _) in std::mem::take(&mut self.reported) {
            if self.wildcard && self.entries.get(&name).is_none() {
                draft.removed.push(Arc::from(name));
            }
        }
        let mut left = Vec::new();
        if self.entries.len() == world.all.len() {
            return left;
        }
        self.entries.update_all(|name, entry| {
            if find(&world.all, name).is_some() {
                return true;
            }
            if later.contains(name) {
                entry.due = true;
                left.push(Arc::clone(name));
                return true;
            }
            let found = world.look_up(name, entry.explicit);
            judge(name, entry, found.as_ref(), draft)
        });
        left
    }

    /// Adds what the client rejected earlier to a response that goes anyway
    /// (xDS rule 35).
    fn add_rejected(&mut self, world: &Source<'_>, draft: &mut Draft) {
        for name in std::mem::take(&mut self.rejected) {
            self.entries.update(&name, |entry| {
                if !entry.is_rejected() {
                    return true;
                }
                entry.forced = true;
                let found = world.look_up(&name, entry.explicit);
                judge(&name, entry, found.as_ref(), draft)
            });
        }
    }

    /// Everything that a `SotW` client subscribes to (xDS rule 40).
    fn whole(&self, world: &Source<'_>) -> Vec<Arc<EncodedResource>> {
        let mut list = world.all.to_vec();
        let beside = self.entries.explicit();
        let beside = beside.filter(|name| find(&world.all, name).is_none());
        list.extend(beside.filter_map(|name| world.look_up(name, true)));
        list.sort_by(|a, b| a.name().cmp(b.name()));
        list
    }
}
