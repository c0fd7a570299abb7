//! Spreads what would otherwise happen in one instant.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// From 0 up to 1.
fn random() -> f64 {
    // RandomState is seeded per process and per value: random enough to spread
    // load, with no further dependency.
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u16::try_from(bits % 1000).unwrap_or_default()) / 1000.0
}

/// Between half of `pause` and all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64(random() / 2.0)
}

/// `pause` and up to a tenth more.
pub(super) fn spread(pause: Duration) -> Duration {
    pause + pause.mul_f64(random() / 10.0)
}
