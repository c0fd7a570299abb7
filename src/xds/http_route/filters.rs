//! What single routes tell filters.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::{
    config::core::v3::RuntimeFractionalPercent,
    extensions::filters::{
        common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
        http::{
            cors::v3::CorsPolicy as EnvoyCors,
            fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
        },
    },
    r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
};
use envoy_types::pb::google::protobuf::Any;

use super::matching;
use crate::model::{AbortStatus, CorsPolicy, Fault, HttpRoute, Share};
use crate::xds::pb;

/// Settings by the filter's name.
pub(super) type Filters = BTreeMap<&'static str, Any>;

pub(super) fn of(route: &HttpRoute) -> Filters {
    let mut filters = Filters::new();
    if let Some(cors) = &route.cors {
        filters.insert("envoy.filters.http.cors", pb::any(&shared(cors)));
    }
    let fault = route.fault.as_ref();
    if let Some(fault) = fault.filter(|f| f.delay.is_some() || f.abort.is_some()) {
        filters.insert("envoy.filters.http.fault", pb::any(&failing(fault)));
    }
    filters
}

/// A share, as Envoy writes it.
pub(super) fn fraction(share: Share) -> FractionalPercent {
    let (numerator, denominator) = match share {
        Share::Percent(part) => (part, DenominatorType::Hundred),
        Share::PerMillion(part) => (part, DenominatorType::Million),
    };
    FractionalPercent {
        numerator,
        denominator: denominator.into(),
    }
}

fn failing(fault: &Fault) -> HttpFault {
    let delay = fault.delay.map(|(fixed, share)| FaultDelay {
        percentage: Some(fraction(share)),
        fault_delay_secifier: pb::duration(fixed).map(FaultDelaySecifier::FixedDelay),
    });
    let abort = fault.abort.map(|(status, share)| FaultAbort {
        percentage: share.map(fraction),
        error_type: Some(match status {
            AbortStatus::Http(status) => ErrorType::HttpStatus(status),
            AbortStatus::Grpc(status) => ErrorType::GrpcStatus(status),
        }),
        ..FaultAbort::default()
    });
    HttpFault {
        delay,
        abort,
        ..HttpFault::default()
    }
}

fn shared(cors: &CorsPolicy) -> EnvoyCors {
    let all = FractionalPercent {
        numerator: 100,
        denominator: DenominatorType::Hundred.into(),
    };
    let joined = |list: &[std::sync::Arc<str>]| list.join(",");
    EnvoyCors {
        allow_origin_string_match: cors.origins.iter().filter_map(matching::text).collect(),
        allow_methods: joined(&cors.methods),
        allow_headers: joined(&cors.headers),
        expose_headers: joined(&cors.expose),
        max_age: cors
            .max_age
            .map(|age| age.as_secs().to_string())
            .unwrap_or_default(),
        allow_credentials: cors.credentials.and_then(pb::boolean),
        forward_not_matching_preflights: pb::boolean(!cors.ends_unmatched_preflights),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(all),
            ..RuntimeFractionalPercent::default()
        }),
        ..EnvoyCors::default()
    }
}
