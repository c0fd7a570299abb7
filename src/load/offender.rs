//! Clients that behave badly, beside the good ones whose figures they may not
//! spoil.

use std::fmt;

use serde::Serialize;

/// What a bad client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Offence {
    /// Reads one byte a second.
    Slow,
    /// Opens no window after the first.
    Stuck,
    /// Reads everything and acknowledges nothing.
    NoAck,
    /// Rejects everything.
    Nack,
    /// Subscribes to names that nobody has.
    ManyNames,
    /// Leaves as soon as it is answered, and comes back.
    Reconnects,
}

/// How responses are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    Nack,
    Nothing,
}

/// How a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// All that comes, at once.
    All,
    /// One byte a second.
    Slowly,
    /// What the first window lets through.
    Never,
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slow => "read a byte a second",
            Self::Stuck => "never read",
            Self::NoAck => "acknowledge nothing",
            Self::Nack => "reject everything",
            Self::ManyNames => "subscribe to names of nobody",
            Self::Reconnects => "connect anew all the time",
        })
    }
}

impl Offence {
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::NoAck => Answer::Nothing,
            Self::Nack => Answer::Nack,
            _ => Answer::Ack,
        }
    }

    pub(super) fn reading(self) -> Reading {
        match self {
            Self::Slow => Reading::Slowly,
            Self::Stuck => Reading::Never,
            _ => Reading::All,
        }
    }
}

impl Reading {
    /// The window of a stream: what the server may send unasked.
    pub(super) fn window(self) -> u32 {
        match self {
            // A list of clusters, or of endpoints, in one go.
            Self::All => 16 << 20,
            Self::Slowly => 1,
            // HTTP/2's own.
            Self::Never => (1 << 16) - 1,
        }
    }
}
