//! Mistakes in the key `tunnels`.

use super::Case;

pub const CASES: &[Case] = &[
    (
        "board: [\"http://10.9.0.1:7480\"],",
        "declared: (), tunnels: (),",
        "gw.ron:5:28: tunnels: found `tunnels` beside `declared`; expected it with a board, from which hosts have each other's public keys; hint: remove it, or use `board`",
    ),
    (
        "    board:",
        "    tunnels: (node: required), board:",
        "gw.ron:5:15: found unknown key `node` in `tunnels`; expected one of `mode`, `networks`, `hosts`, `cipher`, `window`, `engine`, `peers`, `rekey_s`, `export_keys`; hint: did you mean `mode`?",
    ),
    (
        "    board:",
        "    tunnels: (mode: on), board:",
        "gw.ron:5:21: found `on` in `mode`; expected one of `off`, `required`; hint: remove it, or see docs/configuration.md for the choices",
    ),
    (
        "    board:",
        "    tunnels: (cipher: aes192), board:",
        "gw.ron:5:23: found `aes192` in `cipher`; expected one of `aes128`, `aes256`; hint: did you mean `aes128`?",
    ),
    (
        "    board:",
        "    tunnels: (engine: openssl), board:",
        "gw.ron:5:23: found `openssl` in `engine`; expected one of `auto`, `ipsec_mb`, `aws_lc`; hint: remove it, or see docs/configuration.md for the choices",
    ),
    (
        "    board:",
        "    tunnels: (networks: {0: required}), board:",
        "gw.ron:5:26: tunnels.networks[0]: found `0`; expected a VNI from 1 to 16777215 (24 bits, RFC 7348); hint: choose a network identifier within the range",
    ),
    (
        "    board:",
        "    tunnels: (networks: {100: required, 200: off, 100: off}), board:",
        "gw.ron:5:51: tunnels.networks[2]: found network 100 again; expected each network once; hint: remove one of the two",
    ),
    (
        "    board:",
        "    tunnels: (hosts: {\"hv b\": off}), board:",
        "gw.ron:5:23: tunnels.hosts[0]: found `hv b`; expected a host name of 1 to 63 of A-Z a-z 0-9 . _ -, beginning with a letter or digit; hint: rename the host; the name appears in certificates, file names and metrics",
    ),
    (
        "    board:",
        "    tunnels: (hosts: {\"gw-b\": off, \"gw-b\": required}), board:",
        "gw.ron:5:36: tunnels.hosts[1]: found host `gw-b` again; expected each host once; hint: remove one of the two",
    ),
    (
        "    board:",
        "    tunnels: (hosts: {\"gw-a\": off}), board:",
        "gw.ron:5:23: tunnels.hosts[0]: found `gw-a`, this host itself; expected the name of another host; hint: remove it: frames that stay on a host need no tunnel",
    ),
    (
        "    board:",
        "    tunnels: (window: 2047), board:",
        "gw.ron:5:23: tunnels.window: found 2047; expected 2048 to 1048576 frames; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    tunnels: (window: 1048577), board:",
        "gw.ron:5:23: tunnels.window: found 1048577; expected 2048 to 1048576 frames; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    tunnels: (peers: 0), board:",
        "gw.ron:5:22: tunnels.peers: found 0; expected 1 to 65536 hosts; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    tunnels: (peers: 65537), board:",
        "gw.ron:5:22: tunnels.peers: found 65537; expected 1 to 65536 hosts; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    tunnels: (rekey_s: 4), board:",
        "gw.ron:5:24: tunnels.rekey_s: found 4; expected 5 to 3600 seconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    tunnels: (rekey_s: 3601), board:",
        "gw.ron:5:24: tunnels.rekey_s: found 3601; expected 5 to 3600 seconds; hint: choose a value within the range, or leave the key out for the default",
    ),
    (
        "    board:",
        "    tunnels: (export_keys: \"esp_sa\"), board:",
        "gw.ron:5:28: tunnels.export_keys: found `esp_sa`; expected an absolute path; hint: begin it with /",
    ),
];
