use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::auth::Channel;

fn check(peer: &str, header: Option<&str>) -> Result<Caller, Reason> {
    let mut headers = HeaderMap::new();
    if let Some(header) = header {
        headers.insert("x-forwarded-client-cert", header.parse().unwrap());
    }
    let peer = (peer.parse::<IpAddr>().unwrap(), 1).into();
    let credentials = Credentials::new(peer, &Channel::Tls(None), &headers);
    TrustedGateways(vec!["10.1.0.0/16".parse().unwrap()]).check(&credentials)
}

const HEADER: &str = "By=spiffe://td/ns/gw/sa/gw;Hash=ab12;\
    Subject=\"CN=web,O=a\\\\, b;c\";URI=spiffe://td/ns/a/sa/web;DNS=web.a;DNS=web";

#[test]
fn only_trusted_gateways_and_loopback_are_believed() {
    for peer in ["10.1.2.3", "127.0.0.1", "::1", "::ffff:10.1.2.3"] {
        assert!(check(peer, Some(HEADER)).is_ok(), "{peer}");
    }
    for peer in ["10.2.0.1", "8.8.8.8", "2001:db8::1"] {
        let refused = Err(Reason::Untrusted(peer.parse().unwrap()));
        assert_eq!(check(peer, Some(HEADER)), refused);
    }
    assert_eq!(check("10.1.2.3", None), Err(Reason::Absent));
}

#[test]
fn uris_host_names_and_common_names_are_identities() {
    let caller = check("10.1.2.3", Some(HEADER)).unwrap();
    let names = ["spiffe://td/ns/a/sa/web", "web.a", "web", "web"];
    assert_eq!(caller.identities, names);
    let two = "URI=spiffe://td/ns/a/sa/x,Hash=1;URI=\"spiffe://td/ns/b/sa/y\"";
    let caller = check("10.1.2.3", Some(two)).unwrap();
    let names = ["spiffe://td/ns/a/sa/x", "spiffe://td/ns/b/sa/y"];
    assert_eq!(caller.identities, names);
    let nothing = check("10.1.2.3", Some("Hash=ab12"));
    assert_eq!(nothing, Err(Reason::NoIdentity));
}

#[test]
fn common_names_are_found_in_both_forms_of_subjects() {
    let name = |subject| common_name(subject).unwrap();
    assert_eq!(name("CN=a,O=b"), "a");
    assert_eq!(name("O=b, CN=a\\,c"), "a,c");
    assert_eq!(name("/C=US/CN=a b/O=x"), "a b");
    assert_eq!(common_name("O=CN"), None);
}

#[test]
fn a_quoted_value_cannot_bring_an_identity_of_its_own() {
    let header = "Subject=\"CN=x;URI=spiffe://td/ns/a/sa/admin,URI=spiffe://b\";URI=spiffe://c";
    let caller = check("127.0.0.1", Some(header)).unwrap();
    assert_eq!(
        caller.identities,
        ["spiffe://c", "x;URI=spiffe://td/ns/a/sa/admin"]
    );
}

#[test]
fn headers_that_do_not_parse_are_refused_whole() {
    for bad in [
        "",
        "URI",
        "URI=spiffe://a;",
        "URI=\"spiffe://a",
        "URI=a\"b",
        "What=1;URI=spiffe://a",
        "URI=spiffe://a,,",
    ] {
        assert_eq!(
            check("127.0.0.1", Some(bad)),
            Err(Reason::Forwarded),
            "{bad}"
        );
    }
}

proptest! {
    #[test]
    fn a_quoted_value_reads_back_as_it_was(value in "[ -~]{1,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
        let read = names(&format!("Hash=1;URI=\"{quoted}\""));
        prop_assert_eq!(read, Some(vec![value]));
    }

    #[test]
    fn no_header_breaks_the_parser(text in "(By|URI|DNS|Subject|=|;|,|\"|\\\\|CN=|[ -~]){0,30}") {
        names(&text);
    }
}
