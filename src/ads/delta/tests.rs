//! xDS rules of the incremental variant, one test each.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Node;

use super::*;
use crate::ads::{Options, ProtocolError, StatusCode, Variant};
use crate::mesh::{ChangeSet, News, PodKey};
use crate::testing::ads_stream::{FakeStream, delta, owned, rejection};
use crate::testing::ads_world::{FakeWorld, Response, config_change, endpoint_change};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const LDS: TypeUrl = TypeUrl::Listener;
const RDS: TypeUrl = TypeUrl::RouteConfiguration;
const A: &str = "outbound|80||a.ns";
const B: &str = "outbound|80||b.ns";
const B_SUBSET: &str = "outbound|80|v1|b.ns";
const C: &str = "outbound|80||c.ns";

fn stream(world: &[(TypeUrl, &str)]) -> FakeStream {
    FakeStream::new(Variant::Delta, FakeWorld::with(world))
}

/// A, B and their endpoints; the client watches both types and has all.
fn settled() -> FakeStream {
    let mut stream = stream(&[(CDS, A), (CDS, B), (EDS, A), (EDS, B)]);
    stream.subscribe(CDS, &[], &[]);
    stream.expect(CDS);
    stream.subscribe(EDS, &[A, B], &[]);
    stream.expect(EDS);
    stream.expect_silence();
    stream
}

/// What a client of an earlier stream holds.
fn holding(kind: TypeUrl, held: &[(&str, &str)], names: &[&str]) -> DeltaDiscoveryRequest {
    let held = held.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    DeltaDiscoveryRequest {
        initial_resource_versions: held.collect(),
        resource_names_subscribe: owned(names),
        ..delta(kind)
    }
}

fn versions(response: &Response) -> HashMap<&str, &str> {
    let all = response.resources.iter();
    all.map(|r| (r.name.as_str(), r.version.as_str())).collect()
}

#[test]
fn rule_01_types_do_not_touch_each_other() {
    let mut stream = settled();
    stream.subscribe(LDS, &["l"], &[]);
    stream.expect(LDS);
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    let response = stream.poll().expect("a response");
    let other_type = Response {
        type_url: CDS.as_str().to_owned(),
        ..response.clone()
    };
    assert_eq!(stream.ack(&other_type), Received::Stale(CDS));
    assert_eq!(stream.ack(&response), Received::Accepted);
}

#[test]
fn rule_02_only_the_first_request_carries_the_node() {
    let mut stream = stream(&[(CDS, A), (LDS, "l")]);
    stream.subscribe(CDS, &[], &[]);
    let later = DeltaDiscoveryRequest {
        node: None,
        ..delta(LDS)
    };
    stream.send(later).expect("accepted");
    stream.expect(CDS);
    stream.expect(LDS);
}

#[test]
fn rule_03_a_health_report_may_come_before_the_first_request() {
    let mut stream = stream(&[(CDS, A)]);
    let report = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/istio.v1.HealthInformation".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(stream.send(report.clone()), Ok(Received::Ignored));
    stream.subscribe(CDS, &[], &[]);
    stream.expect(CDS);
    assert_eq!(stream.send(report), Ok(Received::Ignored));
    stream.expect_silence();
}

#[test]
fn rule_03_a_stream_without_a_node_ends() {
    for node in [None, Some(Node::default())] {
        let mut stream = stream(&[]);
        let error = stream.send(DeltaDiscoveryRequest { node, ..delta(CDS) });
        let error = error.expect_err("an end");
        assert_eq!(error.code(), StatusCode::InvalidArgument, "{error}");
    }
}

#[test]
fn rule_04_a_request_without_a_type_ends_the_stream() {
    let mut stream = settled();
    let error = stream.send(DeltaDiscoveryRequest::default());
    assert_eq!(error, Err(ProtocolError::MissingTypeUrl));
}

#[test]
fn rule_05_an_unknown_type_is_met_with_silence() {
    let mut stream = settled();
    let unknown = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/envoy.service.runtime.v3.Runtime".to_owned(),
        resource_names_subscribe: owned(&["r"]),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(stream.send(unknown), Ok(Received::Ignored));
    stream.expect_silence();
    stream.subscribe(LDS, &[], &[]);
    stream.expect(LDS);
}

#[test]
fn rule_06_nonces_are_unique_and_of_one_length() {
    let mut stream = settled();
    let mut seen = std::collections::BTreeSet::new();
    for content in ["2", "3", "4"] {
        stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, content));
        let response = stream.expect(EDS);
        assert_eq!(response.nonce.len(), 16);
        assert!(seen.insert(response.nonce));
    }
}

#[test]
fn rule_08_versions_are_a_hash_of_the_content() {
    let mut stream = settled();
    let mut seen = Vec::new();
    for content in ["2", "3", "2"] {
        stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, content));
        seen.push(stream.expect(EDS).resources.remove(0).version);
    }
    assert_eq!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[1]);
}

#[test]
fn rule_09_a_name_stands_once_in_a_response() {
    let mut stream = stream(&[(CDS, A), (CDS, B)]);
    stream.subscribe(CDS, &["*", A, A, C], &[]);
    let response = stream.expect(CDS);
    assert_eq!(response.names(), [A, B]);
    assert_eq!(response.removed, [C]);
    stream.expect_silence();
}

#[test]
fn rule_12_a_subscription_may_ride_on_a_nack() {
    let mut stream = settled();
    stream.world.set(EDS, C, "1");
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "bad"));
    let rejected = stream.poll().expect("a response");
    let nack = DeltaDiscoveryRequest {
        response_nonce: rejected.nonce,
        error_detail: rejection(),
        resource_names_subscribe: owned(&[C]),
        ..delta(EDS)
    };
    let received = stream.send(nack).expect("the stream goes on");
    assert!(matches!(received, Received::Rejected { .. }));
    assert!(stream.expect(EDS).names().contains(&C));
}

#[test]
fn rule_12_a_request_is_answered_while_an_ack_is_missing() {
    let mut stream = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    let push = stream.poll().expect("a response");
    stream.change(endpoint_change(&["b.ns"]), |w| w.set(EDS, B, "2"));
    assert_eq!(stream.poll(), None, "a push waits");
    stream.subscribe(EDS, &[C], &[]);
    assert_eq!(stream.expect(EDS).names(), [C]);
    stream.ack(&push);
    assert_eq!(stream.expect(EDS).contents(), [format!("{B}=2")]);
}

#[test]
fn rule_13_no_names_so_far_means_all() {
    let mut stream = stream(&[(CDS, A), (LDS, "l")]);
    stream.subscribe(CDS, &[], &[]);
    assert_eq!(stream.expect(CDS).names(), [A]);
    stream.change(config_change(), |w| w.set(CDS, B, "1"));
    assert_eq!(stream.expect(CDS).names(), [B]);
}

#[test]
fn rule_14_an_explicit_wildcard_may_stand_beside_names() {
    let mut stream = stream(&[(LDS, "a"), (LDS, "b")]);
    stream.subscribe(LDS, &["*", "b"], &[]);
    assert_eq!(stream.expect(LDS).names(), ["a", "b"]);
}

#[test]
fn rule_17_wildcard_and_names_come_and_go_independently() {
    let mut stream = stream(&[(CDS, A), (CDS, B)]);
    stream.subscribe(CDS, &[], &[]);
    assert_eq!(stream.expect(CDS).names(), [A, B]);
    stream.subscribe(CDS, &[A], &[]);
    assert_eq!(stream.expect(CDS).names(), [A]);
    stream.change(config_change(), |w| w.set(CDS, B, "2"));
    assert_eq!(stream.expect(CDS).names(), [B]);
    // The wildcard goes, A stays.
    stream.subscribe(CDS, &[], &["*"]);
    stream.change(config_change(), |w| {
        w.set(CDS, A, "2");
        w.set(CDS, B, "3");
    });
    assert_eq!(stream.expect(CDS).names(), [A]);
    // Nothing is left.
    stream.subscribe(CDS, &[], &[A]);
    stream.change(config_change(), |w| w.set(CDS, A, "3"));
    stream.expect_silence();
    // The wildcard brings all of it again.
    stream.subscribe(CDS, &["*"], &[]);
    assert_eq!(stream.expect(CDS).names(), [A, B]);
    stream.expect_silence();
}

#[test]
fn rule_17_a_repeated_wildcard_brings_all_again() {
    let mut stream = settled();
    stream.subscribe(CDS, &["*"], &[]);
    assert_eq!(stream.expect(CDS).names(), [A, B]);
}

#[test]
fn rule_18_no_names_of_endpoints_or_routes_is_no_interest() {
    let mut stream = stream(&[(EDS, A), (RDS, "80")]);
    stream.subscribe(EDS, &[], &[]);
    stream.subscribe(RDS, &[], &[]);
    stream.subscribe(EDS, &["*"], &[]);
    stream.expect_silence();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    stream.expect_silence();
}

#[test]
fn rule_19_named_clusters_are_sent_alone() {
    let mut stream = stream(&[(CDS, A), (CDS, B)]);
    stream.subscribe(CDS, &[A], &[]);
    assert_eq!(stream.expect(CDS).names(), [A]);
    stream.change(config_change(), |w| w.set(CDS, B, "2"));
    stream.expect_silence();
}

#[test]
fn rule_20_a_missing_name_is_sent_when_it_appears() {
    let mut stream = stream(&[]);
    stream.subscribe(CDS, &[A], &[]);
    assert_eq!(stream.expect(CDS).removed, [A]);
    stream.change(config_change(), |_| {});
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(CDS, A, "1"));
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_21_what_does_not_exist_is_said_at_once() {
    let mut stream = stream(&[]);
    for kind in [CDS, LDS] {
        stream.subscribe(kind, &["none"], &[]);
        let response = stream.expect(kind);
        assert_eq!(
            (response.names().len(), response.removed),
            (0, owned(&["none"]))
        );
    }
    stream.subscribe(EDS, &[A, "no-cluster"], &[]);
    let response = stream.expect(EDS);
    assert_eq!(response.contents(), [format!("{A}=")]);
    assert_eq!(response.removed, ["no-cluster"]);
    stream.subscribe(RDS, &["80"], &[]);
    assert_eq!(stream.expect(RDS).contents(), ["80="]);
}

#[test]
fn rule_23_a_name_asked_for_again_is_sent_again() {
    let mut stream = settled();
    stream.subscribe(EDS, &[A], &[]);
    assert_eq!(stream.expect(EDS).names(), [A]);
    stream.subscribe(CDS, &[A], &[]);
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_24_an_unsubscribe_needs_no_answer() {
    let mut stream = settled();
    stream.subscribe(EDS, &[], &[A, "unknown"]);
    stream.expect_silence();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    stream.expect_silence();
}

#[test]
fn rule_25_an_unsubscribe_under_a_wildcard_is_answered() {
    let mut stream = settled();
    stream.subscribe(CDS, &[A, C], &[]);
    stream.expect(CDS);
    stream.subscribe(CDS, &[], &[A, C]);
    let response = stream.expect(CDS);
    assert_eq!(
        (response.names(), response.removed.clone()),
        (vec![A], owned(&[C]))
    );
    // Also where it was only part of the wildcard.
    stream.subscribe(CDS, &[], &[B]);
    assert_eq!(stream.expect(CDS).names(), [B]);
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_26_subscribed_again_is_sent_again() {
    let mut stream = settled();
    stream.subscribe(EDS, &[], &[A]);
    stream.subscribe(EDS, &[A], &[]);
    assert_eq!(stream.expect(EDS).names(), [A]);
}

#[test]
fn rule_27_a_name_in_both_lists_is_unsubscribed() {
    let mut stream = stream(&[(CDS, A), (EDS, A)]);
    stream.subscribe(CDS, &["*"], &["*"]);
    stream.subscribe(EDS, &[A], &[A]);
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    stream.expect_silence();
    // On-demand clients begin so and name what they need later.
    stream.subscribe(CDS, &[A], &[]);
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_28_duplicate_names_are_one() {
    let mut stream = stream(&[(EDS, A)]);
    stream.subscribe(EDS, &[A, A, A], &[]);
    assert_eq!(stream.expect(EDS).names(), [A]);
    stream.subscribe(EDS, &[], &[A]);
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    stream.expect_silence();
}

#[test]
fn rule_30_a_request_without_change_does_nothing() {
    let mut stream = settled();
    stream.subscribe(CDS, &[], &[]);
    stream.subscribe(EDS, &[], &[]);
    stream.expect_silence();
}

#[test]
fn rule_31_an_ack_is_met_with_silence() {
    let mut stream = stream(&[(CDS, A)]);
    stream.subscribe(CDS, &[], &[]);
    let response = stream.expect(CDS);
    stream.expect_silence();
    stream.ack(&response);
    stream.expect_silence();
}

#[test]
fn rule_33_a_nack_is_met_with_silence() {
    let mut stream = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "bad"));
    let response = stream.poll().expect("a response");
    let received = stream.nack(&response);
    let message = "no\\nthanks".to_owned();
    let (kind, code) = (CDS, 13);
    let expected = Received::Rejected {
        kind,
        code,
        message,
    };
    assert_eq!(received, expected);
    assert_eq!(
        stream.session.status(CDS).error.as_deref(),
        Some("13: no\\nthanks")
    );
    // Its endpoints are sent all the same: it may have taken the cluster.
    assert_eq!(stream.expect(EDS).names(), [A]);
    stream.expect_silence();
    // A recomputation without a difference is no new state.
    stream.change(config_change(), |_| {});
    stream.expect_silence();
}

#[test]
fn rule_34_the_stream_goes_on_after_a_nack() {
    let mut stream = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "bad"));
    let response = stream.poll().expect("a response");
    stream.nack(&response);
    stream.change(config_change(), |w| w.set(CDS, A, "good"));
    assert_eq!(stream.expect(CDS).contents(), [format!("{A}=good")]);
    assert_eq!(stream.session.status(CDS).error, None);
}

#[test]
fn rule_35_what_was_rejected_goes_along_with_the_next_change() {
    let mut stream = settled();
    stream.change(config_change(), |w| {
        w.set(CDS, A, "good");
        w.set(CDS, C, "bad");
        w.remove(CDS, B);
    });
    let response = stream.poll().expect("a response");
    assert_eq!(response.names(), [A, C]);
    stream.nack(&response);
    stream.expect(EDS);
    let removal = stream.poll().expect("a response");
    assert_eq!(removal.removed, [B]);
    stream.nack(&removal);
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(CDS, C, "mended"));
    let response = stream.expect(CDS);
    assert_eq!(
        response.contents(),
        [format!("{A}=good"), format!("{C}=mended")]
    );
    assert_eq!(response.removed, [B]);
    stream.expect(EDS);
    stream.change(config_change(), |w| w.set(CDS, C, "3"));
    assert_eq!(stream.expect(CDS).names(), [C]);
}

#[test]
fn rule_35_a_mere_removal_is_a_change_too() {
    let mut stream = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "good"));
    let response = stream.poll().expect("a response");
    stream.nack(&response);
    stream.expect(EDS);
    stream.expect_silence();
    stream.change(config_change(), |w| w.remove(CDS, B));
    assert_eq!(stream.expect(CDS).names(), [A]);
    assert_eq!(stream.expect(EDS).names(), [A]);
    assert_eq!(stream.expect(CDS).removed, [B]);
    stream.expect_silence();
}

#[test]
fn rule_37_a_stale_nonce_still_changes_the_subscription() {
    let mut stream = settled();
    let crossing = DeltaDiscoveryRequest {
        response_nonce: "00000000000000ff".to_owned(),
        resource_names_subscribe: owned(&[C]),
        ..delta(EDS)
    };
    assert_eq!(stream.send(crossing), Ok(Received::Stale(EDS)));
    assert_eq!(stream.expect(EDS).names(), [C]);
}

#[test]
fn rule_38_the_nonce_of_an_earlier_stream_is_no_hindrance() {
    let mut stream = stream(&[(CDS, A)]);
    let first = DeltaDiscoveryRequest {
        response_nonce: "0000000000000001".to_owned(),
        ..delta(CDS)
    };
    assert_eq!(stream.send(first), Ok(Received::Accepted));
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_42_only_changes_are_sent() {
    let mut stream = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    let response = stream.expect(CDS);
    assert_eq!(
        (response.names(), response.removed.clone()),
        (vec![A], vec![])
    );
}

#[test]
fn rule_43_a_service_that_goes_takes_its_cluster_and_empties_its_endpoints() {
    let mut stream = settled();
    let both = ChangeSet {
        config: true,
        ..endpoint_change(&["b.ns"])
    };
    stream.change(both, |w| {
        w.remove(CDS, B);
        w.remove(EDS, B);
    });
    let endpoints = stream.expect(EDS);
    assert_eq!(endpoints.contents(), [format!("{B}=")]);
    assert_eq!(endpoints.removed, Vec::<String>::new());
    assert_eq!(stream.expect(CDS).removed, [B]);
    stream.expect_silence();
}

#[test]
fn rule_44_the_first_wildcard_is_answered_even_if_empty() {
    let mut stream = stream(&[]);
    for kind in [CDS, LDS] {
        stream.subscribe(kind, &[], &[]);
        assert_eq!(stream.expect(kind).names(), Vec::<&str>::new());
    }
    stream.expect_silence();
    stream.change(config_change(), |_| {});
    stream.expect_silence();
}

#[test]
fn rule_46_an_unchanged_recomputation_is_no_push() {
    let mut stream = settled();
    stream.change(config_change(), |_| {});
    stream.change(endpoint_change(&["a.ns", "b.ns"]), |_| {});
    let all = ChangeSet {
        all_endpoints: true,
        ..ChangeSet::default()
    };
    stream.change(all, |_| {});
    assert!(stream.session.is_due());
    stream.expect_silence();
}

#[test]
fn rule_47_what_was_unsubscribed_meanwhile_is_not_sent() {
    let mut stream = settled();
    stream.change(endpoint_change(&["a.ns", "b.ns"]), |w| {
        w.set(EDS, A, "2");
        w.set(EDS, B, "2");
    });
    stream.subscribe(EDS, &[], &[A]);
    assert_eq!(stream.expect(EDS).names(), [B]);
    stream.subscribe(EDS, &[A], &[]);
    stream.subscribe(EDS, &[], &[A]);
    stream.expect_silence();
}

#[test]
fn rule_48_names_are_answered_one_by_one() {
    let mut stream = stream(&[(EDS, A), (EDS, B)]);
    for name in [A, B] {
        stream.subscribe(EDS, &[name], &[]);
        assert_eq!(stream.expect(EDS).names(), [name]);
    }
}

#[test]
fn rule_49_make_comes_before_break() {
    let mut stream = settled();
    stream.world.set(LDS, "l", "1");
    stream.world.set(RDS, "80", "to b");
    stream.subscribe(LDS, &[], &[]);
    stream.expect(LDS);
    stream.subscribe(RDS, &["80"], &[]);
    stream.expect(RDS);
    let all = ChangeSet {
        config: true,
        ..endpoint_change(&["a.ns", "b.ns"])
    };
    stream.change(all, |w| {
        w.set(CDS, C, "1");
        w.remove(CDS, B);
        w.remove(EDS, B);
        w.set(EDS, A, "2");
        w.set(LDS, "l", "2");
        w.set(RDS, "80", "to c");
    });
    let added = stream.expect(CDS);
    assert_eq!((added.names(), added.removed.clone()), (vec![C], vec![]));
    assert_eq!(stream.expect(EDS).contents(), [format!("{A}=2")]);
    assert_eq!(stream.expect(LDS).names(), ["l"]);
    assert_eq!(stream.expect(RDS).names(), ["80"]);
    assert_eq!(stream.expect(EDS).contents(), [format!("{B}=")]);
    assert_eq!(stream.expect(CDS).removed, [B]);
    stream.expect_silence();
}

#[test]
fn rule_49_a_push_does_not_overtake_one_that_waits_for_an_ack() {
    let mut stream = settled();
    stream.subscribe(RDS, &["80"], &[]);
    stream.expect(RDS);
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    let clusters = stream.poll().expect("a response");
    assert_eq!(clusters.names(), [A]);
    stream.expect(EDS);
    stream.change(config_change(), |w| {
        w.set(CDS, C, "1");
        w.set(RDS, "80", "to c");
    });
    assert_eq!(stream.poll(), None, "routes to c wait for cluster c");
    stream.ack(&clusters);
    assert_eq!(stream.expect(CDS).names(), [C]);
    assert_eq!(stream.expect(RDS).names(), ["80"]);
}

#[test]
fn rule_49_a_cluster_that_comes_back_is_not_removed() {
    let mut stream = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    let pending = stream.poll().expect("a response");
    stream.expect(EDS);
    stream.change(config_change(), |w| w.remove(CDS, B));
    assert_eq!(stream.poll(), None);
    stream.change(config_change(), |w| w.set(CDS, B, "1"));
    stream.ack(&pending);
    stream.expect_silence();
}

#[test]
fn rule_50_a_changed_cluster_gets_its_endpoints_again() {
    let mut stream = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    assert_eq!(stream.expect(CDS).names(), [A]);
    assert_eq!(stream.expect(EDS).contents(), [format!("{A}=1")]);
    stream.expect_silence();
}

#[test]
fn rule_51_endpoints_answered_before_clusters_are_sent_again_behind_them() {
    let mut stream = stream(&[(CDS, A), (EDS, A)]);
    stream.subscribe(EDS, &[A, C], &[]);
    stream.expect(EDS);
    stream.subscribe(CDS, &[], &[]);
    stream.expect(CDS);
    assert_eq!(stream.expect(EDS).names(), [A, C]);
    stream.expect_silence();
}

#[test]
fn rule_52_endpoints_follow_a_cluster_without_a_request_for_them() {
    let mut stream = settled();
    stream.subscribe(EDS, &[C], &[]);
    assert_eq!(stream.expect(EDS).contents(), [format!("{C}=")]);
    stream.change(config_change(), |w| w.set(CDS, C, "1"));
    assert_eq!(stream.expect(CDS).names(), [C]);
    assert_eq!(stream.expect(EDS).names(), [C]);
}

#[test]
fn rule_53_a_route_is_always_answered_by_name() {
    let mut stream = stream(&[(LDS, "l"), (RDS, "80")]);
    stream.subscribe(LDS, &[], &[]);
    stream.expect(LDS);
    stream.subscribe(RDS, &["80", "gone"], &[]);
    assert_eq!(stream.expect(RDS).contents(), ["80=1", "gone="]);
}

#[test]
fn rule_54_an_endpoint_change_sends_the_endpoints_of_its_host_only() {
    let mut stream = settled();
    stream.world.set(EDS, B_SUBSET, "1");
    stream.subscribe(EDS, &[B_SUBSET], &[]);
    stream.expect(EDS);
    stream.change(endpoint_change(&["b.ns"]), |w| {
        w.set(EDS, A, "not looked at");
        w.set(EDS, B, "2");
        w.set(EDS, B_SUBSET, "2");
    });
    assert_eq!(stream.expect(EDS).names(), [B_SUBSET, B]);
    stream.expect_silence();
}

#[test]
fn rule_57_a_reconnect_gets_what_differs() {
    let mut before = stream(&[(CDS, A), (CDS, B), (CDS, C)]);
    before.subscribe(CDS, &[], &[]);
    let held = before.expect(CDS);
    let held = versions(&held);
    let mut stream = stream(&[(CDS, A), (CDS, B), (CDS, "new")]);
    stream.world.set(CDS, B, "2");
    let held = [(A, held[A]), (B, held[B]), (C, held[C])];
    stream.send(holding(CDS, &held, &[])).expect("accepted");
    assert_eq!(stream.expect(CDS).names(), ["new", B]);
    assert_eq!(stream.expect(CDS).removed, [C]);
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_57_an_empty_or_foreign_version_is_unknown() {
    let mut stream = stream(&[(CDS, A), (CDS, B)]);
    let held = [(A, ""), (B, "2026-08-22T19:00:53Z/7"), (C, "")];
    stream.send(holding(CDS, &held, &["*"])).expect("accepted");
    assert_eq!(stream.expect(CDS).names(), [A, B]);
    assert_eq!(stream.expect(CDS).removed, [C]);
}

#[test]
fn rule_57_to_hold_a_name_is_not_to_subscribe_to_it() {
    let mut stream = stream(&[(EDS, A), (EDS, B)]);
    let held = [(A, ""), (B, "")];
    stream.send(holding(EDS, &held, &[A])).expect("accepted");
    let response = stream.expect(EDS);
    assert_eq!((response.names(), response.removed.len()), (vec![A], 0));
    stream.change(endpoint_change(&["b.ns"]), |w| w.set(EDS, B, "2"));
    stream.expect_silence();
}

/// Clusters and endpoints as a client of an earlier stream holds them.
fn held_before() -> (Response, Response) {
    let mut before = settled();
    before.subscribe(CDS, &["*"], &[]);
    before.subscribe(EDS, &[A, B], &[]);
    let clusters = before.expect(CDS);
    (clusters, before.expect(EDS))
}

#[test]
fn rule_57_endpoints_of_a_cluster_that_is_left_out_are_left_out() {
    let (clusters, endpoints) = held_before();
    let (clusters, endpoints) = (versions(&clusters), versions(&endpoints));
    let mut stream = stream(&[(CDS, A), (CDS, B), (EDS, A), (EDS, B)]);
    let held = [(A, clusters[A]), (B, clusters[B])];
    stream.send(holding(CDS, &held, &[])).expect("accepted");
    assert_eq!(stream.expect(CDS).names(), Vec::<&str>::new());
    let held = [(A, endpoints[A]), (B, endpoints[B])];
    stream.send(holding(EDS, &held, &[A, B])).expect("accepted");
    stream.expect_silence();
    // Asked for again, it is sent (23).
    stream.subscribe(EDS, &[A], &[]);
    assert_eq!(stream.expect(EDS).names(), [A]);
}

#[test]
fn rule_57_endpoints_of_a_cluster_that_is_sent_are_sent() {
    let (clusters, endpoints) = held_before();
    let (clusters, endpoints) = (versions(&clusters), versions(&endpoints));
    let held_clusters = [(A, clusters[A]), (B, clusters[B])];
    let held_endpoints = [(A, endpoints[A]), (B, endpoints[B])];
    for endpoints_first in [false, true] {
        let mut stream = stream(&[(CDS, A), (CDS, B), (EDS, A), (EDS, B)]);
        stream.world.set(CDS, B, "2");
        let cds = holding(CDS, &held_clusters, &[]);
        let eds = holding(EDS, &held_endpoints, &[A, B]);
        if endpoints_first {
            stream.send(eds).expect("accepted");
            stream.expect_silence();
            stream.send(cds).expect("accepted");
            assert_eq!(stream.expect(CDS).names(), [B]);
        } else {
            stream.send(cds).expect("accepted");
            assert_eq!(stream.expect(CDS).names(), [B]);
            stream.send(eds).expect("accepted");
        }
        assert_eq!(stream.expect(EDS).names(), [B]);
        stream.expect_silence();
    }
}

#[test]
fn rule_58_a_route_that_went_away_meanwhile_is_answered() {
    let mut stream = stream(&[]);
    let held = [("80", "0123456789abcdef")];
    stream.send(holding(RDS, &held, &["80"])).expect("accepted");
    assert_eq!(stream.expect(RDS).contents(), ["80="]);
}

#[test]
fn rule_65_names_are_bounded() {
    let options = Options {
        names_limit: 1000,
        ..Options::default()
    };
    let world = FakeWorld::default();
    let mut stream = FakeStream::with_options(Variant::Delta, world, options);
    for n in 0..100 {
        // Those that are given back do not count.
        stream.subscribe(EDS, &[&format!("outbound|{n}||x")], &[]);
        stream.expect(EDS);
        stream.subscribe(EDS, &[], &[&format!("outbound|{n}||x")]);
    }
    let names: Vec<String> = (0..20).map(|n| format!("name-{n}")).collect();
    let error = stream.send(DeltaDiscoveryRequest {
        resource_names_subscribe: names,
        ..delta(EDS)
    });
    let error = error.expect_err("an end");
    assert_eq!(error.code(), StatusCode::ResourceExhausted, "{error}");
}

#[test]
fn rule_66_changes_coalesce_while_an_ack_is_missing() {
    let mut stream = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    let pending = stream.poll().expect("a response");
    for content in ["3", "4", "5"] {
        stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, content));
        assert_eq!(stream.poll(), None);
    }
    stream.ack(&pending);
    assert_eq!(stream.expect(EDS).contents(), [format!("{A}=5")]);
    stream.expect_silence();
}

#[test]
fn a_client_that_never_acks_is_answered_a_bounded_number_of_times() {
    let mut stream = stream(&[]);
    let mut answers = 0;
    for n in 0..100 {
        stream.subscribe(EDS, &[&format!("outbound|{n}||x")], &[]);
        answers += usize::from(stream.poll().is_some());
    }
    assert_eq!(answers, 8);
}

#[test]
fn a_change_of_the_own_pod_makes_everything_due() {
    let mut stream = settled();
    let mut own = ChangeSet::default();
    own.workloads.insert(PodKey {
        cluster: "".into(),
        namespace: "default".into(),
        name: "web-1".into(),
    });
    stream.change(own, |w| {
        w.set(CDS, A, "2");
        w.set(EDS, B, "2");
    });
    assert_eq!(stream.expect(CDS).names(), [A]);
    assert_eq!(stream.expect(EDS).names(), [A, B]);
    let mut other = ChangeSet::default();
    other.workloads.insert(PodKey {
        cluster: "".into(),
        namespace: "default".into(),
        name: "web-2".into(),
    });
    stream.change(other, |_| {});
    assert!(!stream.session.is_due());
}

#[test]
fn a_stream_that_lost_track_looks_at_everything() {
    let mut stream = settled();
    stream.world.set(CDS, A, "2");
    stream.world.set(EDS, B, "2");
    stream.session.on_news(&News::everything());
    assert_eq!(stream.expect(CDS).names(), [A]);
    assert_eq!(stream.expect(EDS).names(), [A, B]);
    stream.session.on_news(&News::default());
    assert!(!stream.session.is_due());
}

#[test]
fn a_name_table_has_no_name_and_follows_names_only() {
    let nds = TypeUrl::NameTable;
    let mut stream = settled();
    stream.world.set(nds, "", "1");
    stream.subscribe(nds, &[], &[]);
    assert_eq!(stream.expect(nds).contents(), ["=1"]);
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(nds, "", "2"));
    stream.expect_silence();
    let names = ChangeSet {
        names: true,
        ..ChangeSet::default()
    };
    stream.change(names, |_| {});
    assert_eq!(stream.expect(nds).contents(), ["=2"]);
    stream.change(config_change(), |w| {
        w.set(CDS, C, "1");
        w.set(nds, "", "3");
    });
    assert_eq!(stream.expect(CDS).names(), [C]);
    assert_eq!(stream.expect(nds).contents(), ["=3"]);
    stream.expect_silence();
}
