use futures::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::manifest::Raw;
use crate::registry::kube::head::Head;
use crate::registry::kube::lines::lines;

/// An object of any kind, in its envelope.
fn object(raw: Vec<u8>) -> Vec<u8> {
    let raw = Bytes::from(raw);
    [MAGIC, &Envelope { raw }.encode_to_vec()].concat()
}

fn named(name: &str, annotations: &[&str]) -> Vec<u8> {
    let annotations = annotations.iter();
    let metadata = Metadata {
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        resource_version: "7".to_owned(),
        annotations: annotations
            .map(|key| ((*key).to_owned(), "true".to_owned()))
            .collect(),
    };
    let any = AnyKind {
        metadata: Some(metadata),
    };
    any.encode_to_vec()
}

fn refusal_of(code: i32) -> Vec<u8> {
    let status = StatusMessage {
        message: "too old".to_owned(),
        reason: "Expired".to_owned(),
        code,
    };
    status.encode_to_vec()
}

/// A frame of one event.
fn frame(kind: &str, raw: Vec<u8>) -> Vec<u8> {
    let event = WatchEvent {
        kind: kind.to_owned(),
        object: Some(RawExtension {
            raw: object(raw).into(),
        }),
    };
    let event = event.encode_to_vec();
    let length = u32::try_from(event.len()).expect("short");
    [&length.to_be_bytes()[..], &event].concat()
}

async fn all(bytes: &[u8]) -> Result<Vec<Line>, Failure> {
    lines(bytes).try_collect().await
}

#[tokio::test]
async fn frames_are_read_as_lines_are_and_beside_them() {
    let stream = [
        frame("ADDED", named("a", &[])),
        b"{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"b\"}}}\n".to_vec(),
        frame("DELETED", named("c", &[])),
        frame("BOOKMARK", named("", &["k8s.io/initial-events-end"])),
    ];
    let lines = all(&stream.concat()).await.expect("events");
    let [
        Line::Added(a),
        Line::Modified(b),
        Line::Deleted(c),
        Line::Bookmark { version, listed },
    ] = lines.as_slice()
    else {
        panic!("{lines:?}");
    };
    let names = [a, b, c].map(|object| Head::of(object.get()).name.into_owned());
    assert_eq!(names, ["a", "b", "c"]);
    let head = Head::of(a.get());
    assert_eq!((&*head.namespace, &*head.resource_version), ("shop", "7"));
    assert!(matches!(a.get(), Raw::Protobuf(_)) && b.get().json().contains("\"b\""));
    assert_eq!((version.as_str(), *listed), ("7", true));
}

#[tokio::test]
async fn a_frame_that_is_cut_off_is_left_out() {
    let whole = frame("ADDED", named("a", &[]));
    for cut in 0..whole.len() {
        let stream = [&whole[..], &whole[..cut]].concat();
        assert_eq!(all(&stream).await.expect("one event").len(), 1, "{cut}");
    }
}

#[tokio::test]
async fn an_error_in_a_frame_is_told_with_its_code() {
    let error = all(&frame("ERROR", refusal_of(410))).await;
    let error = error.expect_err("refused");
    assert!(error.is_expired() && error.to_string().contains("too old"));
}

#[tokio::test]
async fn a_frame_that_is_none_fails_and_quotes_nothing() {
    let nonsense = [
        vec![0, 0, 0, 3, 0xff, 0xff, 0xff],
        spoilt(frame("ADDED", Vec::new())),
        frame("RENAMED", named("secret", &[])),
    ];
    for bytes in nonsense {
        let error = all(&bytes).await.expect_err("no event");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    // Longer than any object: not even waited for.
    let long = [0xff, 0xff, 0xff, 0xff, 0];
    assert!(take(&mut &long[..]).await.is_err());
}

/// The same frame with another magic number.
fn spoilt(mut frame: Vec<u8>) -> Vec<u8> {
    let at = frame.windows(4).position(|bytes| bytes == MAGIC);
    frame[at.expect("an envelope")] = b'x';
    frame
}

#[test]
fn a_refusal_is_understood_in_each_form() {
    let json = br#"{"kind":"Status","code":403,"reason":"Forbidden","message":"no"}"#;
    let forms = [
        (object(refusal_of(410)), 410, "too old"),
        (json.to_vec(), 403, "no"),
        (b"<html>no such host</html>".to_vec(), 502, "no such host"),
        (Vec::new(), 502, ""),
        (vec![0xff, 0xfe], 502, ""),
    ];
    for (text, code, words) in forms {
        let failure = why(502, &text.into());
        assert_eq!(failure.code(), Some(code), "{failure}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = read(bytes.clone());
        let _ = why(500, &bytes);
    }
}
