//! A line on standard error that moves; nothing where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One phase of a run. Dropping it takes the line away.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(what: &'static str, length: u64) -> Self {
        let bar = ProgressBar::new(length).with_message(what);
        let form = "{msg} {wide_bar} {pos} of {len}, {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// How far it is.
    pub(super) fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// How long the phase is, where that was not known before.
    pub(super) fn set_length(&self, length: u64) {
        self.0.set_length(length);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
