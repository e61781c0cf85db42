//! Compiles the C shim and generates the bindings, both with the flags of the libdpdk that is installed. With it goes
//! ipsec-mb, the library below DPDK's ciphers.
use std::path::PathBuf;
use std::process::Command;

/// DPDK functions called without a shim: exported symbols whose arguments are plain.
const FUNCTIONS: &[&str] = &[
    "shim_.*",
    "rte_eal_(cleanup|remote_launch|wait_lcore|mp_wait_lcore|get_lcore_state)",
    "rte_get_(main_lcore|next_lcore|tsc_hz)",
    "rte_lcore_to_(socket_id|cpu_id)",
    "rte_strerror",
    "rte_version",
    "rte_pktmbuf_(pool_create|copy|free_bulk)",
    "rte_mempool_(avail_count|in_use_count)",
    "rte_eth_dev_(count_avail|get_port_by_name|get_name_by_port|socket_id|is_valid_port)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|start|stop|close|reset|is_removed|get_mtu|set_mtu)",
    "rte_eth_dev_callback_(register|unregister)",
    "rte_eth_(promiscuous|allmulticast)_enable",
    "rte_eth_stats_reset",
    "rte_eth_xstats_(get|get_names|reset)",
    "rte_dev_probe",
    "rte_dev_event_callback_(register|unregister)",
    "rte_dev_event_monitor_(start|stop)",
    "rte_eal_hotplug_remove",
    "rte_pdump_(init|uninit)",
    "rte_vhost_driver_(register|unregister|start|disable_features|callback_register)",
    "rte_vhost_(get_negotiated_features|get_ifname|enable_guest_notification|vring_call|dequeue_burst|enqueue_burst)",
];

const CONSTANTS: &[&str] = &[
    "SHIM_.*",
    "RTE_PKTMBUF_HEADROOM",
    "RTE_MAX_ETHPORTS",
    "RTE_MAX_LCORE",
    "RTE_VHOST_USER_(CLIENT|IOMMU_SUPPORT|POSTCOPY_SUPPORT)",
    "VIRTIO_NET_F_.*",
    "PATH_MAX",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=csrc/shim.h");
    println!("cargo:rerun-if-changed=csrc/shim.c");
    println!("cargo:rerun-if-changed=csrc/log.c");
    println!("cargo:rerun-if-changed=csrc/gcm.h");
    println!("cargo:rerun-if-changed=csrc/gcm.c");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");

    // Also passes the libraries to the linker; `--as-needed` keeps those that are used. The drivers
    // are plugins which EAL loads at run time.
    if let Err(e) = pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        eprintln!(
            "libdpdk 22.11 or newer was not found by pkg-config: {e}\nhint: apt-get install libdpdk-dev"
        );
        std::process::exit(1);
    }
    // The probe keeps include paths only; the shim needs `-march` and `-include rte_config.h` too, or the
    // inline functions would be compiled for another machine than the library was.
    let cflags = Command::new("pkg-config").args(["--cflags", "libdpdk"]).output();
    let cflags = cflags.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let cflags: Vec<&str> = cflags.split_whitespace().collect();

    let mut shim = cc::Build::new();
    shim.files(["csrc/shim.c", "csrc/log.c", "csrc/gcm.c"]).opt_level(2).warnings(true).extra_warnings(true);
    // DPDK's headers are not written for -Wextra.
    for flag in &cflags {
        shim.flag(flag.replace("-I", "-isystem"));
    }
    shim.compile("stopover_dpdk_shim");
    // ipsec-mb has no pkg-config file. It is for x86-64 only; the shim knows.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo:rustc-link-lib=IPSec_MB");
    }

    let mut bindings = bindgen::Builder::default()
        .header("csrc/shim.h")
        .header("csrc/gcm.h")
        .clang_args(&cflags)
        .use_core()
        .layout_tests(true)
        .generate_comments(false)
        // Packed and aligned at once, full of anonymous unions, and different from release to release:
        // seen from Rust by the offsets that the shim's header takes from the C compiler.
        .opaque_type("rte_mbuf")
        .opaque_type("rte_mempool")
        // Only their sizes matter.
        .opaque_type("gcm_key_data")
        .opaque_type("gcm_context_data");
    for name in FUNCTIONS {
        bindings = bindings.allowlist_function(name);
    }
    for name in CONSTANTS {
        bindings = bindings.allowlist_var(name);
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    if let Err(e) = bindings
        .generate()
        .map_err(|e| e.to_string())
        .and_then(|b| b.write_to_file(&out).map_err(|e| e.to_string()))
    {
        eprintln!("bindings to libdpdk could not be generated: {e}\nhint: apt-get install libclang-dev");
        std::process::exit(1);
    }
}
