//! `outlierDetection`: which endpoints are left out for a while.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::OutlierDetection as EnvoyOutlierDetection,
        common::matcher::v3::{
            HttpHeadersMatch, MatchPredicate,
            match_predicate::{MatchSet, Rule},
        },
        route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
    },
    r#type::{
        matcher::v3::{StringMatcher, string_matcher::MatchPattern},
        v3::Percent,
    },
};

use super::{Draft, forces_unready};
use crate::mesh::{ClusterKey, ServiceState};
use crate::model::{OutlierDetection, PolicySettings};
use crate::xds::endpoint_policy::{Balance, EndpointPolicy};
use crate::xds::pb;

/// Applies the outlier detection of `policy`.
pub(super) fn apply(
    draft: &mut Draft,
    state: &ServiceState,
    key: &ClusterKey,
    policy: &PolicySettings,
) {
    let Some(outlier) = &policy.outlier_detection else {
        return;
    };
    let mut detection = detection(outlier);
    if outlier.max_ejection_percent == 0 && fails_over(state, key) {
        // Envoy ejects up to 10 percent, which of fewer than ten endpoints is
        // none at all: calls would stay on endpoints that fail, and never go to
        // the next locality.
        detection.max_ejection_percent = pb::uint(100);
    }
    draft.cluster.outlier_detection = Some(detection);
    draft.failures = error_codes(&outlier.http_error_codes);
    let percent = if forces_unready(&state.service, &state.features) {
        0
    } else {
        outlier.min_health_percent
    };
    let value = f64::from(percent);
    draft.common_lb().healthy_panic_threshold = Some(Percent { value });
}

/// Whether endpoint answers have priorities, so that there is somewhere to go.
fn fails_over(state: &ServiceState, key: &ClusterKey) -> bool {
    let rule = key.rule.and_then(|at| state.rules.get(usize::from(at)));
    let policy = EndpointPolicy::new(state, rule.map(AsRef::as_ref), &key.cluster);
    matches!(policy.balance, Balance::Priorities { .. })
}

fn detection(outlier: &OutlierDetection) -> EnvoyOutlierDetection {
    let enforce = |count: Option<u32>| count.and_then(|n| pb::uint(if n > 0 { 100 } else { 0 }));
    let count = |count: Option<u32>| count.and_then(pb::uint);
    let time = |time: Option<Duration>| time.and_then(pb::duration);
    let mut out = EnvoyOutlierDetection {
        // istiod never ejects by success rate.
        enforcing_success_rate: pb::uint(0),
        consecutive_5xx: count(outlier.consecutive_5xx),
        enforcing_consecutive_5xx: enforce(outlier.consecutive_5xx),
        consecutive_gateway_failure: count(outlier.consecutive_gateway_errors),
        enforcing_consecutive_gateway_failure: enforce(outlier.consecutive_gateway_errors),
        interval: time(outlier.interval),
        base_ejection_time: time(outlier.base_ejection_time),
        max_ejection_percent: Some(outlier.max_ejection_percent)
            .filter(|p| *p > 0)
            .and_then(pb::uint),
        ..EnvoyOutlierDetection::default()
    };
    if outlier.split_local_origin {
        let failures = outlier.consecutive_local_origin.filter(|n| *n > 0);
        out.split_external_local_origin_errors = true;
        out.consecutive_local_origin_failure = count(failures);
        out.enforcing_consecutive_local_origin_failure = enforce(failures);
        out.enforcing_local_origin_success_rate = pb::uint(0);
    }
    out
}

/// Which answers count as failures instead of those of 500 and more.
fn error_codes(codes: &[u32]) -> Option<MatchPredicate> {
    let is = |code: &u32| {
        let status = StringMatcher {
            match_pattern: Some(MatchPattern::Exact(code.to_string())),
            ..StringMatcher::default()
        };
        let header = HeaderMatcher {
            name: ":status".to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(status)),
            ..HeaderMatcher::default()
        };
        let headers = vec![header];
        MatchPredicate {
            rule: Some(Rule::HttpResponseHeadersMatch(HttpHeadersMatch { headers })),
        }
    };
    let mut rules: Vec<_> = codes.iter().map(is).collect();
    if rules.len() < 2 {
        return rules.pop();
    }
    Some(MatchPredicate {
        rule: Some(Rule::OrMatch(MatchSet { rules })),
    })
}
