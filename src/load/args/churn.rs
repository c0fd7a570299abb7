//! Changes, and storms.

use std::time::Duration;

use clap::Args;

use super::duration;

#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
pub(in crate::load) struct ChurnArgs {
    /// Changes of one EndpointSlice of the first cluster a second; 0 for none
    #[arg(long, default_value_t = 10.0, value_parser = rate, value_name = "N")]
    pub(in crate::load) rate: f64,
    /// How long changes are made
    #[arg(long, default_value = "20s", value_parser = duration, value_name = "DURATION")]
    pub(in crate::load) duration: Duration,
    /// All sidecars drop their streams and come back at once, so often
    #[arg(long, value_parser = duration, value_name = "EVERY")]
    pub(in crate::load) reconnect_storm: Option<Duration>,
}

impl ChurnArgs {
    /// The most changes that may be made.
    pub(in crate::load) fn changes(&self) -> u32 {
        let most = (self.rate * self.duration.as_secs_f64()).ceil();
        // A rate is neither negative nor without an end.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` stops at the ends of the range"
        )]
        let most = most as u32;
        most
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok();
    let rate = rate.filter(|rate| rate.is_finite() && (0.0..=100_000.0).contains(rate));
    rate.ok_or_else(|| format!("{text:?} is no number of changes a second"))
}
