//! Which requests are tried again.

use envoy_types::pb::envoy::config::route::v3::{
    RetryPolicy,
    retry_policy::{
        RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
    },
};
use envoy_types::pb::envoy::extensions::retry::{
    host::previous_hosts::v3::PreviousHostsPredicate,
    priority::previous_priorities::v3::PreviousPrioritiesConfig,
};

use crate::model::Retries;
use crate::xds::pb;

/// istiod's default: only what certainly did not reach the application.
const RETRY_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const BY_STATUS: &str = "retriable-status-codes";

/// The policy that `retries` asks for, or the default one; none where they are
/// turned off. With consistent hashing another endpoint than before is no aim.
pub(in crate::xds) fn policy(retries: Option<&Retries>, is_hashed: bool) -> Option<RetryPolicy> {
    let default = RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: pb::uint(2),
        retry_host_predicate: if is_hashed {
            Vec::new()
        } else {
            vec![other_hosts()]
        },
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::default()
    };
    let Some(retries) = retries else {
        return Some(default);
    };
    if retries.attempts == 0 {
        return None;
    }
    let (retry_on, codes) = conditions(&retries.retry_on);
    let previous = match retries.ignore_previous_hosts {
        None => default.retry_host_predicate,
        Some(true) => vec![other_hosts()],
        Some(false) => Vec::new(),
    };
    Some(RetryPolicy {
        retry_on,
        retriable_status_codes: codes,
        num_retries: pb::uint(retries.attempts),
        per_try_timeout: retries.per_try_timeout.and_then(pb::duration),
        retry_host_predicate: previous,
        retry_priority: retries.remote_localities.then(other_localities),
        retry_back_off: retries.backoff.map(|base| RetryBackOff {
            base_interval: pb::duration(base),
            ..RetryBackOff::default()
        }),
        ..default
    })
}

/// Conditions and status codes stand in one list.
fn conditions(text: &str) -> (String, Vec<u32>) {
    if text.is_empty() {
        return (RETRY_ON.to_owned(), Vec::new());
    }
    let mut words = Vec::new();
    let mut codes = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.parse() {
            Ok(code) if (100..600).contains(&code) => codes.push(code),
            _ => words.push(part),
        }
    }
    if !codes.is_empty() && !words.iter().any(|word| word.contains(BY_STATUS)) {
        words.push(BY_STATUS);
    }
    (words.join(","), codes)
}

fn other_hosts() -> RetryHostPredicate {
    let config = pb::any(&PreviousHostsPredicate::default());
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(config)),
    }
}

fn other_localities() -> RetryPriority {
    // istiod: every second attempt goes to another priority.
    let config = pb::any(&PreviousPrioritiesConfig {
        update_frequency: 2,
    });
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(config)),
    }
}
