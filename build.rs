//! Compiles `proto/` (what envoy-types lacks) without a `protoc` binary.
use std::error::Error;

const PROTOS: &[&str] = &["udpa/type/v1/typed_struct.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .compile_well_known_types(true)
        .build_server(false)
        .extern_path(".google.protobuf", "::envoy_types::pb::google::protobuf")
        .compile_fds(descriptors)?;
    Ok(())
}
