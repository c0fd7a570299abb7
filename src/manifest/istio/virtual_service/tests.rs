use std::time::Duration;

use crate::manifest::{Defaults, Parsed, parse, yaml_to_json};
use crate::model::{
    AbortStatus, ConnectionMatch, Delegate, Destination, ExportTo, GatewayName, HttpMatch,
    HttpRoute, Mirror, Namespace, Object, ObjectKind, Redirect, RedirectCode, RedirectPort,
    Retries, Share, Source, StringMatch, VirtualService,
};

fn parsed(spec: &str) -> Parsed {
    let yaml = format!("metadata: {{name: v, namespace: shop}}\nspec:\n{spec}");
    let json = yaml_to_json(&yaml).expect("YAML").to_string();
    parse(
        ObjectKind::VirtualService,
        json.as_bytes(),
        &Defaults::default(),
    )
    .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn read(spec: &str) -> VirtualService {
    match parsed(spec).object {
        Object::VirtualService(read) => read,
        other => panic!("{other:?}"),
    }
}

fn refused(spec: &str) -> String {
    let yaml = format!("metadata: {{name: v, namespace: shop}}\nspec: {spec}");
    let json = yaml_to_json(&yaml).expect("YAML").to_string();
    let read = parse(
        ObjectKind::VirtualService,
        json.as_bytes(),
        &Defaults::default(),
    );
    read.expect_err("refused").to_string()
}

/// The only route of an object with these fields in it.
fn route(fields: &str) -> HttpRoute {
    let spec = format!("  http:\n  - {{route: [{{destination: {{host: a}}}}], {fields}}}");
    let mut read = read(&spec).http;
    assert_eq!(read.len(), 1);
    read.remove(0)
}

fn gateway(namespace: &str, name: &str) -> GatewayName {
    GatewayName::Gateway {
        namespace: Namespace::from(namespace),
        name: name.into(),
    }
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

#[test]
fn short_names_mean_hosts_and_gateways_of_the_own_namespace() {
    let read = read(
        "
  hosts: [Web, web.other, '*', '*.example.com', 'fd00::1']
  gateways: [mesh, own, ./also-own, other/named, old.ns.svc.cluster.local, older.ns]
  exportTo: [., dev]
  http: [{route: [{destination: {host: web, subset: v1, port: {number: 80}}}]}]
",
    );
    let hosts: Vec<_> = read.hosts.iter().map(|h| &**h).collect();
    let expected = [
        "web.shop.svc.cluster.local",
        "web.other",
        "*",
        "*.example.com",
        "fd00::1",
    ];
    assert_eq!(hosts, expected);
    let expected = [
        GatewayName::Mesh,
        gateway("shop", "own"),
        gateway("shop", "also-own"),
        gateway("other", "named"),
        gateway("ns", "old"),
        gateway("ns", "older"),
    ];
    assert_eq!(read.gateways, expected);
    let names = ["shop", "dev"].map(Namespace::from).into();
    assert_eq!(read.export_to, Some(ExportTo::Namespaces(names)));
    let expected = Destination {
        host: "web.shop.svc.cluster.local".into(),
        subset: "v1".into(),
        port: Some(80),
    };
    assert_eq!(read.http[0].destinations[0].destination, expected);
}

#[test]
fn without_a_gateway_it_is_for_the_mesh() {
    let read = read("  hosts: [a]");
    assert_eq!(read.gateways, [GatewayName::Mesh]);
    assert!(read.is_for(&GatewayName::Mesh));
    assert!(!read.is_for(&gateway("shop", "mesh")));
}

#[test]
fn matches_are_read_in_all_forms() {
    let route = route(
        "match: [{name: m, uri: {prefix: /a}, ignoreUriCase: true, scheme: {exact: https},
            method: {exact: GET}, authority: {regex: '.*'}, port: 80, statPrefix: stats,
            headers: {x-b: {exact: '1'}, x-a: {}, x-c: {regex: '*'}}, withoutHeaders: {x-d: null},
            queryParams: {q: {prefix: y}}, sourceLabels: {app: web}, sourceNamespace: dev,
            gateways: [mesh]}]",
    );
    let expected = HttpMatch {
        name: "m".into(),
        uri: Some(StringMatch::Prefix("/a".into())),
        ignore_uri_case: true,
        scheme: Some(exact("https")),
        method: Some(exact("GET")),
        authority: Some(StringMatch::Regex(".*".into())),
        headers: vec![
            ("x-a".into(), StringMatch::Present),
            ("x-b".into(), exact("1")),
            ("x-c".into(), StringMatch::Present),
        ],
        without_headers: vec![("x-d".into(), StringMatch::Present)],
        query_params: vec![("q".into(), StringMatch::Prefix("y".into()))],
        port: Some(80),
        source: crate::model::SourceMatch {
            labels: [("app", "web")].into_iter().collect(),
            namespace: "dev".into(),
            gateways: vec![GatewayName::Mesh],
        },
        stat_prefix: "stats".into(),
    };
    assert_eq!(route.matches, [expected]);
}

#[test]
fn what_is_done_with_requests_is_read() {
    let route = route(
        "name: r, timeout: 1.5s, rewrite: {uri: /b, authority: c, uriRegexRewrite: {match: x, rewrite: y}},
         retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,503', retryRemoteLocalities: true,
            retryIgnorePreviousHosts: false, backoff: 10ms},
         fault: {delay: {fixedDelay: 5s, percentage: {value: 0.1}}, abort: {grpcStatus: UNAVAILABLE}},
         headers: {request: {set: {b: '2', a: '1'}, add: {c: '3'}, remove: [d]}}",
    );
    assert_eq!(&*route.name, "r");
    assert_eq!(route.timeout, Some(Duration::from_millis(1500)));
    let rewrite = route.rewrite.expect("rewrite");
    assert_eq!(rewrite.uri_regex, Some(("x".into(), "y".into())));
    let expected = Retries {
        attempts: 3,
        per_try_timeout: Some(Duration::from_secs(2)),
        retry_on: "5xx,503".into(),
        remote_localities: true,
        ignore_previous_hosts: Some(false),
        backoff: Some(Duration::from_millis(10)),
    };
    assert_eq!(route.retries, Some(expected));
    let fault = route.fault.expect("fault");
    let delay = Some((Duration::from_secs(5), Share::PerMillion(1000)));
    assert_eq!(fault.delay, delay);
    assert_eq!(fault.abort, Some((AbortStatus::Grpc(14), None)));
    let request = route.headers.request;
    assert_eq!(
        request.set,
        [("a".into(), "1".into()), ("b".into(), "2".into())]
    );
    assert_eq!(request.remove, ["d".into()]);
}

#[test]
fn mirrors_are_one_list_without_those_of_no_share() {
    let route = route(
        "mirror: {host: b}, mirrors: [{destination: {host: c}, percentage: {value: 50}},
          {destination: {host: d}, percentage: {value: 0}}]",
    );
    let to = |host: &str, share| Mirror {
        destination: Destination {
            host: format!("{host}.shop.svc.cluster.local").into(),
            ..Destination::default()
        },
        share,
    };
    let expected = [
        to("b", Share::Percent(100)),
        to("c", Share::PerMillion(500_000)),
    ];
    assert_eq!(route.mirrors, expected);
    let none = self::route("mirror: {host: b}, mirrorPercent: 0");
    assert_eq!(none.mirrors, []);
    let old = self::route("mirror: {host: b}, mirror_percent: 7");
    assert_eq!(old.mirrors, [to("b", Share::Percent(7))]);
}

#[test]
fn redirects_answers_and_delegates_need_no_destination() {
    let read = read(
        "
  http:
  - redirect: {uri: /x, port: 8443, scheme: https, redirectCode: 308}
  - redirect: {derivePort: FROM_REQUEST_PORT}
  - directResponse: {status: 503, body: {bytes: aGk=}}
  - delegate: {name: other}
",
    );
    let expected = Redirect {
        uri: "/x".into(),
        scheme: "https".into(),
        port: RedirectPort::Number(8443),
        code: RedirectCode::Permanent,
        ..Redirect::default()
    };
    assert_eq!(read.http[0].redirect, Some(expected));
    let port = read.http[1].redirect.as_ref().map(|r| r.port);
    assert_eq!(port, Some(RedirectPort::OfRequest));
    let answer = read.http[2].direct_response.as_ref().expect("answer");
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        Some(crate::model::Body::Bytes(b"hi".as_slice().into()))
    );
    let expected = Delegate {
        namespace: Namespace::from("shop"),
        name: "other".into(),
    };
    assert_eq!(read.http[3].delegate, Some(expected));
}

#[test]
fn connections_are_matched_by_name_address_and_port() {
    let read = read(
        "
  tls:
  - match: [{sniHosts: [a.example.com], port: 443, gateways: [gw]}]
    route: [{destination: {host: a.example.com, port: {number: 443}}, weight: 100}]
  tcp:
  - match: [{destinationSubnets: [10.0.0.0/8, 192.0.2.1], port: 27017}]
    route: [{destination: {host: mongo}}]
",
    );
    let tls = &read.tls[0].matches[0];
    assert_eq!(tls.sni_hosts, ["a.example.com".into()]);
    assert_eq!(tls.connection.source.gateways, [gateway("shop", "gw")]);
    assert_eq!(read.tls[0].route[0].weight, 100);
    let subnets = ["10.0.0.0/8", "192.0.2.1/32"].map(|net| net.parse().expect("a range"));
    let expected = ConnectionMatch {
        destination_subnets: subnets.to_vec(),
        port: Some(27017),
        ..ConnectionMatch::default()
    };
    assert_eq!(read.tcp[0].matches, [expected]);
}

#[test]
fn unknown_fields_are_told_once_and_cost_nothing() {
    let parsed = parsed(
        "
  hosts: [a]
  shiny: 1
  http:
  - {route: [{destination: {host: a}}], newer: {x: 1}, match: [{uri: {exact: /}, later: []}]}
  - {route: [{destination: {host: b}}], newer: true}
",
    );
    let told: Vec<_> = parsed.left_out.iter().map(ToString::to_string).collect();
    let expected = "VirtualService shop/v: spec: these fields are not known here and have no \
                    effect: later, newer, shiny";
    assert_eq!(told, [expected]);
    let Object::VirtualService(read) = parsed.object else {
        panic!("{parsed:?}");
    };
    assert_eq!(read.http.len(), 2);
}

#[test]
fn a_part_that_cannot_be_used_is_named() {
    let cases = [
        ("{http: [{}]}", "spec.http[0].route: is missing"),
        (
            "{http: [{route: [{destination: {}}]}]}",
            "spec.http[0].route[0].destination.host: is missing",
        ),
        (
            "{http: [{route: [{destination: {host: a}, weight: -1}]}]}",
            "spec.http[0].route[0].weight: -1 is no weight",
        ),
        (
            "{http: [{route: [{destination: {host: a}}], match: [{port: 70000}]}]}",
            "spec.http[0].match[0].port: 70000 is not a port",
        ),
        (
            "{http: [{route: [{destination: {host: a}}], timeout: soon}]}",
            "spec.http[0].timeout: \"soon\" is not a duration",
        ),
        (
            "{http: [{redirect: {redirectCode: 200}}]}",
            "spec.http[0].redirect.redirectCode: 200 is no redirect",
        ),
        (
            "{http: [{directResponse: {status: 42}}]}",
            "spec.http[0].directResponse.status: is no HTTP status",
        ),
        (
            "{tls: [{match: [{port: 443}], route: []}]}",
            "spec.tls[0].match[0].sniHosts: is missing",
        ),
        (
            "{tcp: [{match: [{destinationSubnets: [x]}], route: []}]}",
            "spec.tcp[0].match[0].destinationSubnets[0]: \"x\" is no address",
        ),
        ("{http: [{match: 5}]}", "spec.http[0].match"),
        ("{hosts: [a, '']}", "spec.hosts[1]: is empty"),
        (
            "{http: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]}",
            "spec.http[0].route: has several destinations and no weight",
        ),
        (
            "{http: [{route: [{destination: {host: a}}], match: [{headers: {x: {regex: '('}}}]}]}",
            "spec.http[0].match[0].headers.x.regex: \"(\" is no RE2 expression",
        ),
        (
            "{http: [{route: [{destination: {host: a}}], match: [{uri: {regex: ''}}]}]}",
            "spec.http[0].match[0].uri.regex: is empty",
        ),
        (
            "{http: [{route: [{destination: {host: a}}], rewrite: {uriRegexRewrite: {match: '*'}}}]}",
            "spec.http[0].rewrite.uriRegexRewrite.regex: \"*\" is no RE2",
        ),
    ];
    for (spec, expected) in cases {
        let told = refused(spec);
        let expected = format!("VirtualService shop/v: {expected}");
        assert!(told.starts_with(&expected), "{told}\n{expected}");
    }
}

#[test]
fn named_gateways_decide_alone_which_proxies_a_match_is_for() {
    let labels = [("app", "web")].into_iter().collect();
    let namespace = Namespace::from("dev");
    let source = |gateways| Source {
        labels: &labels,
        namespace: &namespace,
        gateways,
    };
    let mesh = [GatewayName::Mesh];
    let admits = |fields: &str| {
        let found = route(&format!("match: [{{{fields}}}]"));
        found.matches[0].source.admits(&source(&mesh))
    };
    assert!(admits("sourceLabels: {app: web}, sourceNamespace: dev"));
    assert!(!admits("sourceLabels: {app: other}"));
    assert!(!admits("sourceNamespace: other"));
    assert!(!admits("gateways: [gw], sourceLabels: {app: web}"));
    assert!(admits("gateways: [gw, mesh], sourceLabels: {app: other}"));
}
