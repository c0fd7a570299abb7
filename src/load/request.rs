//! Discovery requests, written without messages in between.

use bytes::{BufMut, BytesMut};

use super::grpc;
use super::walk::{Response, Variant};

/// Field numbers of the two requests. Names have the same one in both.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    version: Option<u32>,
    node: u32,
    type_url: u32,
    nonce: u32,
    error: u32,
}

const NAMES: u32 = 3;

const fn numbers(variant: Variant) -> Numbers {
    match variant {
        Variant::Delta => Numbers {
            version: None,
            node: 1,
            type_url: 2,
            nonce: 6,
            error: 7,
        },
        Variant::Sotw => Numbers {
            version: Some(1),
            node: 2,
            type_url: 4,
            nonce: 5,
            error: 6,
        },
    }
}

/// Names as they stand in a request; SotW repeats them in every ACK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names(Vec<u8>);

impl Names {
    pub(super) fn push(&mut self, name: &[u8]) {
        field(&mut self.0, NAMES, name);
    }
}

impl<'a> FromIterator<&'a [u8]> for Names {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(names: I) -> Self {
        let mut all = Self::default();
        for name in names {
            all.push(name);
        }
        all
    }
}

/// Subscribes to names of a type (none: all). The first request of a stream
/// has the node.
pub(super) fn subscribe(
    out: &mut BytesMut,
    variant: Variant,
    type_url: &[u8],
    names: &Names,
    node: Option<&[u8]>,
) {
    let numbers = numbers(variant);
    message(out, |out| {
        if let Some(node) = node {
            field(out, numbers.node, node);
        }
        field(out, numbers.type_url, type_url);
        out.put_slice(&names.0);
    });
}

/// Answers a response: an ACK, or with `error` a NACK. SotW takes the names
/// that are subscribed from now on.
pub(super) fn answer(
    out: &mut BytesMut,
    variant: Variant,
    response: &Response<'_>,
    names: &Names,
    error: Option<&str>,
) {
    let numbers = numbers(variant);
    message(out, |out| {
        // A NACK keeps the version that was accepted last; this client, which
        // rejects everything or nothing, has none.
        if let (Some(number), None) = (numbers.version, error) {
            field(out, number, response.version);
        }
        field(out, numbers.type_url, response.type_url);
        field(out, numbers.nonce, response.nonce);
        if variant == Variant::Sotw {
            out.put_slice(&names.0);
        }
        if let Some(error) = error {
            field(out, numbers.error, &status(error));
        }
    });
}

/// `google.rpc.Status`: `INTERNAL`, as Envoy says.
fn status(message: &str) -> Vec<u8> {
    let mut out = vec![0x08, 13];
    field(&mut out, 2, message.as_bytes());
    out
}

fn message(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&grpc::prefix(0));
    let body = out.len();
    write(out);
    let prefix = grpc::prefix(out.len() - body);
    if let Some(place) = out.get_mut(start..body) {
        place.copy_from_slice(&prefix);
    }
}

fn field(out: &mut impl BufMut, number: u32, value: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, value.len() as u64);
    out.put_slice(value);
}

fn varint(out: &mut impl BufMut, mut value: u64) {
    while value > 0x7f {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
    };
    use prost::Message;

    use super::*;
    use crate::client::ProxySpec;

    fn decode<M: Message + Default>(mut wire: BytesMut) -> Vec<M> {
        let mut messages = Vec::new();
        let mut reader = grpc::Messages::default();
        let data = wire.split();
        let each = |body: &[u8]| messages.push(M::decode(body).unwrap());
        reader.feed(&data, each).unwrap();
        messages
    }

    #[test]
    fn a_delta_stream_opens_with_its_node_and_all_clusters() {
        let spec = ProxySpec::parse_list("[{name: a, id: sidecar~1}]").unwrap();
        let node = spec[0].node();
        let mut out = BytesMut::new();
        let bytes = node.encode_to_vec();
        subscribe(
            &mut out,
            Variant::Delta,
            b"cds",
            &Names::default(),
            Some(&bytes),
        );
        let names = [&b"x"[..], &[b'y'; 300]].into_iter().collect();
        subscribe(&mut out, Variant::Delta, b"eds", &names, None);
        let [first, second] = &decode::<DeltaDiscoveryRequest>(out)[..] else {
            panic!("two requests");
        };
        assert_eq!(
            (first.node.as_ref(), first.type_url.as_str()),
            (Some(&node), "cds")
        );
        assert_eq!(
            second.resource_names_subscribe,
            ["x".to_owned(), "y".repeat(300)]
        );
        assert_eq!(second.node, None);
    }

    #[test]
    fn a_sotw_ack_repeats_version_and_names_and_a_nack_has_an_error() {
        let response = DiscoveryResponse {
            version_info: "v3".to_owned(),
            type_url: "eds".to_owned(),
            nonce: "n3".to_owned(),
            ..DiscoveryResponse::default()
        }
        .encode_to_vec();
        let response = Response::read(Variant::Sotw, &response).unwrap();
        let names = [&b"x"[..]].into_iter().collect();
        let mut out = BytesMut::new();
        answer(&mut out, Variant::Sotw, &response, &names, None);
        answer(&mut out, Variant::Sotw, &response, &names, Some("no"));
        let [ack, nack] = &decode::<DiscoveryRequest>(out)[..] else {
            panic!("two requests");
        };
        assert_eq!(
            (ack.version_info.as_str(), ack.response_nonce.as_str()),
            ("v3", "n3")
        );
        assert_eq!(
            (&ack.resource_names[..], &ack.error_detail),
            (&["x".to_owned()][..], &None)
        );
        let detail = nack.error_detail.as_ref().unwrap();
        assert_eq!((nack.version_info.as_str(), detail.code), ("", 13));
        assert_eq!(detail.message, "no");
    }

    #[test]
    fn a_delta_ack_has_the_nonce_and_no_names() {
        let response = Response::read(Variant::Delta, b"\x22\x03eds\x2a\x02n1").unwrap();
        let names = [&b"x"[..]].into_iter().collect();
        let mut out = BytesMut::new();
        answer(&mut out, Variant::Delta, &response, &names, None);
        let ack = &decode::<DeltaDiscoveryRequest>(out)[0];
        assert_eq!(
            (ack.type_url.as_str(), ack.response_nonce.as_str()),
            ("eds", "n1")
        );
        assert!(ack.resource_names_subscribe.is_empty());
    }
}
