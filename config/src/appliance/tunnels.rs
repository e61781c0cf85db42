//! The `tunnels` key: which frames between hosts must be encrypted, and how. Enters: the raw keys, the host's own name,
//! whether there is a board. Leaves: modes by network and by host, each named once, and values within their ranges.

use super::{Truth, raw};
use crate::{
    fault::{Checked, fault},
    read, text,
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};
use stopover_net::{HostName, Vni};

/// Encrypted tunnels of this appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnels {
    /// For all that neither `networks` nor `hosts` names.
    pub mode: TunnelMode,
    /// Networks with a mode of their own.
    pub networks: BTreeMap<Vni, TunnelMode>,
    /// Other hosts with a mode of their own; never this one.
    pub hosts: BTreeMap<HostName, TunnelMode>,
    /// The least that frames are sealed with: the stronger of what the two hosts have.
    pub cipher: TunnelCipher,
    /// How far behind the newest frame of its SA a frame may come, in frames, 2048 to 1048576.
    pub window: u32,
    /// What does the sealing.
    pub engine: TunnelEngine,
    /// Most hosts with a tunnel at a time, 1 to 65536.
    pub peers: u32,
    /// Age at which keys are replaced, seconds, 5 to 3600.
    pub rekey_s: u32,
    /// A debug switch: the file that the keys of all SAs are written to, absolute.
    pub export_keys: Option<PathBuf>,
}

/// Whether frames must be sealed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "mode", rename_all = "snake_case")]
pub enum TunnelMode {
    /// They are sent plain, and accepted plain and sealed.
    #[default]
    Off,
    /// They are sent sealed or not at all, and accepted only sealed.
    Required,
}

/// What frames are sealed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "cipher", rename_all = "snake_case")]
pub enum TunnelCipher {
    /// AES-128-GCM.
    #[default]
    Aes128,
    /// AES-256-GCM.
    Aes256,
}

/// What does the sealing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename = "engine", rename_all = "snake_case")]
pub enum TunnelEngine {
    /// The faster one that this CPU has.
    #[default]
    Auto,
    /// Intel's library, only on CPUs that it is made for.
    IpsecMb,
    /// The portable one.
    AwsLc,
}

/// The least that catches reordering between the queues of a NIC.
pub(super) const WINDOW: u32 = 2048;
pub(super) const PEERS: u32 = 16_384;
/// Keys that are stolen open two minutes of traffic.
pub(super) const REKEY_S: u32 = 120;

pub(super) fn check(raw: Option<raw::Tunnels>, own: &HostName, truth: &Truth) -> Checked<Option<Tunnels>> {
    let Some(raw) = raw else { return Ok(None) };
    if matches!(truth, Truth::Declared(_)) {
        return Err(fault(
            "tunnels",
            "`tunnels` beside `declared`",
            "it with a board, from which hosts have each other's public keys",
            "remove it, or use `board`",
        ));
    }
    Ok(Some(Tunnels {
        mode: raw.mode,
        networks: networks(raw.networks.map_or_else(Vec::new, |entries| entries.0))?,
        hosts: hosts(raw.hosts.map_or_else(Vec::new, |entries| entries.0), own)?,
        cipher: raw.cipher,
        window: read::number("tunnels.window", raw.window, WINDOW, WINDOW..=1 << 20, "frames")?,
        engine: raw.engine,
        peers: read::number("tunnels.peers", raw.peers, PEERS, 1..=65_536, "hosts")?,
        rekey_s: read::number("tunnels.rekey_s", raw.rekey_s, REKEY_S, 5..=3600, "seconds")?,
        export_keys: raw.export_keys.map(|s| read::absolute("tunnels.export_keys", &s)).transpose()?,
    }))
}

fn networks(raw: Vec<(i64, TunnelMode)>) -> Checked<BTreeMap<Vni, TunnelMode>> {
    let mut networks = BTreeMap::new();
    for (i, (n, mode)) in raw.into_iter().enumerate() {
        let at = format!("tunnels.networks{{{i}}}");
        let vni = text::vni(n).map_err(|w| fault(&at, format!("`{n}`"), w.expected, w.hint))?;
        if networks.insert(vni, mode).is_some() {
            return Err(fault(
                at,
                format!("network {vni} again"),
                "each network once",
                "remove one of the two",
            ));
        }
    }
    Ok(networks)
}

fn hosts(raw: Vec<(String, TunnelMode)>, own: &HostName) -> Checked<BTreeMap<HostName, TunnelMode>> {
    let mut hosts = BTreeMap::new();
    for (i, (s, mode)) in raw.into_iter().enumerate() {
        let at = format!("tunnels.hosts{{{i}}}");
        let host = text::host_name(&s)
            .map_err(|w| fault(&at, format!("`{}`", s.escape_debug()), w.expected, w.hint))?;
        if host == *own {
            return Err(fault(
                at,
                format!("`{host}`, this host itself"),
                "the name of another host",
                "remove it: frames that stay on a host need no tunnel",
            ));
        }
        if hosts.contains_key(&host) {
            return Err(fault(at, format!("host `{host}` again"), "each host once", "remove one of the two"));
        }
        hosts.insert(host, mode);
    }
    Ok(hosts)
}

impl Tunnels {
    /// The mode of frames of network `vni` to and from `host`. `required` of the network or of the host decides before
    /// `off` of the other, and both before the default. So a receiver refuses a plain frame of network `vni` from `host`
    /// exactly if this is [`TunnelMode::Required`].
    #[must_use]
    pub fn mode_of(&self, vni: Vni, host: &HostName) -> TunnelMode {
        let named = [self.networks.get(&vni), self.hosts.get(host)];
        let has = |mode| named.contains(&Some(&mode));
        if has(TunnelMode::Required) {
            TunnelMode::Required
        } else if has(TunnelMode::Off) {
            TunnelMode::Off
        } else {
            self.mode
        }
    }

    /// Whether [`Tunnels::mode_of`] is `required` for this network whichever the host: of a frame of this network it
    /// need not be known who sent it.
    #[must_use]
    pub fn network_requires(&self, vni: Vni) -> bool {
        self.always(self.networks.get(&vni), self.hosts.values())
    }

    /// Whether [`Tunnels::mode_of`] is `required` for this host whichever the network: of a frame of this host the
    /// network need not be known, and the host never needs a plain path.
    #[must_use]
    pub fn host_requires(&self, host: &HostName) -> bool {
        self.always(self.hosts.get(host), self.networks.values())
    }

    /// An explicit `required` always holds. An explicit `off` does not: the other axis has names without a mode. The
    /// default `required` holds if nothing on the other axis is `off`.
    fn always<'a>(&self, own: Option<&TunnelMode>, mut other: impl Iterator<Item = &'a TunnelMode>) -> bool {
        match own.copied() {
            Some(mode) => mode == TunnelMode::Required,
            None => self.mode == TunnelMode::Required && other.all(|mode| *mode == TunnelMode::Required),
        }
    }
}
