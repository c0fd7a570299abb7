use super::*;

#[test]
fn durations_are_read_as_protobuf_and_go_write_them() {
    let cases = [
        ("1s", Some(1000)),
        ("1.5s", Some(1500)),
        ("1m30s", Some(90_000)),
        ("250ms", Some(250)),
        ("1h", Some(3_600_000)),
        ("0", Some(0)),
        ("0s", Some(0)),
        ("", None),
        ("10", None),
        ("s", None),
        ("-1s", None),
        ("1.2.3s", None),
        ("99999999999999999999h", None),
    ];
    for (text, millis) in cases {
        assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn numbers_may_be_quoted_and_null_is_absence() {
    let read = |json: &str| serde_json::from_str::<Int>(json).map(|n| n.0).ok();
    assert_eq!(read("5"), Some(Some(5)));
    assert_eq!(read("\"5\""), Some(Some(5)));
    assert_eq!(read("5.0"), Some(Some(5)));
    assert_eq!(read("null"), Some(None));
    assert_eq!(read("5.5"), None);
    assert_eq!(read("\"x\""), None);
    assert_eq!(Int(Some(0)).port(), None);
    assert_eq!(Int(Some(70_000)).port(), None);
}
