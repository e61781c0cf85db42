//! The shapes of the RON file as serde sees them: texts, numbers and lists, nothing checked but that every
//! key is known. `validate` consumes them; that of a port is also kept as [`super::PortText`].

use super::{TunnelCipher, TunnelEngine, TunnelMode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, marker::PhantomData};

#[derive(Deserialize)]
#[serde(rename = "appliance", deny_unknown_fields)]
pub(super) struct Appliance {
    pub name: String,
    #[serde(default)]
    pub eal: Vec<String>,
    #[serde(default)]
    pub vdevs: Vec<String>,
    pub burst: Option<i64>,
    pub rxd: Option<i64>,
    pub txd: Option<i64>,
    pub mbcache: Option<i64>,
    pub mbufs: Option<i64>,
    pub mbuf_size: Option<i64>,
    pub idle: Option<Idle>,
    pub board: Option<Vec<String>>,
    pub tls: Option<String>,
    #[serde(default)]
    pub insecure: bool,
    pub declared: Option<Declared>,
    pub ctl: Option<String>,
    pub metrics: Option<String>,
    pub max_network_stations: Option<i64>,
    pub stale_ms: Option<i64>,
    pub checkpoint_s: Option<i64>,
    #[serde(default)]
    pub migration: Migration,
    pub tunnels: Option<Tunnels>,
    pub ports: Vec<Port>,
    pub lcores: Option<Entries<i64, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(rename = "idle", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Idle {
    Poll,
    Adaptive { cap_us: Option<i64>, poll_us: Option<i64> },
}

#[derive(Default, Deserialize)]
#[serde(rename = "migration", deny_unknown_fields)]
pub(super) struct Migration {
    pub hold_mib: Option<i64>,
    pub hold_node_mib: Option<i64>,
    pub hold_ms: Option<i64>,
    pub window_ms: Option<i64>,
    pub marker_wait_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename = "tunnels", deny_unknown_fields)]
pub(super) struct Tunnels {
    #[serde(default)]
    pub mode: TunnelMode,
    pub networks: Option<Entries<i64, TunnelMode>>,
    pub hosts: Option<Entries<String, TunnelMode>>,
    #[serde(default)]
    pub cipher: TunnelCipher,
    pub window: Option<i64>,
    #[serde(default)]
    pub engine: TunnelEngine,
    pub peers: Option<i64>,
    pub rekey_s: Option<i64>,
    pub export_keys: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "port", deny_unknown_fields)]
pub(super) struct Port {
    pub name: String,
    pub device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rxq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txq: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promiscuous: Option<bool>,
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "role", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Role {
    Underlay {
        addresses: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        vlan: Option<i64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gateways: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        routes: Vec<Route>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        neighbours: Vec<Neighbour>,
        #[serde(skip_serializing_if = "Option::is_none")]
        udp_port: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ttl: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dscp: Option<Dscp>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        udp6_zero_checksum: bool,
    },
    Vif {
        vni: i64,
        mac: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        addresses: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shared_addresses: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        guard: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        allowed: Option<Vec<Allowed>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        router: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        dhcp_server: Option<bool>,
    },
    Segment {
        #[serde(skip_serializing_if = "Option::is_none")]
        vni: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        vlans: Option<Entries<i64, i64>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ageing_s: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_stations: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        new_stations_per_s: Option<i64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stations: Vec<Station>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "allowed", deny_unknown_fields)]
pub(super) struct Allowed {
    pub ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "route", deny_unknown_fields)]
pub(super) struct Route {
    pub to: String,
    pub via: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "neighbour", deny_unknown_fields)]
pub(super) struct Neighbour {
    pub ip: String,
    pub mac: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "dscp", rename_all = "lowercase")]
pub(super) enum Dscp {
    Copy,
    Pcp,
    Fixed(i64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "station", deny_unknown_fields)]
pub(super) struct Station {
    pub mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename = "declared", deny_unknown_fields)]
pub(super) struct Declared {
    #[serde(default)]
    pub hosts: Vec<Host>,
    #[serde(default)]
    pub networks: Vec<Network>,
    #[serde(default)]
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub members: Vec<Member>,
    pub hosts_file: Option<String>,
    pub networks_file: Option<String>,
    pub nodes_file: Option<String>,
    pub members_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename = "host", deny_unknown_fields)]
pub(super) struct Host {
    pub name: String,
    pub vteps: Vec<String>,
    pub udp_port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename = "network", deny_unknown_fields)]
pub(super) struct Network {
    pub vni: i64,
    pub name: Option<String>,
    pub flood: Option<String>,
    pub mtu: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename = "node", deny_unknown_fields)]
pub(super) struct Node {
    pub vni: i64,
    pub mac: String,
    pub host: String,
    #[serde(default)]
    pub ips: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename = "member", deny_unknown_fields)]
pub(super) struct Member {
    pub vni: i64,
    pub host: String,
    #[serde(default)]
    pub segment: bool,
}

/// A RON map in the order of the file, repetitions included: a `BTreeMap` would silently keep the last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entries<K, V>(pub Vec<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> de::Visitor<'de> for Visitor<K, V> {
            type Value = Entries<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map { key: value, … }")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        d.deserialize_map(Visitor(PhantomData))
    }
}

impl<K: Serialize, V: Serialize> Serialize for Entries<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}
