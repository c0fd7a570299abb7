//! The names of one type on one stream, and what the client holds of each.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeMap, ops::Bound, sync::Arc};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::wire::Version;

/// A resource name, ordered by the host in it first, so that one range holds
/// all names of a host: a change of one service finds its names among
/// thousands without a scan.
#[derive(Debug, Clone)]
struct Name(Arc<str>);

/// Lets a map of [`Name`]s be searched by `&str` in the same order.
trait Named {
    fn text(&self) -> &str;
}

impl Named for Name {
    fn text(&self) -> &str {
        &self.0
    }
}

impl Named for &str {
    fn text(&self) -> &str {
        self
    }
}

/// The host of an Envoy cluster name; other names are their own host.
pub(super) fn host_of(name: &str) -> &str {
    if let Some((_, host)) = name.rsplit_once('|') {
        return host;
    }
    name.strip_prefix("outbound_.")
        .and_then(|rest| rest.splitn(3, "_.").nth(2))
        .unwrap_or(name)
}

/// By host, then length, then text: a bare host is the shortest name with this
/// host, so it is the start of the range.
fn compare(a: &str, b: &str) -> Ordering {
    let by_host = host_of(a).cmp(host_of(b));
    by_host.then_with(|| a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
impl Eq for dyn Named + '_ {}
impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.text(), other.text())
    }
}
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Name {}
impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}
impl<'a> Borrow<dyn Named + 'a> for Name {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

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
    map: BTreeMap<Name, Entry>,
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
        self.map.get(&name as &dyn Named)
    }

    /// Sets the entry of `name`.
    pub(super) fn put(&mut self, name: &Arc<str>, entry: Entry) {
        self.content = self.content.wrapping_add(entry.weight(name));
        if let Some(old) = self.map.insert(Name(Arc::clone(name)), entry) {
            self.content = self.content.wrapping_sub(old.weight(name));
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.map.remove(&name as &dyn Named)?;
        self.content = self.content.wrapping_sub(entry.weight(name));
        Some(entry)
    }

    /// Shows `change` the entry of `name`; the entry goes if it says `false`.
    pub(super) fn update(
        &mut self,
        name: &str,
        change: impl FnOnce(&Arc<str>, &mut Entry) -> bool,
    ) -> bool {
        let Some((key, old)) = self.map.get_key_value(&name as &dyn Named) else {
            return false;
        };
        let (key, before) = (Arc::clone(&key.0), *old);
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
            let keep = change(&name.0, entry);
            if keep && (before.version, before.state) == (entry.version, entry.state) {
                return true;
            }
            *content = content.wrapping_sub(before.weight(&name.0));
            if keep {
                *content = content.wrapping_add(entry.weight(&name.0));
            }
            keep
        });
    }

    /// Marks the names of `host` as due and adds those that were not yet to
    /// `due`.
    pub(super) fn mark_host(&mut self, host: &str, due: &mut Vec<Arc<str>>) {
        let from = Bound::Included(&host as &dyn Named);
        let range = self.map.range_mut::<dyn Named, _>((from, Bound::Unbounded));
        for (name, entry) in range.take_while(|(name, _)| host_of(&name.0) == host) {
            if !entry.due {
                entry.due = true;
                due.push(Arc::clone(&name.0));
            }
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
        explicit.map(|(name, _)| &name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_host_are_one_range() {
        let mut entries = Entries::default();
        let names = [
            "outbound|80||web.ns",
            "outbound|80|v1|web.ns",
            "outbound_.443_._.web.ns",
            "outbound|80||web.ns2",
            "outbound|80||a",
            "web.ns",
            "80",
            "outbound|80||zz",
        ];
        for name in names {
            entries.put(&Arc::from(name), Entry::absent(true));
        }
        let mut due = Vec::new();
        entries.mark_host("web.ns", &mut due);
        entries.mark_host("web.ns", &mut due);
        due.sort();
        let expected = [
            "outbound_.443_._.web.ns",
            "outbound|80|v1|web.ns",
            "outbound|80||web.ns",
            "web.ns",
        ];
        assert_eq!(due.iter().map(|n| &**n).collect::<Vec<_>>(), expected);
        for name in names {
            assert!(entries.get(name).is_some(), "{name}");
        }
    }

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
