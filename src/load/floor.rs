//! When each change came back from its API server, on a bare watch.

use std::sync::Arc;

use parking_lot::Mutex;

use super::figures::{Durations, Percentiles};
use super::ledger::Ledger;
use super::markers::{Markers, Seen};
use super::mesh::Floor;

/// What the watch has told so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<Durations>>);

impl Arrivals {
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        self.0.lock().clone().percentiles()
    }

    /// Writes down what the watch tells, until it ends or the task is aborted.
    pub(super) async fn follow(self, mut floor: Floor, ledger: Arc<Ledger>, markers: Arc<Markers>) {
        let mut seen = Seen::default();
        while let Some(change) = floor.next().await {
            let number = change.marker.map(|marker| markers.number(marker));
            if let Some(number) = number
                && let Some(written) = ledger.written(number)
                && seen.insert(number)
            {
                let took = change.at.saturating_duration_since(written);
                self.0.lock().push(took);
            }
        }
    }
}
