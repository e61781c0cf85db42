//! The ports as the stages see them: their roles are fixed at start. The number of a port is its index in the
//! configuration file, from 0.

use crate::tables::{packed::Bd, peer::Peer};
use arrayvec::ArrayVec;
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use stopover_net::{Mac, VlanId, Vni};

/// Most addresses of one family that a vif or an underlay port may have; link-local comes on top.
pub const MAX_ADDRESSES: usize = 17;

/// Most ports of an appliance.
pub const MAX_PORTS: usize = 1024;

/// A port as the stages see it.
#[derive(Debug, Clone)]
pub struct Port {
    /// Largest layer 3 packet that may be sent from it, in bytes.
    pub mtu: u16,
    /// The device fills in TCP and UDP checksums on request.
    pub fills_checksums: bool,
    /// The device segments TCP on request.
    pub segments_tcp: bool,
    /// What it is for.
    pub role: Role,
}

/// What a port is for.
#[derive(Debug, Clone)]
pub enum Role {
    /// One VM's NIC.
    Vif(Vif),
    /// An L2 segment with stations behind it.
    Segment(Segment),
    /// The wire between hosts.
    Underlay(Underlay),
    /// None: no port has this number.
    Absent,
}

impl Port {
    /// What a number stands for that no port has. A frame for it is dropped because the port is down, not because it is
    /// too big.
    pub const ABSENT: Self =
        Self { mtu: u16::MAX, fills_checksums: false, segments_tcp: false, role: Role::Absent };
}

/// A network's two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// As numbered here.
    pub bd: Bd,
    /// As numbered on the wire.
    pub vni: Vni,
}

/// A port with exactly one, declared station behind it.
#[derive(Debug, Clone)]
pub struct Vif {
    /// The network it is in.
    pub network: Network,
    /// Its station's MAC.
    pub mac: Mac,
    /// Its station's IPv4 addresses.
    pub ipv4: ArrayVec<Ipv4Addr, MAX_ADDRESSES>,
    /// Its station's IPv6 addresses, the MAC's link-local address among them.
    pub ipv6: ArrayVec<Ipv6Addr, MAX_ADDRESSES>,
    /// Addresses were declared; without any, the guard looks at MACs only.
    pub addressed: bool,
    /// Whether it may send only from these addresses and from those in `allowed`.
    pub guard: bool,
    /// What the guard allows besides.
    pub allowed: Allowed,
    /// Addresses that other stations may have as well: the last to announce one owns it.
    pub shared: Box<[IpAddr]>,
}

/// What a guarded vif may do besides sending from its own addresses.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// Further addresses, with the MAC to use them with.
    pub pairs: Box<[Pair]>,
    /// Router advertisements and redirects.
    pub router: bool,
    /// Answers of a DHCP server.
    pub dhcp_server: bool,
}

/// A MAC, and addresses of one family that may be used with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The MAC.
    pub mac: Mac,
    /// The addresses.
    pub prefix: IpNet,
}

impl Pair {
    fn has(&self, mac: Mac, ip: IpAddr) -> bool {
        self.mac == mac && self.prefix.contains(&ip)
    }
}

impl Allowed {
    /// Whether this address may be used with this MAC.
    #[cold]
    #[must_use]
    pub fn has(&self, mac: Mac, ip: IpAddr) -> bool {
        self.pairs.iter().any(|pair| pair.has(mac, ip))
    }

    /// Whether this MAC may be used at all.
    #[cold]
    #[must_use]
    pub fn has_mac(&self, mac: Mac) -> bool {
        self.pairs.iter().any(|pair| pair.mac == mac)
    }
}

/// A port with any number of learned stations behind it.
#[derive(Debug, Clone)]
pub struct Segment {
    /// The network of untagged frames.
    pub untagged: Option<Network>,
    /// By VLAN identifier, the network it maps to.
    vlans: Box<[Option<Network>; 4096]>,
    /// Its present restrictions.
    pub gate: Arc<Gate>,
}

/// VLANs (0 for untagged), one bit each. The control thread changes them while the packet path reads.
#[derive(Debug)]
struct VlanSet([AtomicU64; 64]);

impl Default for VlanSet {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl VlanSet {
    #[inline]
    fn has(&self, vlan: u16) -> bool {
        let bits = self.0.get(usize::from(vlan / 64)).map_or(0, |bits| bits.load(Relaxed));
        bits >> (vlan % 64) & 1 != 0
    }

    fn set(&self, vlan: u16, on: bool) {
        let Some(bits) = self.0.get(usize::from(vlan / 64)) else { return };
        let bit = 1 << (vlan % 64);
        if on {
            bits.fetch_or(bit, Relaxed)
        } else {
            bits.fetch_and(!bit, Relaxed)
        };
    }
}

/// The present restrictions of a segment port. Set by the control thread.
#[derive(Debug, Default)]
pub struct Gate {
    port_full: AtomicBool,
    rate_exceeded: AtomicBool,
    vlan_full: VlanSet,
    vlan_blocked: VlanSet,
}

impl Gate {
    /// Whether no new station of this VLAN (0 for untagged) is accepted. Checked for unknown stations only.
    #[must_use]
    pub fn is_closed(&self, vlan: u16) -> bool {
        self.port_full.load(Relaxed) || self.rate_exceeded.load(Relaxed) || self.vlan_full.has(vlan)
    }

    /// Whether the port is blocked for the network of this VLAN: no frame is accepted from it or flooded to it,
    /// because another port forwards for the same LAN.
    #[inline]
    #[must_use]
    pub fn is_blocked(&self, vlan: u16) -> bool {
        self.vlan_blocked.has(vlan)
    }

    /// Blocks or unblocks the port for the network of this VLAN.
    pub fn set_blocked(&self, vlan: u16, on: bool) {
        self.vlan_blocked.set(vlan, on);
    }

    /// Sets whether the port has reached its limit of stations.
    pub fn set_port_full(&self, full: bool) {
        self.port_full.store(full, Relaxed);
    }

    /// Sets whether the port exceeds its rate of new stations. Returns the value before.
    pub fn set_rate_exceeded(&self, exceeded: bool) -> bool {
        self.rate_exceeded.swap(exceeded, Relaxed)
    }

    /// Sets whether the network of this VLAN has reached its limit of stations.
    pub fn set_vlan_full(&self, vlan: u16, full: bool) {
        self.vlan_full.set(vlan, full);
    }
}

impl Segment {
    /// A segment with these networks.
    #[must_use]
    pub fn new(untagged: Option<Network>, map: impl IntoIterator<Item = (VlanId, Network)>) -> Self {
        let mut vlans = Box::new([None; 4096]);
        for (vlan, bd) in map {
            vlans[usize::from(vlan.get())] = Some(bd);
        }
        Self { untagged, vlans, gate: Arc::default() }
    }

    /// The network of a frame with this VLAN identifier; 0 is untagged, or tagged with a priority only.
    #[inline]
    #[must_use]
    pub fn network(&self, vid: u16) -> Option<Network> {
        match vid {
            0 => self.untagged,
            vid => self.vlans.get(usize::from(vid)).copied().flatten(),
        }
    }
}

/// A port towards other hosts.
#[derive(Debug, Clone)]
pub struct Underlay {
    /// Its own MAC.
    pub mac: Mac,
    /// The VLAN tag that underlay frames carry.
    pub vlan: Option<VlanId>,
    /// The UDP port of VXLAN.
    pub udp_port: u16,
    /// The VTEP addresses it owns.
    pub addresses: ArrayVec<IpAddr, MAX_ADDRESSES>,
    /// The outer DSCP carries the priority of a frame on trunks (IEEE 802.1Q), and not its own DSCP.
    pub pcp: bool,
    /// Whether IPv6 datagrams without a UDP checksum are accepted (RFC 6935, RFC 6936).
    pub udp6_zero_checksum: bool,
}

impl Underlay {
    /// Whether it owns this VTEP address.
    #[inline(always)]
    #[must_use]
    pub fn has_address(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }
}

/// Where a frame came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A vif or segment port, with the VLAN it was tagged with (0 for none).
    Port {
        /// The port.
        port: u16,
        /// Its VLAN.
        vlan: u16,
    },
    /// Another host.
    Underlay {
        /// The sender.
        peer: Peer,
        /// The old host of the node redirected the frame.
        hop: bool,
        /// The nodes to which the host sent separate copies ([`stopover_net::vxlan::separate_copy_bit`]).
        apart: u32,
    },
}

impl Origin {
    /// Whether the frame came from another host.
    #[must_use]
    pub const fn is_underlay(self) -> bool {
        matches!(self, Self::Underlay { .. })
    }
}
