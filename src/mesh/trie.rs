//! A hash map whose versions share all but the way to what differs.

use std::{array, iter, slice, sync::Arc};

/// Bits of a hash that choose a branch. With three, a leaf that is split leaves
/// two values in each new one: more bits would waste memory on empty leaves.
const BITS: u32 = 3;
const FAN_OUT: usize = 1 << BITS;
/// Values that a leaf holds before it is split.
const FULL: usize = 16;
/// A branch whose leaves hold no more becomes a leaf again.
const SPARSE: usize = FULL / 2;

/// A persistent map from hashes to values that know their own keys. Cloning it
/// shares everything; setting a value copies one leaf and the branches above
/// it: a few hundred bytes, whether it holds a thousand values or a million.
#[derive(Debug, Clone)]
pub(super) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug, Clone)]
enum Node<T> {
    Branch(Arc<[Node<T>; FAN_OUT]>),
    /// In the order in which they came, each with its hash, so that a lookup
    /// reads no value but the one it finds.
    Leaf(Arc<[(u64, T)]>),
}

/// The value that is set or, with `None`, removed.
struct Change<'a, T> {
    hash: u64,
    is: &'a dyn Fn(&T) -> bool,
    value: Option<T>,
}

impl<T: Clone> Trie<T> {
    /// The value of this hash for which `is` holds.
    pub(super) fn get(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<&T> {
        let (mut node, mut depth) = (&self.root, 0);
        loop {
            match node {
                Node::Branch(children) => node = children.get(branch(hash, depth))?,
                Node::Leaf(values) => {
                    let mut found = values.iter().filter(|(of, _)| *of == hash);
                    return found.find(|(_, value)| is(value)).map(|(_, value)| value);
                }
            }
            depth += 1;
        }
    }

    /// Puts `value` in the place of that for which `is` holds, or removes that.
    pub(super) fn set(&mut self, hash: u64, is: &dyn Fn(&T) -> bool, value: Option<T>) {
        self.root.set(0, Change { hash, is, value });
    }

    /// All values, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut open = vec![slice::from_ref(&self.root).iter()];
        let mut leaf: slice::Iter<'_, (u64, T)> = [].iter();
        iter::from_fn(move || {
            loop {
                if let Some((_, value)) = leaf.next() {
                    return Some(value);
                }
                match open.last_mut()?.next() {
                    Some(Node::Branch(children)) => open.push(children.iter()),
                    Some(Node::Leaf(values)) => leaf = values.iter(),
                    None => drop(open.pop()),
                }
            }
        })
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            root: Node::Leaf(Arc::default()),
        }
    }
}

impl<T: Clone> Node<T> {
    fn set(&mut self, depth: u32, change: Change<'_, T>) {
        match self {
            Self::Branch(children) => {
                let removes = change.value.is_none();
                let child = Arc::make_mut(children).get_mut(branch(change.hash, depth));
                if let Some(child) = child {
                    child.set(depth + 1, change);
                }
                if removes && let Some(few) = sparse(children) {
                    *self = few;
                }
            }
            Self::Leaf(values) => {
                let Change { hash, is, value } = change;
                let others = values.iter().filter(|(of, v)| *of != hash || !is(v));
                let set = value.map(|value| (hash, value));
                *self = Self::of(others.cloned().chain(set).collect(), depth);
            }
        }
    }

    /// A leaf, or a branch where they are too many. Values whose whole hashes
    /// are equal stay together.
    fn of(values: Vec<(u64, T)>, depth: u32) -> Self {
        if values.len() <= FULL || depth * BITS >= u64::BITS {
            return Self::Leaf(values.into());
        }
        let mut parts: [Vec<_>; FAN_OUT] = array::from_fn(|_| Vec::new());
        for value in values {
            if let Some(part) = parts.get_mut(branch(value.0, depth)) {
                part.push(value);
            }
        }
        Self::Branch(Arc::new(parts.map(|part| Self::of(part, depth + 1))))
    }
}

/// The way that a hash takes below a branch.
fn branch(hash: u64, depth: u32) -> usize {
    let bits = hash.checked_shr(depth * BITS).unwrap_or_default();
    usize::from(bits.to_le_bytes().first().copied().unwrap_or_default()) % FAN_OUT
}

/// The leaf that stands for a branch of few values.
fn sparse<T: Clone>(children: &[Node<T>; FAN_OUT]) -> Option<Node<T>> {
    let leaves = children.iter().map(|child| match child {
        Node::Leaf(values) => Some(values),
        Node::Branch(_) => None,
    });
    let leaves: Vec<_> = leaves.collect::<Option<_>>()?;
    let count: usize = leaves.iter().map(|values| values.len()).sum();
    let all = leaves.into_iter().flat_map(|values| values.iter().cloned());
    (count <= SPARSE).then(|| Node::Leaf(all.collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Pair = (u16, u32);

    /// Hashes that collide: whole, in their first bits, or not at all.
    fn hash(key: u16) -> u64 {
        match key % 3 {
            0 => 7,
            1 => u64::from(key) << 40,
            _ => u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    fn set(trie: &mut Trie<Pair>, key: u16, value: Option<u32>) {
        trie.set(hash(key), &|(k, _)| *k == key, value.map(|v| (key, v)));
    }

    fn contents(trie: &Trie<Pair>) -> BTreeMap<u16, u32> {
        let all: Vec<Pair> = trie.iter().copied().collect();
        let map: BTreeMap<_, _> = all.iter().copied().collect();
        assert_eq!(map.len(), all.len(), "each key once");
        map
    }

    fn depth(node: &Node<Pair>) -> usize {
        match node {
            Node::Branch(children) => 1 + children.iter().map(depth).max().unwrap_or_default(),
            Node::Leaf(_) => 0,
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_its_versions_do_not_touch_each_other(
            steps in prop::collection::vec((0_u16..300, prop::option::weighted(0.7, 0_u32..9)), 0..600)
        ) {
            let (mut trie, mut model) = (Trie::default(), BTreeMap::new());
            let mut versions = Vec::new();
            for (n, (key, value)) in steps.into_iter().enumerate() {
                if n % 50 == 0 {
                    versions.push((trie.clone(), model.clone()));
                }
                set(&mut trie, key, value);
                match value {
                    Some(value) => model.insert(key, value),
                    None => model.remove(&key),
                };
                let found = trie.get(hash(key), |(k, _)| *k == key);
                prop_assert_eq!(found.map(|(_, v)| *v), value);
            }
            versions.push((trie, model));
            for (trie, model) in versions {
                prop_assert_eq!(contents(&trie), model);
            }
        }
    }

    #[test]
    fn what_is_gone_leaves_no_branches_behind() {
        let mut trie = Trie::default();
        for key in 0..3_000 {
            set(&mut trie, key, Some(1));
        }
        assert!(depth(&trie.root) > 2);
        for key in 0..3_000 {
            set(&mut trie, key, None);
        }
        assert_eq!((depth(&trie.root), contents(&trie).len()), (0, 0));
    }
}
