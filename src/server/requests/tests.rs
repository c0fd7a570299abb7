use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Frame;
use proptest::prelude::*;
use tonic::Code;

use super::*;

/// A body of given pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn framed(request: &DeltaDiscoveryRequest) -> Vec<u8> {
    let body = request.encode_to_vec();
    let length = u32::try_from(body.len()).expect("small");
    [&[0][..], &length.to_be_bytes(), &body].concat()
}

fn named(name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: name.to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn reader(bytes: &[u8], size: usize, budget: &Arc<Budget>) -> Requests<Pieces> {
    let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    Requests::new(Pieces(pieces), Variant::Delta, 1000, Arc::clone(budget))
}

async fn error_of(bytes: &[u8]) -> Status {
    let budget = Arc::new(Budget::new(10_000));
    let mut requests = reader(bytes, 100, &budget);
    let error = std::future::poll_fn(|cx| requests.poll_next(cx))
        .await
        .expect_err("an error");
    drop(requests);
    assert!(budget.take(10_000), "everything is given back");
    error
}

#[tokio::test]
async fn bad_messages_end_with_a_status() {
    let compressed = [1, 0, 0, 0, 0];
    assert_eq!(error_of(&compressed).await.code(), Code::Unimplemented);
    let large = [0, 0, 0, 4, 0];
    assert_eq!(error_of(&large).await.code(), Code::ResourceExhausted);
    let garbage = [0, 0, 0, 0, 2, 0xff, 0xff];
    assert_eq!(error_of(&garbage).await.code(), Code::InvalidArgument);
    let cut = [0, 0, 0, 0, 9, 1];
    assert_eq!(error_of(&cut).await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn deep_nesting_is_refused_and_not_followed() {
    // Node.metadata.fields["a"].list_value.values[0].list_value …
    let mut value = Vec::new();
    for _ in 0..5000 {
        let mut list = vec![0x0a];
        prost::encode_length_delimiter(value.len(), &mut list).expect("room");
        list.extend_from_slice(&value);
        let mut outer = vec![0x32];
        prost::encode_length_delimiter(list.len(), &mut outer).expect("room");
        outer.extend_from_slice(&list);
        value = outer;
    }
    let wrap = |field: u8, inner: &[u8]| {
        let mut out = vec![field << 3 | 2];
        prost::encode_length_delimiter(inner.len(), &mut out).expect("room");
        [out, inner.to_vec()].concat()
    };
    let entry = [wrap(1, b"a"), wrap(2, &value)].concat();
    let node = wrap(3, &wrap(1, &entry));
    let body = wrap(1, &node);
    let length = u32::try_from(body.len()).expect("small");
    let message = [&[0][..], &length.to_be_bytes(), &body].concat();
    let budget = Arc::new(Budget::new(1 << 20));
    let pieces = Pieces([Bytes::from(message)].into());
    let mut requests = Requests::new(pieces, Variant::Delta, 1 << 20, budget);
    let error = std::future::poll_fn(|cx| requests.poll_next(cx))
        .await
        .expect_err("an error");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_sum_of_unfinished_requests_is_bounded() {
    let budget = Arc::new(Budget::new(150));
    let message = framed(&named(&"x".repeat(300)));
    let mut requests = reader(&message, 100, &budget);
    let error = std::future::poll_fn(|cx| requests.poll_next(cx))
        .await
        .expect_err("an error");
    assert_eq!(error.code(), Code::ResourceExhausted);
    drop(requests);
    assert!(budget.take(150));
}

proptest! {
    #[test]
    fn messages_survive_any_cut(
        names in prop::collection::vec("[a-z]{0,300}", 0..8),
        size in 1..400_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let bytes: Vec<u8> = names.iter().flat_map(|name| framed(&named(name))).collect();
        let budget = Arc::new(Budget::new(10_000));
        let mut requests = reader(&bytes, size, &budget);
        for name in &names {
            let next = runtime.block_on(std::future::poll_fn(|cx| requests.poll_next(cx))).expect("no error");
            let Some(Request::Delta(request)) = next else {
                panic!("no request for {name}");
            };
            prop_assert_eq!(&request.type_url, name);
        }
        prop_assert!(runtime.block_on(std::future::poll_fn(|cx| requests.poll_next(cx))).expect("no error").is_none());
        prop_assert_eq!(requests.messages.unread.capacity(), 0);
        prop_assert!(budget.take(10_000));
    }
}
