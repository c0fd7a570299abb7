//! xDS rules of the state-of-the-world variant, one test each.

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::*;
use crate::ads::Variant;
use crate::testing::ads_stream::{FakeStream, rejection, sotw};
use crate::testing::ads_world::{FakeWorld, Response, config_change, endpoint_change};

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::ClusterLoadAssignment;
const LDS: TypeUrl = TypeUrl::Listener;
const RDS: TypeUrl = TypeUrl::RouteConfiguration;
const A: &str = "outbound|80||a.ns";
const B: &str = "outbound|80||b.ns";
const C: &str = "outbound|80||c.ns";

fn stream(world: &[(TypeUrl, &str)]) -> FakeStream {
    FakeStream::new(Variant::Sotw, FakeWorld::with(world))
}

/// Clusters A and B with endpoints, all held and each answer settled;
/// the last responses.
fn settled() -> (FakeStream, Response, Response) {
    let mut stream = stream(&[(CDS, A), (CDS, B), (EDS, A), (EDS, B)]);
    let clusters = first(&mut stream, CDS, &[]);
    let endpoints = first(&mut stream, EDS, &[A, B]);
    stream.expect_silence();
    (stream, clusters, endpoints)
}

/// Asks for a type the first time and ACKs the answer.
fn first(stream: &mut FakeStream, kind: TypeUrl, names: &[&str]) -> Response {
    stream.ask(kind, names, None);
    let response = stream.expect(kind);
    stream.ask(kind, names, Some(&response));
    response
}

fn nack(kind: TypeUrl, names: &[&str], response: &Response) -> DiscoveryRequest {
    DiscoveryRequest {
        response_nonce: response.nonce.clone(),
        error_detail: rejection(),
        ..sotw(kind, names)
    }
}

#[test]
fn rule_07_versions_tell_content_and_nothing_else() {
    let (mut one, clusters, endpoints) = settled();
    let (_, same_clusters, same_endpoints) = settled();
    assert_eq!(clusters.version, same_clusters.version);
    assert_eq!(endpoints.version, same_endpoints.version);
    one.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    let changed = one.expect(EDS);
    assert_ne!(changed.version, endpoints.version);
    one.ask(EDS, &[A, B], Some(&changed));
    one.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "1"));
    assert_eq!(one.expect(EDS).version, endpoints.version);
}

#[test]
fn rule_11_a_longer_list_brings_the_new_names() {
    let (mut stream, _, last) = settled();
    stream.ask(EDS, &[A, B, C], Some(&last));
    let last = stream.expect(EDS);
    assert_eq!(last.contents(), [format!("{C}=")]);
    stream.ask(EDS, &[A], Some(&last));
    stream.expect_silence();
    // B is new again, and sent though it has not changed.
    stream.ask(EDS, &[A, B], Some(&last));
    assert_eq!(stream.expect(EDS).names(), [B]);
}

#[test]
fn rule_12_names_may_ride_on_a_nack() {
    let (mut stream, ..) = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "bad"));
    let rejected = stream.expect(EDS);
    let request = nack(EDS, &[A, B, C], &rejected);
    let received = stream.send_sotw(request).expect("the stream goes on");
    assert!(matches!(received, Received::Rejected { .. }));
    assert!(stream.expect(EDS).names().contains(&C));
}

#[test]
fn rule_15_an_empty_list_after_names_is_nothing() {
    let mut stream = stream(&[(LDS, "a"), (LDS, "b")]);
    let last = first(&mut stream, LDS, &["a"]);
    assert_eq!(last.names(), ["a"]);
    stream.ask(LDS, &[], Some(&last));
    stream.change(config_change(), |w| w.set(LDS, "a", "2"));
    stream.expect_silence();
}

#[test]
fn rule_16_wildcard_and_names_come_and_go() {
    let mut stream = stream(&[(CDS, A), (CDS, B)]);
    let all = first(&mut stream, CDS, &[]);
    assert_eq!(all.names(), [A, B]);
    stream.ask(CDS, &["*", A], Some(&all));
    let both = stream.expect(CDS);
    assert_eq!(both.names(), [A, B]);
    stream.ask(CDS, &[A], Some(&both));
    stream.change(config_change(), |w| w.set(CDS, B, "2"));
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    let one = stream.expect(CDS);
    assert_eq!(one.contents(), [format!("{A}=2")]);
    stream.ask(CDS, &[], Some(&one));
    stream.change(config_change(), |w| w.set(CDS, A, "3"));
    stream.expect_silence();
}

#[test]
fn rule_18_no_names_of_endpoints_is_no_interest() {
    let mut stream = stream(&[(EDS, A)]);
    stream.ask(EDS, &[], None);
    stream.expect_silence();
}

#[test]
fn rule_20_a_missing_name_is_sent_when_it_appears() {
    let mut stream = stream(&[]);
    stream.ask(LDS, &["a"], None);
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(LDS, "a", "1"));
    assert_eq!(stream.expect(LDS).names(), ["a"]);
}

#[test]
fn rule_22_missing_names_are_left_out_or_empty() {
    let mut stream = stream(&[(CDS, A)]);
    stream.ask(CDS, &[A, B], None);
    assert_eq!(stream.expect(CDS).names(), [A]);
    stream.ask(EDS, &[A, "no-cluster"], None);
    assert_eq!(stream.expect(EDS).contents(), [format!("{A}=")]);
    stream.ask(RDS, &["80"], None);
    assert_eq!(stream.expect(RDS).contents(), ["80="]);
}

#[test]
fn rule_31_an_ack_is_met_with_silence() {
    let (mut stream, clusters, endpoints) = settled();
    stream.ask(CDS, &[], Some(&clusters));
    stream.ask(EDS, &[A, B], Some(&endpoints));
    stream.ask(EDS, &[B, A], Some(&endpoints));
    stream.expect_silence();
}

#[test]
fn rule_33_a_nack_is_met_with_silence() {
    let (mut stream, ..) = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "bad"));
    let rejected = stream.expect(CDS);
    stream
        .send_sotw(nack(CDS, &[], &rejected))
        .expect("goes on");
    stream.expect(EDS);
    stream.expect_silence();
    stream.change(config_change(), |_| {});
    stream.expect_silence();
    stream.change(config_change(), |w| w.set(CDS, A, "good"));
    assert_eq!(stream.expect(CDS).names(), [A, B]);
}

#[test]
fn rule_35_rejected_endpoints_go_along_with_the_next_change() {
    let (mut stream, ..) = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    let rejected = stream.expect(EDS);
    stream
        .send_sotw(nack(EDS, &[A, B], &rejected))
        .expect("goes on");
    stream.expect_silence();
    stream.change(endpoint_change(&["b.ns"]), |w| w.set(EDS, B, "2"));
    assert_eq!(stream.expect(EDS).names(), [A, B]);
}

#[test]
fn rule_36_a_stale_nonce_is_ignored_before_and_after_the_ack() {
    let (mut stream, _, first) = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| w.set(EDS, A, "2"));
    let second = stream.expect(EDS);
    for _ in 0..2 {
        let received = stream.ask(EDS, &[A, B, C], Some(&first));
        assert_eq!(received, Received::Stale(EDS));
        stream.expect_silence();
        stream.ask(EDS, &[A, B], Some(&second));
    }
    // The ACK of the newer response carries the list again.
    stream.ask(EDS, &[A, B, C], Some(&second));
    assert_eq!(stream.expect(EDS).names(), [C]);
}

#[test]
fn rule_38_a_nonce_of_an_earlier_stream_makes_a_first_request() {
    let (_, clusters, endpoints) = settled();
    let mut stream = stream(&[(CDS, A), (EDS, A)]);
    stream.ask(CDS, &[], Some(&clusters));
    assert_eq!(stream.expect(CDS).names(), [A]);
    stream.ask(EDS, &[A], Some(&endpoints));
    assert_eq!(stream.expect(EDS).names(), [A]);
}

#[test]
fn rule_39_no_nonce_after_a_response_starts_anew() {
    let (mut stream, ..) = settled();
    stream.ask(CDS, &[], None);
    assert_eq!(stream.expect(CDS).names(), [A, B]);
    stream.ask(EDS, &[A, B], None);
    assert_eq!(stream.expect(EDS).names(), [A, B]);
}

#[test]
fn rule_40_clusters_and_listeners_are_sent_whole() {
    let (mut stream, ..) = settled();
    stream.change(config_change(), |w| w.set(CDS, C, "1"));
    let last = stream.expect(CDS);
    assert_eq!(last.names(), [A, B, C]);
    stream.ask(CDS, &[], Some(&last));
    stream.change(config_change(), |w| w.remove(CDS, B));
    let last = stream.expect(CDS);
    assert_eq!(last.names(), [A, C]);
}

#[test]
fn rule_40_named_clusters_are_the_whole_state() {
    let mut stream = stream(&[(CDS, A), (CDS, B), (CDS, C)]);
    let last = first(&mut stream, CDS, &[A, B]);
    stream.change(config_change(), |w| w.set(CDS, B, "2"));
    let changed = stream.expect(CDS);
    assert_eq!((last.names(), changed.names()), (vec![A, B], vec![A, B]));
    stream.ask(CDS, &[A, B], Some(&changed));
    stream.change(config_change(), |w| w.remove(CDS, A));
    assert_eq!(stream.expect(CDS).names(), [B]);
}

#[test]
fn rule_41_of_endpoints_only_what_changed_is_sent() {
    let (mut stream, ..) = settled();
    stream.change(endpoint_change(&["a.ns", "b.ns"]), |w| w.set(EDS, B, "2"));
    assert_eq!(stream.expect(EDS).contents(), [format!("{B}=2")]);
}

#[test]
fn rule_43_endpoints_that_go_become_empty() {
    let (mut stream, ..) = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| w.remove(EDS, A));
    assert_eq!(stream.expect(EDS).contents(), [format!("{A}=")]);
}

#[test]
fn rule_44_the_first_wildcard_is_answered_even_if_empty() {
    let mut stream = stream(&[]);
    let last = first(&mut stream, CDS, &[]);
    assert_eq!(last.names(), Vec::<&str>::new());
    stream.change(config_change(), |_| {});
    stream.expect_silence();
}

#[test]
fn rule_49_what_only_goes_waits_for_routes() {
    let (mut stream, ..) = settled();
    stream.world.set(RDS, "80", "to b");
    first(&mut stream, RDS, &["80"]);
    stream.change(config_change(), |w| {
        w.remove(CDS, B);
        w.set(RDS, "80", "to a");
    });
    assert_eq!(stream.expect(RDS).names(), ["80"]);
    assert_eq!(stream.expect(CDS).names(), [A]);
}

#[test]
fn rule_50_a_changed_cluster_gets_its_endpoints_again() {
    let (mut stream, ..) = settled();
    stream.change(config_change(), |w| w.set(CDS, A, "2"));
    assert_eq!(stream.expect(CDS).names(), [A, B]);
    assert_eq!(stream.expect(EDS).names(), [A]);
}

#[test]
fn rule_51_endpoints_answered_before_clusters_are_sent_again() {
    let mut stream = stream(&[(CDS, A), (EDS, A)]);
    stream.ask(EDS, &[A], None);
    let early = stream.expect(EDS);
    first(&mut stream, CDS, &[]);
    // Looks like an ACK, and is answered once.
    stream.ask(EDS, &[A], Some(&early));
    let again = stream.expect(EDS);
    assert_eq!(again.names(), [A]);
    stream.ask(EDS, &[A], Some(&again));
    stream.expect_silence();
}

#[test]
fn rule_54_an_endpoint_change_sends_endpoints_only() {
    let (mut stream, ..) = settled();
    stream.change(endpoint_change(&["a.ns"]), |w| {
        w.set(EDS, A, "2");
        w.set(CDS, A, "2");
    });
    assert_eq!(stream.expect(EDS).names(), [A]);
    stream.expect_silence();
}

#[test]
fn rule_56_a_version_of_an_earlier_stream_is_answered_in_full() {
    let (_, clusters, _) = settled();
    let mut stream = stream(&[(CDS, A), (CDS, B)]);
    let request = DiscoveryRequest {
        version_info: clusters.version.clone(),
        ..sotw(CDS, &[])
    };
    stream.send_sotw(request).expect("accepted");
    let again = stream.expect(CDS);
    assert_eq!(again.names(), [A, B]);
    assert_eq!(again.version, clusters.version);
}

#[test]
fn rule_66_the_latest_request_is_answered() {
    let mut stream = stream(&[(EDS, A), (EDS, B)]);
    for _ in 0..100 {
        stream.ask(EDS, &[A], None);
        stream.ask(EDS, &[B], None);
    }
    assert_eq!(stream.expect(EDS).names(), [B]);
    stream.expect_silence();
}
