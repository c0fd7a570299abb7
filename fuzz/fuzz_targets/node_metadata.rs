//! Any bytes as the node message of a first request: read or refused in clear
//! words, never a panic.
//!
//! `cargo +nightly fuzz run node_metadata`
#![no_main]

use envoy_types::pb::envoy::config::core::v3::Node;
use isthmus::ads::parse_node;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(node) = Node::decode(bytes) else {
        return;
    };
    match parse_node(&node) {
        Ok(proxy) => {
            assert_eq!(*proxy.id, *node.id);
            assert!(!proxy.ips.0.is_empty());
            assert!(proxy.requested_networks.is_sorted());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() < 2048 && !text.chars().any(char::is_control));
        }
    }
});
