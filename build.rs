//! Compiles `proto/` (what envoy-types lacks) without a `protoc` binary.
use std::error::Error;

const PROTOS: &[&str] = &[
    "istio/networking/nds/v1/nds.proto",
    "istio/v1/auth/ca.proto",
    "udpa/type/v1/typed_struct.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    prost_build::Config::new()
        // Sorted, so that equal tables are equal bytes.
        .btree_map([".istio.networking.nds.v1"])
        // Not prost-types, but the same messages as everywhere here.
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::envoy_types::pb::google::protobuf")
        .compile_fds(descriptors)?;
    Ok(())
}
