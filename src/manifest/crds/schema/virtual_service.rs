//! `VirtualService`.

use serde_json::{Value, json};

use super::{count, flag, labels, list, map, object, port, requiring, text, texts, whole, word};

pub(super) fn spec() -> Value {
    let route = object([("match", list(&connection())), ("route", list(&weighted()))]);
    let tls = requiring(
        object([
            ("match", list(&requiring(connection(), &["sniHosts"]))),
            ("route", list(&weighted())),
        ]),
        &["match"],
    );
    object([
        ("hosts", texts()),
        ("gateways", texts()),
        ("exportTo", texts()),
        ("http", list(&http_route())),
        ("tls", list(&tls)),
        ("tcp", list(&route)),
    ])
}

fn http_route() -> Value {
    let fields = [
        ("name", text()),
        ("match", list(&http_match())),
        ("route", list(&http_destination())),
        ("redirect", redirect()),
        (
            "directResponse",
            requiring(
                object([("status", whole(200, 599)), ("body", body())]),
                &["status"],
            ),
        ),
        (
            "delegate",
            object([("name", text()), ("namespace", text())]),
        ),
        ("rewrite", rewrite()),
        ("timeout", text()),
        ("retries", retries()),
        ("fault", fault()),
        ("mirror", destination()),
        ("mirrors", list(&requiring(mirror(), &["destination"]))),
        ("mirrorPercent", count()),
        ("mirrorPercentage", percentage()),
        ("corsPolicy", cors()),
        ("headers", headers()),
    ];
    object(fields)
}

fn http_match() -> Value {
    object([
        ("name", text()),
        ("uri", pattern()),
        ("scheme", pattern()),
        ("method", pattern()),
        ("authority", pattern()),
        ("headers", map(&pattern())),
        ("withoutHeaders", map(&pattern())),
        ("queryParams", map(&pattern())),
        ("ignoreUriCase", flag()),
        ("port", port()),
        ("sourceLabels", labels()),
        ("sourceNamespace", text()),
        ("gateways", texts()),
        ("statPrefix", text()),
    ])
}

/// How a text must look: one of three, or nothing for "it is there".
fn pattern() -> Value {
    object([("exact", text()), ("prefix", text()), ("regex", text())])
}

fn destination() -> Value {
    let fields = [
        ("host", text()),
        ("subset", text()),
        ("port", object([("number", port())])),
    ];
    requiring(object(fields), &["host"])
}

fn weight() -> Value {
    whole(0, i64::from(i32::MAX))
}

fn weighted() -> Value {
    let fields = [("destination", destination()), ("weight", weight())];
    requiring(object(fields), &["destination"])
}

fn http_destination() -> Value {
    let fields = [
        ("destination", destination()),
        ("weight", weight()),
        ("headers", headers()),
    ];
    requiring(object(fields), &["destination"])
}

fn headers() -> Value {
    let changes = object([("set", labels()), ("add", labels()), ("remove", texts())]);
    object([("request", changes.clone()), ("response", changes)])
}

fn redirect() -> Value {
    let codes = json!({"type": "integer", "enum": [0, 301, 302, 303, 307, 308]});
    object([
        ("uri", text()),
        ("authority", text()),
        ("scheme", text()),
        ("port", port()),
        (
            "derivePort",
            word(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"]),
        ),
        ("redirectCode", codes),
    ])
}

fn body() -> Value {
    object([("string", text()), ("bytes", text())])
}

fn rewrite() -> Value {
    let regex = object([("match", text()), ("rewrite", text())]);
    object([
        ("uri", text()),
        ("authority", text()),
        ("uriRegexRewrite", regex),
    ])
}

fn retries() -> Value {
    object([
        ("attempts", whole(i64::from(i32::MIN), i64::from(i32::MAX))),
        ("perTryTimeout", text()),
        ("retryOn", text()),
        ("retryRemoteLocalities", flag()),
        ("retryIgnorePreviousHosts", flag()),
        ("backoff", text()),
    ])
}

fn percentage() -> Value {
    object([(
        "value",
        json!({"type": "number", "minimum": 0, "maximum": 100}),
    )])
}

fn fault() -> Value {
    let delay = object([
        ("fixedDelay", text()),
        ("percent", count()),
        ("percentage", percentage()),
    ]);
    let abort = object([
        ("httpStatus", whole(0, 599)),
        ("grpcStatus", text()),
        ("percentage", percentage()),
    ]);
    object([("delay", delay), ("abort", abort)])
}

fn mirror() -> Value {
    object([("destination", destination()), ("percentage", percentage())])
}

fn cors() -> Value {
    let preflights = word(&["UNSPECIFIED", "FORWARD", "IGNORE"]);
    object([
        ("allowOrigin", texts()),
        ("allowOrigins", list(&pattern())),
        ("allowMethods", texts()),
        ("allowHeaders", texts()),
        ("exposeHeaders", texts()),
        ("maxAge", text()),
        ("allowCredentials", flag()),
        ("unmatchedPreflights", preflights),
    ])
}

fn connection() -> Value {
    object([
        ("sniHosts", texts()),
        ("destinationSubnets", texts()),
        ("port", port()),
        ("sourceLabels", labels()),
        ("sourceNamespace", text()),
        ("gateways", texts()),
    ])
}
