use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::ads::{Resources, Variant};
use crate::model::TypeUrl;
use crate::testing::ads_stream::FakeStream;
use crate::testing::ads_world::FakeWorld;

/// Sizes of resources; some just fill a chunk, without what stands before them.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let any = prop::collection::vec(0..40_000_usize, 0..20);
    prop_oneof![any, (CHUNK - 300..CHUNK + 10).prop_map(|size| vec![size])]
}

proptest! {
    #[test]
    fn chunks_are_the_message(sizes in sizes()) {
        let kind = TypeUrl::Cluster;
        let mut stream = FakeStream::new(Variant::Delta, FakeWorld::default());
        for (n, size) in sizes.iter().enumerate() {
            stream.world.set(kind, &format!("{n:02}"), &"x".repeat(*size));
        }
        stream.subscribe(kind, &["*", "none"], &[]);
        let outgoing = stream.session.poll(&stream.world).expect("a response");
        let shared: Vec<_> = stream.world.all(kind).iter().map(|r| r.delta_frame()).collect();
        let mut message = Message::new(outgoing);
        let mut bytes = Vec::new();
        while let Some(chunk) = message.next_chunk() {
            let by_reference = shared.iter().any(|r| r.as_ptr() == chunk.as_ptr());
            prop_assert!(chunk.len() <= CHUNK || by_reference);
            bytes.extend_from_slice(&chunk);
        }
        prop_assert_eq!(bytes[0], 0);
        let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four bytes"));
        prop_assert_eq!(length as usize, bytes.len() - PREFIX);
        let response = DeltaDiscoveryResponse::decode(&bytes[PREFIX..]).expect("decodes");
        prop_assert_eq!(response.resources.len(), sizes.len());
        prop_assert_eq!(response.removed_resources, ["none"]);
    }
}
