//! Counters of authentication.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What became of a TokenReview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReviewOutcome {
    Accepted,
    Refused,
    Unanswered,
    Remembered,
}

/// `outcome`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Counters of authentication, made once and passed in.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    reviews: Family<OutcomeLabel, Counter>,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Tokens checked with an API server: accepted, refused, unanswered, or \
                    remembered from a review shortly before";
        registry.register("isthmus_token_reviews", help, metrics.reviews.clone());
        metrics
    }

    pub(super) fn review(&self, outcome: ReviewOutcome) {
        let outcome = match outcome {
            ReviewOutcome::Accepted => "accepted",
            ReviewOutcome::Refused => "refused",
            ReviewOutcome::Unanswered => "unanswered",
            ReviewOutcome::Remembered => "remembered",
        };
        self.reviews.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}
