use super::*;
use crate::model::{HttpRoute, StringMatch};
use crate::testing::virtual_services::virtual_service;

fn index(manifests: &[&str], default: &ExportTo) -> VirtualServices {
    let all = manifests.iter().map(|yaml| Arc::new(virtual_service(yaml)));
    VirtualServices::new(all, default)
}

fn made(name: &str, namespace: &str, year: u16, spec: &str) -> String {
    format!(
        "metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{year}-01-01T00:00:00Z'}}
spec: {{hosts: [h], {spec}}}"
    )
}

/// Names of those that proxies of `namespace` use in the mesh.
fn seen(index: &VirtualServices, namespace: &str) -> Vec<String> {
    let namespace = Namespace::from(namespace);
    let visible = index.visible(&namespace, &GatewayName::Mesh);
    visible.map(|v| String::from(&*v.meta.name)).collect()
}

#[test]
fn the_own_come_before_the_exported_before_those_for_all_each_oldest_first() {
    let all = [
        made("public-new", "b", 2025, ""),
        made("public-old", "c", 2020, "exportTo: ['*']"),
        made("own", "a", 2026, "exportTo: [.]"),
        made("given", "b", 2019, "exportTo: [a, c]"),
        made("hidden", "a", 2018, "exportTo: ['~']"),
        made("foreign", "b", 2018, "exportTo: [.]"),
    ];
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let index = index(&all, &ExportTo::Everyone);
    assert_eq!(
        seen(&index, "a"),
        ["own", "given", "public-old", "public-new"]
    );
    assert_eq!(seen(&index, "b"), ["foreign", "public-old", "public-new"]);
}

#[test]
fn an_unset_export_is_what_the_mesh_says() {
    let private = ExportTo::parse(["."], &Namespace::from(".")).unwrap_or_default();
    let index = index(&[&made("v", "a", 2020, "")], &private);
    assert_eq!(seen(&index, "a"), ["v"]);
    assert!(seen(&index, "b").is_empty());
}

#[test]
fn each_gateway_has_its_own() {
    let index = index(
        &[
            &made("gateway", "a", 2020, "gateways: [g]"),
            &made("both", "a", 2021, "gateways: [g, g, mesh]"),
        ],
        &ExportTo::Everyone,
    );
    assert_eq!(seen(&index, "a"), ["both"]);
    let gateway = GatewayName::Gateway {
        namespace: Namespace::from("a"),
        name: Arc::from("g"),
    };
    let elsewhere = Namespace::from("b");
    let names: Vec<_> = index
        .visible(&elsewhere, &gateway)
        .map(|v| &*v.meta.name)
        .collect();
    assert_eq!(names, ["gateway", "both"]);
}

const DELEGATE: &str = "
metadata: {name: inner, namespace: b}
spec:
  http:
  - {name: deep, match: [{uri: {prefix: /a/x}, headers: {h: {exact: '1'}}}], route: [{destination: {host: x}}]}
  - {name: wrong, match: [{uri: {prefix: /b}}], route: [{destination: {host: x}}]}
  - {timeout: 9s, route: [{destination: {host: y}}]}
";

/// The routes of one root with this delegate.
fn filled(delegate: &str) -> Vec<HttpRoute> {
    let root = "
metadata: {name: root, namespace: a}
spec:
  hosts: [h]
  http:
  - {name: top, timeout: 3s, match: [{uri: {prefix: /a}, port: 80}], delegate: {name: inner, namespace: b}}
  - {name: last, route: [{destination: {host: z}}]}
";
    let index = index(&[root, delegate], &ExportTo::Everyone);
    let own = Namespace::from("a");
    let all: Vec<_> = index.visible(&own, &GatewayName::Mesh).collect();
    assert_eq!(all.len(), 1, "a delegate is nothing on its own");
    all[0].http.clone()
}

#[test]
fn a_delegates_routes_stand_in_place_of_the_one_that_names_it() {
    let routes = filled(DELEGATE);
    let names: Vec<_> = routes.iter().map(|r| &*r.name).collect();
    assert_eq!(names, ["top-deep", "top", "last"]);
    let deep = &routes[0].matches[0];
    assert_eq!(deep.uri, Some(StringMatch::Prefix("/a/x".into())));
    assert_eq!((deep.port, deep.headers.len()), (Some(80), 1));
    assert_eq!(routes[0].timeout.map(|t| t.as_secs()), Some(3));
    assert_eq!(routes[1].timeout.map(|t| t.as_secs()), Some(9));
    assert_eq!(
        &*routes[1].destinations[0].destination.host,
        "y.b.svc.cluster.local"
    );
}

#[test]
fn a_delegate_that_the_root_may_not_see_has_no_routes() {
    let hidden = DELEGATE.replace("spec:", "spec:\n  exportTo: [.]");
    for delegate in [&*hidden, "metadata: {name: other, namespace: b}"] {
        let routes = filled(delegate);
        let names: Vec<_> = routes.iter().map(|r| &*r.name).collect();
        assert_eq!(names, ["last"]);
    }
}

#[test]
fn a_delegates_match_must_lie_within_the_roots() {
    let fits = |outer: &str, inner: &str| {
        let root = format!(
            "metadata: {{name: r, namespace: a}}
spec: {{hosts: [h], http: [{{match: [{{{outer}}}], delegate: {{name: d}}}}]}}"
        );
        let delegate = format!(
            "metadata: {{name: d, namespace: a}}
spec: {{http: [{{match: [{{{inner}}}], route: [{{destination: {{host: x}}}}]}}]}}"
        );
        let index = index(&[&root, &delegate], &ExportTo::Everyone);
        let own = Namespace::from("a");
        index
            .visible(&own, &GatewayName::Mesh)
            .any(|v| !v.http.is_empty())
    };
    for (outer, inner) in [
        ("uri: {prefix: /a}", "uri: {exact: /ab}"),
        ("uri: {exact: /a}", "uri: {exact: /a}"),
        ("uri: {prefix: /a}", "headers: {x: {}}"),
        ("method: {exact: GET}", "uri: {regex: '.*'}"),
        ("sourceLabels: {a: b}", "sourceLabels: {c: d}"),
        ("gateways: [g, mesh]", "gateways: [mesh]"),
    ] {
        assert!(fits(outer, inner), "{outer} | {inner}");
    }
    for (outer, inner) in [
        ("uri: {prefix: /a}", "uri: {prefix: /b}"),
        ("uri: {exact: /a}", "uri: {prefix: /a}"),
        ("uri: {regex: a}", "uri: {exact: a}"),
        ("headers: {x: {exact: '1'}}", "headers: {x: {exact: '2'}}"),
        ("queryParams: {x: {exact: '1'}}", "queryParams: {x: {}}"),
        ("port: 80", "port: 81"),
        ("sourceLabels: {a: b}", "sourceLabels: {a: c}"),
        ("sourceNamespace: x", "uri: {exact: /}"),
        ("gateways: [mesh]", "gateways: [g]"),
        ("uri: {prefix: /}", "uri: {prefix: /}, ignoreUriCase: true"),
    ] {
        assert!(!fits(outer, inner), "{outer} | {inner}");
    }
}
