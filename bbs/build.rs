//! Generates the gRPC types and stubs of `proto/stopover/v1/*.proto`, and for tests those of `tests/before`, the protocol of
//! earlier programs; needs `protoc`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = Path::new("proto");
    let files = ["before.proto", "board.proto", "checkpoint.proto", "enrol.proto"]
        .map(|file| proto.join("stopover/v1").join(file));
    tonic_prost_build::configure().compile_protos(&files, &[proto.to_owned()])?;
    let before = Path::new(&std::env::var("OUT_DIR")?).join("before");
    std::fs::create_dir_all(&before)?;
    tonic_prost_build::configure()
        .out_dir(before)
        .compile_protos(&["tests/before/stopover/v1/board.proto"], &["tests/before"])?;
    Ok(())
}
