//! What start-up still waits for.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// Ready once nothing blocks it any more; never unready again, since a cluster
/// that goes away keeps its last known endpoints.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<u64, String>,
    next: u64,
    ready: bool,
}

/// Keeps the process unready until it is dropped.
#[derive(Debug)]
pub struct Block {
    id: u64,
    state: Arc<Mutex<State>>,
}

impl Readiness {
    /// Blocks readiness on `what`, which the readiness page names.
    #[must_use]
    pub fn block(&self, what: impl Into<String>) -> Block {
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.pending.insert(id, what.into());
        Block {
            id,
            state: Arc::clone(&self.state),
        }
    }

    /// Whether everything that ever blocked is done.
    pub fn is_ready(&self) -> bool {
        self.state.lock().ready
    }

    /// What it waits for.
    pub fn pending(&self) -> Vec<String> {
        self.state.lock().pending.values().cloned().collect()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.pending.remove(&self.id);
        state.ready |= state.pending.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_waits_for_every_block_and_names_them() {
        let readiness = Readiness::default();
        let (a, b) = (readiness.block("cluster a"), readiness.block("cluster b"));
        drop(a);
        assert_eq!(readiness.pending(), ["cluster b"]);
        assert!(!readiness.is_ready());
        drop(b);
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_later_block_does_not_take_readiness_back() {
        let readiness = Readiness::default();
        drop(readiness.block("start"));
        let _late = readiness.block("late cluster");
        assert!(readiness.is_ready());
    }
}
