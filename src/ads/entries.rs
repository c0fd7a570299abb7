//! The names of one type on one stream, and what the client holds of each.

use std::{collections::BTreeMap, sync::Arc};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::wire::Version;

/// What the client holds of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The version sent last on this stream.
    Sent,
    /// A version it brought along from an earlier stream (xDS rule 57).
    Kept,
    /// Nothing; it was told so where it can be told.
    Absent,
    /// It rejected a response with this version: it may hold it or not.
    Rejected,
    /// It rejected a response that removed it.
    RejectedAbsent,
}

/// One name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Version of the last content; meaningless while absent.
    pub(super) version: Version,
    /// What the client holds.
    pub(super) state: State,
    /// Asked for by name, not only by wildcard.
    pub(super) explicit: bool,
    /// Its content may differ from `version`.
    pub(super) due: bool,
    /// To be sent even if its content is the same.
    pub(super) forced: bool,
}

impl Entry {
    /// A name that the client holds nothing of.
    pub(super) fn absent(explicit: bool) -> Self {
        let state = State::Absent;
        Self::with(Version(0), state, explicit)
    }

    /// A name with content.
    pub(super) fn with(version: Version, state: State, explicit: bool) -> Self {
        Self {
            version,
            state,
            explicit,
            due: false,
            forced: false,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, State::Absent | State::RejectedAbsent)
    }

    pub(super) fn is_rejected(&self) -> bool {
        matches!(self.state, State::Rejected | State::RejectedAbsent)
    }

    /// What it adds to the hash over all content.
    fn weight(&self, name: &str) -> u64 {
        if self.is_absent() {
            return 0;
        }
        xxh3_64_with_seed(name.as_bytes(), self.version.0)
    }
}

/// All names of a subscription: about 40 bytes each, their text shared with
/// the resources.
#[derive(Debug, Default)]
pub(super) struct Entries {
    map: BTreeMap<Arc<str>, Entry>,
    /// Sum over the weights of all entries: a hash of the content that one
    /// change updates in constant time.
    content: u64,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn content(&self) -> u64 {
        self.content
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.map.get(name)
    }

    /// Sets the entry of `name`.
    pub(super) fn put(&mut self, name: &Arc<str>, entry: Entry) {
        self.content = self.content.wrapping_add(entry.weight(name));
        if let Some(old) = self.map.insert(Arc::clone(name), entry) {
            self.content = self.content.wrapping_sub(old.weight(name));
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.map.remove(name)?;
        self.content = self.content.wrapping_sub(entry.weight(name));
        Some(entry)
    }

    /// Shows `change` the entry of `name`; the entry goes if it says `false`.
    pub(super) fn update(
        &mut self,
        name: &str,
        change: impl FnOnce(&Arc<str>, &mut Entry) -> bool,
    ) -> bool {
        let Some((key, old)) = self.map.get_key_value(name) else {
            return false;
        };
        let (key, before) = (Arc::clone(key), *old);
        let mut entry = before;
        if change(&key, &mut entry) {
            if entry != before {
                self.put(&key, entry);
            }
        } else {
            self.remove(name);
        }
        true
    }

    /// Shows `change` every entry; those for which it says `false` go.
    pub(super) fn update_all(&mut self, mut change: impl FnMut(&Arc<str>, &mut Entry) -> bool) {
        let content = &mut self.content;
        self.map.retain(|name, entry| {
            let before = *entry;
            let keep = change(name, entry);
            if keep && (before.version, before.state) == (entry.version, entry.state) {
                return true;
            }
            *content = content.wrapping_sub(before.weight(name));
            if keep {
                *content = content.wrapping_add(entry.weight(name));
            }
            keep
        });
    }

    /// Marks one name as due and adds it to `due`, unless it was already.
    pub(super) fn mark(&mut self, name: &str, due: &mut Vec<Arc<str>>) {
        if let Some(entry) = self.map.get_mut(name)
            && !std::mem::replace(&mut entry.due, true)
        {
            due.push(Arc::from(name));
        }
    }

    /// Marks one name as due, to be sent even if unchanged.
    pub(super) fn force(&mut self, name: &str, due: &mut Vec<Arc<str>>) {
        self.update(name, |key, entry| {
            if !entry.due {
                due.push(Arc::clone(key));
            }
            entry.due = true;
            entry.forced = true;
            true
        });
    }

    /// Packs the map after `added` names were inserted: in name order a tree is
    /// left half empty, which was most of what an idle stream held.
    pub(super) fn pack(&mut self, added: usize) {
        if added * 4 > self.map.len() {
            self.map = std::mem::take(&mut self.map).into_iter().collect();
        }
    }

    /// The names asked for explicitly, in this map's order.
    pub(super) fn explicit(&self) -> impl Iterator<Item = &Arc<str>> {
        let explicit = self.map.iter().filter(|(_, entry)| entry.explicit);
        explicit.map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_has_equal_hashes_whatever_the_way_there() {
        let (a, b): (Arc<str>, Arc<str>) = (Arc::from("a"), Arc::from("b"));
        let sent = |n| Entry::with(Version(n), State::Sent, true);
        let mut one = Entries::default();
        one.put(&a, sent(1));
        one.put(&b, sent(2));
        let mut other = Entries::default();
        other.put(&b, sent(7));
        other.update("b", |_, e| {
            e.version = Version(2);
            true
        });
        other.put(&Arc::from("c"), sent(3));
        other.put(&a, sent(1));
        assert_ne!(one.content(), other.content());
        other.update_all(|name, _| &**name != "c");
        assert_eq!(one.content(), other.content());
        other.remove("a");
        other.remove("b");
        assert_eq!(other.content(), 0);
    }
}
