//! Compiles the C part with the flags of the libdpdk that is installed.
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=csrc/oracle.c");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    if let Err(e) = pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        eprintln!(
            "libdpdk 22.11 or newer was not found by pkg-config: {e}\nhint: apt-get install libdpdk-dev"
        );
        std::process::exit(1);
    }
    // As in `ffi/sys/build.rs`: the probe keeps include paths only.
    let cflags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output();
    let cflags = cflags.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let mut c = cc::Build::new();
    c.file("csrc/oracle.c").warnings(true).extra_warnings(true);
    // The pools of sessions are stable only since DPDK 23.11.
    c.define("ALLOW_EXPERIMENTAL_API", None);
    for flag in cflags.split_whitespace() {
        c.flag(flag.replace("-I", "-isystem"));
    }
    c.compile("stopover_ipsec_oracle");
}
