//! Clients that behave badly; their figures are kept apart.

use clap::Args;

use crate::load::offender::Offence;

#[derive(Debug, Args)]
#[command(next_help_heading = "Bad clients, beside the sidecars")]
pub(in crate::load) struct OffenderArgs {
    /// Clients that read one byte a second
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    slow: u32,
    /// Clients that never read
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    stuck: u32,
    /// Clients that acknowledge nothing
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    no_ack: u32,
    /// Clients that reject everything
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    nack: u32,
    /// A client that subscribes to so many names that nobody has
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub(in crate::load) subscribe_names: u32,
    /// A client that connects anew so many times a second
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    pub(in crate::load) reconnect_rate: u32,
}

impl OffenderArgs {
    /// How many there are of each.
    pub(in crate::load) fn counts(&self) -> [(Offence, u32); 6] {
        [
            (Offence::Slow, self.slow),
            (Offence::Stuck, self.stuck),
            (Offence::NoAck, self.no_ack),
            (Offence::Nack, self.nack),
            (Offence::ManyNames, self.subscribe_names.min(1)),
            (Offence::Reconnects, self.reconnect_rate.min(1)),
        ]
    }
}
