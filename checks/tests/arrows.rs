//! Dependencies have one direction: between our crates, and between the modules of the board and of the appliance.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::collections::BTreeSet;
use stopover_checks::{crates, modules, root};

const CRATES: &[crates::Rule] = &[
    crates::Rule {
        package: "stopover",
        uses: &[
            "dpdk",
            "stopover-bbs",
            "stopover-config",
            "stopover-ctl",
            "stopover-engines",
            "stopover-lockfree",
            "stopover-logging",
            "stopover-net",
            "stopover-pki",
            "stopover-tunnel",
            "stopover-vmm",
        ],
    },
    crates::Rule {
        package: "stopover-bbs",
        uses: &["stopover-config", "stopover-logging", "stopover-net", "stopover-pki"],
    },
    crates::Rule {
        package: "stopover-cli",
        uses: &["stopover-bbs", "stopover-config", "stopover-ctl", "stopover-net", "stopover-pki"],
    },
    crates::Rule { package: "stopover-config", uses: &["stopover-net"] },
    crates::Rule { package: "stopover-ctl", uses: &["stopover-net"] },
    crates::Rule { package: "dpdk", uses: &["dpdk-sys", "stopover-vmm"] },
    crates::Rule { package: "dpdk-sys", uses: &[] },
    crates::Rule { package: "stopover-engines", uses: &["dpdk", "dpdk-ipsec-oracle", "stopover-tunnel"] },
    crates::Rule { package: "stopover-lockfree", uses: &[] },
    crates::Rule { package: "stopover-logging", uses: &[] },
    crates::Rule { package: "stopover-net", uses: &[] },
    crates::Rule { package: "stopover-tunnel", uses: &["stopover-lockfree", "stopover-net"] },
    crates::Rule { package: "stopover-vmm", uses: &[] },
    crates::Rule { package: "stopover-pki", uses: &["stopover-config", "stopover-net"] },
    // Tools and tests, which nothing else uses.
    crates::Rule {
        package: "stopover-board-faults",
        uses: &["stopover-bbs", "stopover-config", "stopover-logging", "stopover-net", "stopover-pki"],
    },
    crates::Rule { package: "dpdk-ipsec-oracle", uses: &["dpdk"] },
    crates::Rule { package: "stopover-checks", uses: &[] },
    crates::Rule {
        package: "stopover-fuzz",
        uses: &[
            "stopover-bbs",
            "stopover-config",
            "stopover-net",
            "stopover-pki",
            "stopover-tunnel",
            "stopover-vmm",
        ],
    },
    crates::Rule { package: "stopover-front-ends", uses: &["stopover-guest-tools"] },
    crates::Rule { package: "stopover-guest-tools", uses: &[] },
    crates::Rule { package: "stopover-tester", uses: &["dpdk", "stopover-guest-tools"] },
    crates::Rule {
        package: "stopover-testbed-tools",
        uses: &["stopover", "stopover-bbs", "stopover-config", "stopover-net"],
    },
];

/// The board itself is for its own program and for the tests of its durability. Everyone else has the client.
const SERVER: crates::Reserved =
    crates::Reserved { package: "stopover-bbs", feature: "server", users: &["stopover-board-faults"] };

const BBS: &[modules::Rule] = &[
    modules::Rule { module: "model", uses: &[] },
    modules::Rule { module: "proto", uses: &["model"] },
    modules::Rule { module: "table", uses: &[] },
    modules::Rule { module: "access", uses: &[] },
    modules::Rule { module: "board", uses: &["model", "table"] },
    modules::Rule { module: "store", uses: &["table"] },
    modules::Rule { module: "records", uses: &["store", "table"] },
    modules::Rule {
        module: "server",
        uses: &["access", "board", "model", "proto", "records", "store", "table"],
    },
    modules::Rule { module: "client", uses: &["model", "proto"] },
    // Of the program, which uses the library from outside.
    modules::Rule { module: "maintain", uses: &[] },
];

/// From the bottom up. The parts of a migration are of every level, and each uses only what is below it.
const APPLIANCE: &[modules::Rule] = &[
    modules::Rule { module: "tables::packed", uses: &["tables::peer"] },
    modules::Rule { module: "tables::peer", uses: &["tables::packed"] },
    modules::Rule { module: "migration::record", uses: &["tables::packed"] },
    modules::Rule { module: "migration::machine", uses: &["migration::record"] },
    modules::Rule { module: "migration::hold", uses: &[] },
    modules::Rule { module: "migration::source_ports", uses: &[] },
    modules::Rule { module: "tables", uses: &["migration::record", "tables::packed", "tables::peer"] },
    modules::Rule { module: "underlay", uses: &[] },
    modules::Rule { module: "sealing", uses: &[] },
    modules::Rule {
        module: "pipeline",
        uses: &["migration::hold", "migration::record", "migration::source_ports", "tables"],
    },
    modules::Rule {
        module: "migration::stage",
        uses: &["migration::hold", "migration::record", "pipeline", "tables"],
    },
    modules::Rule { module: "migration::tx_hold", uses: &["migration::hold", "migration::record"] },
    modules::Rule {
        module: "migration::reorder",
        uses: &["migration::hold", "migration::record", "migration::tx_hold", "tables"],
    },
    modules::Rule { module: "migration::markers", uses: &["pipeline"] },
    modules::Rule {
        module: "lcore",
        uses: &[
            "migration::hold",
            "migration::markers",
            "migration::record",
            "migration::reorder",
            "migration::source_ports",
            "migration::tx_hold",
            "pipeline",
            "sealing",
            "tables",
        ],
    },
    modules::Rule {
        module: "migration::replay",
        uses: &[
            "lcore",
            "migration::hold",
            "migration::record",
            "migration::reorder",
            "migration::tx_hold",
            "pipeline",
            "tables",
        ],
    },
    modules::Rule { module: "lcore::worker", uses: &["lcore", "migration::replay", "pipeline", "tables"] },
    modules::Rule {
        module: "migration::driver",
        uses: &[
            "control",
            "lcore",
            "migration::hold",
            "migration::machine",
            "migration::record",
            "migration::tx_hold",
            "pipeline",
            "tables",
        ],
    },
    modules::Rule {
        module: "control",
        uses: &["lcore", "migration", "pipeline", "sealing", "tables", "underlay"],
    },
];

/// The control thread's: its subsystems, what each is made of, and, behind them, what brings them together. Only the
/// latter know the thread. One subsystem is with the other parts of migrations.
const CONTROL: &[modules::Rule] = &[
    modules::Rule { module: "control::effects", uses: &[] },
    modules::Rule { module: "control::addresses", uses: &[] },
    modules::Rule { module: "control::station_limits", uses: &["control::effects"] },
    modules::Rule {
        module: "control::stations",
        uses: &["control::addresses", "control::effects", "control::station_limits"],
    },
    modules::Rule { module: "control::replica", uses: &["control::effects", "control::stations"] },
    modules::Rule { module: "control::loops", uses: &["control::effects"] },
    modules::Rule { module: "control::spread", uses: &[] },
    modules::Rule { module: "control::numa", uses: &[] },
    modules::Rule { module: "control::host_key", uses: &[] },
    modules::Rule { module: "control::ports", uses: &["control::numa", "control::spread"] },
    modules::Rule { module: "control::connect", uses: &["control::ports"] },
    modules::Rule { module: "control::queue_moves", uses: &["control::ports", "control::spread"] },
    modules::Rule { module: "control::board_link", uses: &["control::effects"] },
    modules::Rule { module: "control::checkpoint", uses: &["control::replica", "control::stations"] },
    modules::Rule { module: "control::rows", uses: &["control::replica", "control::stations"] },
    modules::Rule { module: "control::tunnels", uses: &["control::effects", "control::rows"] },
    modules::Rule { module: "control::request", uses: &["control::rows"] },
    modules::Rule { module: "control::lists", uses: &["control::request", "control::rows"] },
    modules::Rule { module: "control::config_requests", uses: &["control::request", "control::source"] },
    modules::Rule {
        module: "control::server",
        uses: &["control::config_requests", "control::lists", "control::request"],
    },
    modules::Rule { module: "control::api", uses: &["control::request", "control::server"] },
    modules::Rule { module: "control::mtu", uses: &[] },
    modules::Rule {
        module: "control::plan",
        uses: &["control::loops", "control::station_limits", "control::stations"],
    },
    modules::Rule { module: "control::vhost_sockets", uses: &[] },
    modules::Rule { module: "control::open_files", uses: &[] },
    modules::Rule {
        module: "control::devices",
        uses: &[
            "control::connect",
            "control::mtu",
            "control::numa",
            "control::plan",
            "control::vhost_sockets",
        ],
    },
    modules::Rule { module: "control::sleeps", uses: &["control::ports"] },
    modules::Rule { module: "control::device_state", uses: &[] },
    modules::Rule {
        module: "control::device_events",
        uses: &[
            "control::connect",
            "control::device_state",
            "control::devices",
            "control::port_changes",
            "control::ports",
            "control::spread",
        ],
    },
    modules::Rule {
        module: "control::port_changes",
        uses: &[
            "control::connect",
            "control::devices",
            "control::numa",
            "control::plan",
            "control::ports",
            "control::replica",
            "control::spread",
        ],
    },
    modules::Rule {
        module: "migration::driver",
        uses: &[
            "control::effects",
            "control::plan",
            "control::ports",
            "control::replica",
            "control::stations",
        ],
    },
    modules::Rule { module: "control::paths", uses: &["control::mtu"] },
    modules::Rule { module: "control::cut_overs", uses: &[] },
    modules::Rule {
        module: "control::tunnel_link",
        uses: &[
            "control::cut_overs",
            "control::effects",
            "control::request",
            "control::rows",
            "control::tunnels",
        ],
    },
    modules::Rule { module: "control::declared", uses: &[] },
    modules::Rule {
        module: "control::board_updates",
        uses: &["migration::driver", "control::mtu", "control::replica"],
    },
    modules::Rule { module: "control::execute", uses: &["control::effects", "migration::driver"] },
    modules::Rule { module: "control::source", uses: &[] },
    modules::Rule {
        module: "control::changes",
        uses: &[
            "control::devices",
            "control::plan",
            "control::port_changes",
            "control::request",
            "control::source",
        ],
    },
    modules::Rule { module: "control::reports", uses: &["control::effects"] },
    modules::Rule {
        module: "control::show",
        uses: &["control::device_state", "control::mtu", "control::request", "control::rows"],
    },
    modules::Rule { module: "control::trace", uses: &["control::request"] },
    modules::Rule {
        module: "control::take_over",
        uses: &["control::connect", "control::request", "control::vhost_sockets"],
    },
    modules::Rule { module: "control::metrics", uses: &[] },
    modules::Rule {
        module: "control::start",
        uses: &[
            "control::api",
            "control::board_link",
            "control::changes",
            "control::checkpoint",
            "control::connect",
            "control::cut_overs",
            "control::declared",
            "control::device_events",
            "control::devices",
            "control::host_key",
            "control::loops",
            "control::numa",
            "control::open_files",
            "control::plan",
            "control::port_changes",
            "control::ports",
            "control::queue_moves",
            "control::replica",
            "control::request",
            "control::server",
            "control::sleeps",
            "control::source",
            "control::spread",
            "control::stations",
            "control::take_over",
            "control::tunnels",
            "control::vhost_sockets",
            "migration::driver",
        ],
    },
];

/// Modules of the control thread that the thread runs and that do not know it.
const SUBSYSTEMS: &[&str] = &[
    "control::addresses",
    "control::api",
    "control::board_link",
    "control::device_state",
    "control::effects",
    "control::loops",
    "control::ports",
    "control::replica",
    "control::station_limits",
    "control::stations",
    "migration::driver",
];

/// Clocks, devices, files, sockets and threads.
const OUTSIDE: &[&str] = &[
    "Instant",
    "SystemTime",
    "dpdk",
    "dpdk_sys",
    "File",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "thread",
    "tokio",
    "tonic",
];

fn files(folder: &str) -> Vec<modules::File> {
    let files = modules::files(&root().join(folder)).expect(folder);
    assert!(!files.is_empty(), "no source in {folder}");
    files
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn crates_depend_in_one_direction() {
    let packages = |manifest: &str| crates::packages(&root().join(manifest)).expect(manifest);
    let all = [packages("Cargo.toml"), packages("fuzz/Cargo.toml")].concat();
    assert_none(&crates::violations(&all, CRATES, &[SERVER]));
}

#[test]
fn modules_of_the_board_depend_in_one_direction() {
    assert_none(&modules::violations(&files("bbs/src"), BBS));
}

#[test]
fn modules_of_the_appliance_depend_in_one_direction() {
    assert_none(&modules::violations(&files("appliance"), APPLIANCE));
}

#[test]
fn modules_of_the_control_thread_depend_in_one_direction() {
    let mut all = files("appliance");
    all.retain(|file| file.path.starts_with("control") || file.path.starts_with("migration/driver"));
    assert_none(&modules::violations(&all, CONTROL));
    assert_none(&modules::impurities(&files("appliance"), SUBSYSTEMS, &["Control"]));
}

/// Circles that stay, each with its reason.
const CIRCLES: &[(&str, &[&str])] = &[
    // A buffer returns to its pool, a pool gives buffers, one at a time and in bursts.
    ("ffi/src", &["burst", "mbuf", "mempool"]),
    // A port is of one of two kinds; each gives queues, and a queue keeps its port open.
    ("ffi/src", &["ethdev", "port", "queue", "vhost"]),
];

/// Modules whose parts are at several levels; the rules above have each part.
const SPLIT: &[&str] = &["control", "lcore", "migration", "tables"];

#[test]
fn no_modules_of_a_crate_use_each_other_in_a_circle() {
    let mut found = Vec::new();
    for folder in [
        "appliance",
        "bbs/src",
        "cli/src",
        "config/src",
        "ctl/src",
        "engines/src",
        "ffi/src",
        "lockfree/src",
        "net/src",
        "tunnel/src",
        "vmm/src",
    ] {
        found.extend(modules::circles(&files(folder), SPLIT).into_iter().map(|circle| (folder, circle)));
    }
    let stays = |(folder, circle): &(&str, BTreeSet<String>)| {
        CIRCLES.iter().any(|(at, modules)| at == folder && circle.iter().eq(*modules))
    };
    let new: Vec<String> =
        found.iter().filter(|c| !stays(c)).map(|(folder, circle)| format!("{folder}: {circle:?}")).collect();
    assert_none(&new);
    assert_eq!(found.len(), CIRCLES.len(), "a circle of the list is gone: remove it there");
}

#[test]
fn pure_modules_know_nothing_of_the_outside() {
    assert_none(&modules::impurities(&files("bbs/src"), &["access", "model", "table", "board"], OUTSIDE));
    let pure = [
        "tables",
        "pipeline",
        "migration::hold",
        "migration::machine",
        "migration::record",
        "migration::source_ports",
        "migration::stage",
        "underlay",
    ];
    assert_none(&modules::impurities(&files("appliance"), &pure, OUTSIDE));
    assert_none(&modules::impurities(&files("net/src"), &[""], OUTSIDE));
    assert_none(&modules::impurities(&files("tunnel/src"), &[""], OUTSIDE));
}

#[test]
fn no_file_is_included_by_path() {
    for folder in [
        "appliance",
        "bbs",
        "benches",
        "checks",
        "cli",
        "config",
        "ctl",
        "engines",
        "ffi",
        "fuzz/fuzz_targets",
        "lockfree",
        "net",
        "testbed",
        "tests",
        "tunnel",
    ] {
        assert_none(&modules::path_attributes(&files(folder)));
    }
}
