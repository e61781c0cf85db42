//! Compiles the C side of `rte_hash`, with the flags of the libdpdk that is installed, as ffi/sys/build.rs does.
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=csrc/rte_hash.c");
    if let Err(e) = pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        eprintln!("libdpdk was not found by pkg-config: {e}\nmend: apt-get install libdpdk-dev");
        std::process::exit(1);
    }
    let cflags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output();
    let cflags = cflags.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mut shim = cc::Build::new();
    shim.file("csrc/rte_hash.c").opt_level(2).warnings(true);
    for flag in cflags.split_whitespace() {
        shim.flag(flag.replace("-I", "-isystem"));
    }
    shim.compile("stopover_candidates");
}
