//! Generates the gRPC types and stubs of `proto/stopover/v1/*.proto`; needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure().compile_protos(&["proto/stopover/v1/board.proto"], &["proto"])?;
    Ok(())
}
