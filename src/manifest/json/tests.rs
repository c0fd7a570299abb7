use super::*;

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
