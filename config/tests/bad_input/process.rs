//! Mistakes in the text itself, and in what concerns the whole process: lcores, pools, board, declarations,
//! migration.

use super::Case;

pub const CASES: &[Case] = &[
    // The text itself.
    (
        "mac: \"52:54:00:00:00:01\"",
        "mca: \"52:54:00:00:00:01\"",
        "gw.ron:8:65: found unknown key `mca` in `vif`; expected one of `vni`, `mac`, `addresses`, `shared_addresses`, `guard`, `allowed`, `router`, `dhcp_server`; hint: did you mean `mac`?",
    ),
    (
        "rxq: 2",
        "rxqs: 2",
        "gw.ron:7:49: found unknown key `rxqs` in `port`; expected one of `name`, `device`, `rxq`, `txq`, `mtu`, `promiscuous`, `role`; hint: did you mean `rxq`?",
    ),
    (
        "    board:",
        "    bord:",
        "gw.ron:5:5: found unknown key `bord` in `appliance`; expected one of `name`, `eal`, `vdevs`, `burst`, `rxd`, `txd`, `mbcache`, `mbufs`, `mbuf_size`, `idle`, `board`, `tls`, `insecure`, `declared`, `ctl`, `metrics`, `max_network_stations`, `stale_ms`, `checkpoint_s`, `migration`, `tunnels`, `ports`, `lcores`; hint: did you mean `board`?",
    ),
    (
        "role: underlay(",
        "role: underlie(",
        "gw.ron:7:63: found `underlie` in `role`; expected one of `underlay`, `vif`, `segment`; hint: did you mean `underlay`?",
    ),
    (
        "name: \"gw-a\",",
        "",
        "gw.ron:13:1: found no key `name` in `appliance`; expected it to be given; hint: add `name: …`",
    ),
    (
        "vni: 100, mac: \"52:54:00:00:00:01\"",
        "mac: \"52:54:00:00:00:01\"",
        "gw.ron:8:107: found no key `vni` in `vif`; expected it to be given; hint: add `vni: …`",
    ),
    (
        "rxq: 2",
        "rxq: 2, rxq: 2",
        "gw.ron:7:57: found key `rxq` twice in `port`; expected it once; hint: remove one of the two",
    ),
    (
        "rxq: 2",
        "rxq: two",
        "gw.ron:7:54: found `two`; expected a whole number; hint: texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between",
    ),
    (
        "rxq: 2",
        "rxq: \"2\"",
        "gw.ron:7:54: found `\"`; expected a whole number; hint: texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between",
    ),
    (
        "rxq: 2",
        "rxq: 99999999999999999999",
        "gw.ron:7:54: found a number too large for any key; expected a number within the key's range; hint: see docs/configuration.md for the range",
    ),
    (
        "name: \"gw-a\",",
        "name: \"gw-a\"",
        "gw.ron:3:5: found `eal:`; expected a comma or the closing bracket; hint: texts stand in quotes, structures in ( ), lists in [ ], maps in { }, commas between",
    ),
    (
        "\"br0:0\"]},\n)",
        "\"br0:0\"]},\n",
        "gw.ron:14:1: found the end of the file; expected the document to go on; hint: close what is open: ( [ { \"",
    ),
    (
        "\"br0:0\"]},\n)",
        "\"br0:0\"]},\n))",
        "gw.ron:13:2: found `)` after the end of the document; expected nothing; hint: remove it, or see whether a bracket closes too early",
    ),
    // Lcores and queues.
    (
        "2: [\"ul0:1\"",
        "2: [\"ul0:0\"",
        "gw.ron:12:41: lcores[1][0]: found queue ul0:0 on lcore 2 and on lcore 1; expected each queue on exactly one lcore; hint: remove it from one of them; raise the port's rxq to have a queue for each",
    ),
    (
        "2: [\"ul0:1\", ",
        "2: [",
        "gw.ron:12:13: lcores: found queue ul0:1 on no lcore; expected every receive queue of every port on one lcore; hint: add \"ul0:1\" to an lcore, or remove `lcores` to have the queues spread",
    ),
    (
        "2: [\"ul0:1\"",
        "3: [\"ul0:1\"",
        "gw.ron:12:37: lcores[1]: found lcore 3; expected one of the worker lcores 1,2 that the EAL arguments give; hint: add it to -l or --lcores in `eal`, or move its queues to another lcore",
    ),
    (
        "2: [\"ul0:1\"",
        "0: [\"ul0:1\"",
        "gw.ron:12:37: lcores[1]: found lcore 0, the main one, which runs the control thread; expected a worker lcore; hint: move its queues to a worker lcore, or choose another --main-lcore",
    ),
    (
        "2: [\"ul0:1\"",
        "1: [\"ul0:1\"",
        "gw.ron:12:37: lcores[1]: found lcore 1 twice; expected each lcore once; hint: write all its queues into one list",
    ),
    (
        "\"ul0:1\"",
        "\"ul0:2\"",
        "gw.ron:12:41: lcores[1][0]: found queue 2 of port `ul0`; expected a queue from 0 to 1; hint: raise the port's rxq, or correct the number",
    ),
    (
        "\"br0:0\"",
        "\"br1:0\"",
        "gw.ron:12:59: lcores[1][2]: found a queue of port `br1`; expected one of the ports ul0, vm1, vm2, br0; hint: correct the name",
    ),
    (
        "\"br0:0\"",
        "\"br0\"",
        "gw.ron:12:59: lcores[1][2]: found `br0`; expected \"port:queue\"; hint: for example \"vm1:0\" for the first receive queue of port vm1",
    ),
    (
        "\"br0:0\"]",
        "\"br0:0\"], 3: []",
        "gw.ron:12:69: lcores[2]: found lcore 3; expected one of the worker lcores 1,2 that the EAL arguments give; hint: add it to -l or --lcores in `eal`, or move its queues to another lcore",
    ),
    (
        "\"0-2\"",
        "\"0\"",
        "gw.ron:12:14: lcores[0]: found lcore 1; expected a worker lcore, of which the EAL arguments give none; hint: give EAL another lcore, for example [\"-l\", \"0-1\"], or two on one CPU with [\"--lcores\", \"0@0,1@0\"]",
    ),
    (
        "\"0-2\"",
        "\"0-x\"",
        "gw.ron:3:11: eal[0]: found `0-x` for -l; expected a list such as 0-3,8; hint: write it as DPDK's EAL takes it, for example [\"-l\", \"0-1\"] or [\"--lcores\", \"0@0,1@0\"]",
    ),
    (
        "\"0-2\", \"--no-pci\"",
        "\"0-2\", \"--main-lcore\", \"5\"",
        "gw.ron:3:24: eal[2]: found main lcore 5; expected one of the EAL's lcores 0,1,2; hint: add it to -l, or choose another",
    ),
    // The process as a whole.
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "",
        "gw.ron:1:1: found neither `board` nor `declared`; expected one of the two; hint: add board: [\"https://host:7480\"], or declared: () to work without a board",
    ),
    (
        "insecure: true",
        "insecure: false",
        "gw.ron:5:13: board[0]: found http://10.9.0.1:7480, which is plain TCP; expected `https://host:port` or `unix:/absolute/path`; hint: `insecure: true` permits it, in a network that nobody else reaches",
    ),
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "board: [\"http://10.9.0.1:7480\"], declared: (),",
        "gw.ron:5:48: declared: found both `board` and `declared`; expected one of the two; hint: remove one; what an operator declares beside a board she declares at the board",
    ),
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "board: [],",
        "gw.ron:5:12: board: found no endpoint; expected at least one; hint: add for example \"https://10.9.0.1:7480\", or use declared: () to work without a board",
    ),
    (
        "\"http://10.9.0.1:7480\"",
        "\"10.9.0.1:7480\"",
        "gw.ron:5:13: board[0]: found `10.9.0.1:7480`, which begins neither with `https://`, `http://` nor `unix:`; expected `https://host:port` (IPv6 in brackets), `unix:/absolute/path` or `http://host:port`; hint: for example https://10.9.0.1:7480 or unix:/run/stopover/bbs.sock",
    ),
    (
        "\"http://10.9.0.1:7480\"",
        "\"http://10.9.0.1:7480\", \"http://10.9.0.1:7480/\"",
        "gw.ron:5:37: board[1]: found http://10.9.0.1:7480 again; expected each endpoint once; hint: remove the repetition",
    ),
    (
        "    board:",
        "    burst: 65, board:",
        "gw.ron:5:12: burst: found 65; expected 1 to 64 frames; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    mbuf_size: 1000, board:",
        "gw.ron:5:16: mbuf_size: found 1000; expected 1536 to 65535 bytes; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    mbufs: 600, mbcache: 512, board:",
        "gw.ron:5:26: mbcache: found 512 with a pool of 600 mbufs; expected one and a half times mbcache to fit the pool; hint: lower mbcache or raise mbufs",
    ),
    (
        "    board:",
        "    idle: adaptive(cap_us: 0), board:",
        "gw.ron:5:28: idle.cap_us: found 0; expected 1 to 100000 microseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    idle: adaptive(poll_us: 10001), board:",
        "gw.ron:5:29: idle.poll_us: found 10001; expected 1 to 10000 microseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    idle: sleepy, board:",
        "gw.ron:5:11: found `sleepy` in `idle`; expected one of `poll`, `adaptive`; hint: remove it, or see docs/configuration.md for the choices",
    ),
    (
        "    board:",
        "    ctl: \"gw.sock\", board:",
        "gw.ron:5:10: ctl: found `gw.sock`; expected an absolute path; hint: begin it with /",
    ),
    (
        "    board:",
        "    metrics: \"9481\", board:",
        "gw.ron:5:14: metrics: found `9481`; expected an address and port; hint: write it as 127.0.0.1:9481 or [::1]:9481",
    ),
    // Migration.
    (
        "    board:",
        "    migration: (hold: 64), board:",
        "gw.ron:5:17: found unknown key `hold` in `migration`; expected one of `hold_mib`, `hold_node_mib`, `hold_ms`, `window_ms`, `marker_wait_ms`; hint: did you mean `hold_ms`?",
    ),
    (
        "    board:",
        "    migration: (hold_mib: 0), board:",
        "gw.ron:5:27: migration.hold_mib: found 0; expected 1 to 65536 MiB; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_mib: 65537), board:",
        "gw.ron:5:27: migration.hold_mib: found 65537; expected 1 to 65536 MiB; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_mib: 16, hold_node_mib: 17), board:",
        "gw.ron:5:46: migration.hold_node_mib: found 17; expected 1 to 16 MiB, the most `hold_mib` allows; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_node_mib: 0), board:",
        "gw.ron:5:32: migration.hold_node_mib: found 0; expected 1 to 64 MiB, the most `hold_mib` allows; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_ms: 99), board:",
        "gw.ron:5:26: migration.hold_ms: found 99; expected 100 to 600000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (hold_ms: 600001), board:",
        "gw.ron:5:26: migration.hold_ms: found 600001; expected 100 to 600000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (window_ms: 9), board:",
        "gw.ron:5:28: migration.window_ms: found 9; expected 10 to 60000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (window_ms: -1), board:",
        "gw.ron:5:28: migration.window_ms: found -1; expected 10 to 60000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (marker_wait_ms: 10001), board:",
        "gw.ron:5:33: migration.marker_wait_ms: found 10001; expected 1 to 10000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    migration: (marker_wait_ms: 0), board:",
        "gw.ron:5:33: migration.marker_wait_ms: found 0; expected 1 to 10000 milliseconds; hint: choose a value within the range, or leave the key out for the default",
    ),
];
