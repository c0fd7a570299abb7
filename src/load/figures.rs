//! Percentiles.

use std::time::Duration;

use serde::Serialize;

/// What is told of many durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: f64,
    /// Nine of ten took no longer.
    pub p90: f64,
    /// All but one of a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Durations, all of them: 4 bytes each are little beside the sidecars, and
/// exact values need no explanation.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations(Vec<u32>);

impl Durations {
    pub(super) fn push(&mut self, duration: Duration) {
        self.0
            .push(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// None without durations.
    pub(super) fn percentiles(mut self) -> Option<Percentiles> {
        self.0.sort_unstable();
        let last = self.0.len().checked_sub(1)?;
        // In hundredths, so that no float decides which of two neighbours it is.
        let at = |hundredths: usize| {
            let micros = self.0.get(last * hundredths / 100).copied();
            f64::from(micros.unwrap_or_default()) / 1e3
        };
        Some(Percentiles {
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut durations = Durations::default();
        for ms in (1..=1000).rev() {
            durations.push(Duration::from_millis(ms));
        }
        assert_eq!(durations.len(), 1000);
        let expected = Percentiles {
            p50: 500.0,
            p90: 900.0,
            p99: 990.0,
            max: 1000.0,
        };
        assert_eq!(durations.percentiles(), Some(expected));
    }

    #[test]
    fn one_value_is_every_percentile_and_none_is_no_figure() {
        let mut one = Durations::default();
        one.push(Duration::from_micros(1500));
        let figures = one.percentiles().unwrap();
        assert!((figures.p50 - 1.5).abs() < 1e-9 && (figures.max - 1.5).abs() < 1e-9);
        assert_eq!(Durations::default().percentiles(), None);
    }
}
