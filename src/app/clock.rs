//! The clock of the process.

use std::time::SystemTime;

/// The time of day. All else is given it.
#[allow(clippy::disallowed_methods, reason = "this is what is injected")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}
