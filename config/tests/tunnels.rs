//! The values of the `tunnels` key, and the mode that they give a frame.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use TunnelMode::{Off, Required};
use std::path::Path;
use stopover_config::appliance::{self, TunnelCipher, TunnelEngine, TunnelMode, Tunnels};
use stopover_net::{HostName, Vni};

fn parse(key: &str) -> Option<Tunnels> {
    let text = format!(
        r#"(
            name: "hv-a",
            vdevs: ["net_null0"],
            board: ["unix:/run/bbs.sock"],
            {key}
            ports: [(name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"]))],
        )"#
    );
    appliance::parse(&text, Path::new("hv-a.ron")).unwrap_or_else(|e| panic!("{e}")).tunnels
}

fn tunnels(keys: &str) -> Tunnels {
    parse(&format!("tunnels: ({keys}),")).unwrap()
}

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

#[test]
fn all_keys_have_defaults() {
    let defaults = Tunnels {
        mode: Off,
        networks: [].into(),
        hosts: [].into(),
        cipher: TunnelCipher::Aes128,
        window: 2048,
        engine: TunnelEngine::Auto,
        peers: 16_384,
        rekey_s: 120,
        export_keys: None,
    };
    assert_eq!(parse(""), None);
    assert_eq!(tunnels(""), defaults);
    let spelled = "mode: off, networks: {}, hosts: {}, cipher: aes128, window: 2048, engine: auto, peers: 16384, \
                   rekey_s: 120, export_keys: None";
    assert_eq!(tunnels(spelled), defaults, "the documented defaults, spelled out");
}

#[test]
fn every_key_has_its_value() {
    let all = tunnels(
        r#"mode: required, networks: {100: off, 7: required}, hosts: {"hv-b": off}, cipher: aes256, window: 1048576,
           engine: ipsec_mb, peers: 65536, rekey_s: 3600, export_keys: "/run/stopover/esp_sa""#,
    );
    let expected = Tunnels {
        mode: Required,
        networks: [(vni(7), Required), (vni(100), Off)].into(),
        hosts: [(host("hv-b"), Off)].into(),
        cipher: TunnelCipher::Aes256,
        window: 1_048_576,
        engine: TunnelEngine::IpsecMb,
        peers: 65_536,
        rekey_s: 3600,
        export_keys: Some("/run/stopover/esp_sa".into()),
    };
    assert_eq!(all, expected);
    let least = tunnels("engine: aws_lc, peers: 1, rekey_s: 5");
    assert_eq!((least.engine, least.peers, least.rekey_s), (TunnelEngine::AwsLc, 1, 5));
}

/// Networks and hosts 1, 2, 3 of `networks` and `hosts`: without a mode, off, required.
const NETWORKS: [u32; 3] = [1, 2, 3];
const HOSTS: [&str; 3] = ["h1", "h2", "h3"];

#[test]
fn required_decides_before_off_and_both_before_the_default() {
    for (word, default) in [("off", Off), ("required", Required)] {
        let tunnels = tunnels(&format!(
            r#"mode: {word}, networks: {{2: off, 3: required}}, hosts: {{"h2": off, "h3": required}}"#
        ));
        let found = NETWORKS.map(|n| HOSTS.map(|h| tunnels.mode_of(vni(n), &host(h))));
        let expected = [[default, Off, Required], [Off, Off, Required], [Required, Required, Required]];
        assert_eq!(found, expected, "mode: {word}");
    }
}

/// By the definition: for each network and host that could be, named or not.
#[test]
fn what_always_requires_is_what_every_pair_requires() {
    let maps = ["", "2: off", "3: required", "2: off, 3: required"];
    let mut required = 0;
    for default in ["off", "required"] {
        for networks in maps {
            for hosts in maps {
                let hosts = hosts.replace('2', "\"h2\"").replace('3', "\"h3\"");
                let keys = format!("mode: {default}, networks: {{{networks}}}, hosts: {{{hosts}}}");
                let tunnels = tunnels(&keys);
                for n in NETWORKS {
                    let all = HOSTS.iter().all(|h| tunnels.mode_of(vni(n), &host(h)) == Required);
                    assert_eq!(tunnels.network_requires(vni(n)), all, "network {n} of {keys}");
                    required += u32::from(all);
                }
                for h in HOSTS {
                    let all = NETWORKS.iter().all(|n| tunnels.mode_of(vni(*n), &host(h)) == Required);
                    assert_eq!(tunnels.host_requires(&host(h)), all, "host {h} of {keys}");
                    required += u32::from(all);
                }
            }
        }
    }
    assert_eq!(required, 64, "of 192");
}
