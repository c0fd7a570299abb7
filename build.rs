//! Compiles `proto/` (what envoy-types lacks) without a `protoc` binary.
use std::error::Error;

const PROTOS: &[&str] = &["udpa/type/v1/typed_struct.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
