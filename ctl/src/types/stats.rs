//! Ports, counters, lcores, drops.

use serde::{Deserialize, Serialize};
use stopover_net::{Mac, VlanId, Vni};

/// One port as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Name in the configuration.
    pub name: String,
    /// DPDK device name: vdev or PCI address.
    pub device: String,
    /// DPDK port id.
    pub port_id: u16,
    /// DPDK driver.
    pub driver: String,
    /// What it is for, with what belongs to that.
    pub role: PortRole,
    /// The device's own MAC.
    pub mac: Mac,
    /// MTU in bytes of IP packet.
    pub mtu: u16,
    /// On an underlay port, the largest IP packet of a guest that fits, by family of its VTEP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<Inside>,
    /// Accepts frames for every MAC.
    pub promiscuous: bool,
    /// Link, or for vhost-user the guest's driver, is up.
    pub link_up: bool,
    /// Whether its device is in service; the link is down while it is not.
    #[serde(default)]
    pub device_state: DeviceState,
    /// Speed in Mb/s; absent when the device does not know.
    pub speed_mbps: Option<u32>,
    /// Full duplex.
    pub full_duplex: bool,
    /// NUMA socket; absent when the device belongs to none.
    pub socket: Option<u32>,
    /// Receive descriptors per queue.
    pub rxd: u16,
    /// Transmit descriptors per queue.
    pub txd: u16,
    /// The lcore of each receive queue, by queue number.
    pub rxq_lcores: Vec<u32>,
    /// Transmit queues.
    pub txq: u16,
    /// Receive offloads in use, DPDK's names.
    pub rx_offloads: Vec<String>,
    /// Transmit offloads in use, DPDK's names.
    pub tx_offloads: Vec<String>,
}

/// Whether the device of a port is in service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// It is.
    #[default]
    InService,
    /// Its driver repairs it after an error.
    Recovering,
    /// It is being reset.
    Resetting,
    /// It is being closed and opened again, because its driver could not repair it, or resets failed.
    Failed,
    /// It was removed; the port waits for it.
    Removed,
}

/// How much of an underlay port's MTU is left inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The outer packets are IPv6, otherwise IPv4.
    pub over_ipv6: bool,
    /// Largest inner IP packet in bytes.
    pub mtu: u16,
}

/// Role of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PortRole {
    /// The wire between hosts.
    Underlay {
        /// VTEP addresses with prefix length.
        addresses: Vec<String>,
        /// 802.1Q tag, if any.
        vlan: Option<VlanId>,
    },
    /// One VM's NIC.
    Vif {
        /// Its network.
        vni: Vni,
        /// The VM's MAC.
        vm_mac: Mac,
        /// The VM's addresses.
        addresses: Vec<std::net::IpAddr>,
        /// The guard is on.
        guard: bool,
    },
    /// A segment with many stations.
    Segment {
        /// Network of untagged frames.
        vni: Option<Vni>,
        /// Networks of tagged frames.
        vlans: Vec<(VlanId, Vni)>,
        /// Stations learned or declared at this moment.
        stations: u64,
        /// Networks for which it is blocked.
        #[serde(default)]
        blocked: Vec<BlockedSegment>,
    },
}

/// A network for which a segment port is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedSegment {
    /// The network.
    pub vni: Vni,
    /// Its VLAN there, if it is tagged.
    pub vlan: Option<VlanId>,
    /// Why.
    pub reason: String,
}

/// Counters of the device, as `rte_eth_stats_get` gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are testpmd's and DPDK's own")]
pub struct PortStats {
    pub name: String,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub rx_nombuf: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
}

/// What forwarding did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwdStats {
    /// By port, in the order of the configuration.
    pub ports: Vec<PortFwd>,
    /// All ports and lcores together.
    pub accounting: Accounting,
}

/// Forwarding by port: what was taken from it, what was given to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFwd {
    /// Port name.
    pub name: String,
    /// Frames received and processed.
    pub rx_packets: u64,
    /// Frames that the device dropped because they were not read in time (`rx_missed`), as testpmd counts them; not
    /// among `rx_packets`. What forwarding dropped is in `Accounting::dropped`.
    pub rx_dropped: u64,
    /// Frames the device accepted for sending.
    pub tx_packets: u64,
    /// Frames meant for this port that it did not accept.
    pub tx_dropped: u64,
}

/// Packet accounting: at a quiet moment `received + copied + originated = sent + to_control + held + dropped`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Frames taken from ports.
    pub received: u64,
    /// Further copies made by replication.
    pub copied: u64,
    /// Frames made here: ARP and ND answers, ICMP errors, resolution requests.
    pub originated: u64,
    /// Frames ports accepted.
    pub sent: u64,
    /// Frames consumed by the control thread.
    pub to_control: u64,
    /// Frames held at this moment.
    pub held: u64,
    /// Frames dropped, all reasons.
    pub dropped: u64,
    /// What the above does not explain; 0 when all is well. Negative when something was counted twice.
    /// While frames are in flight a reading may be off by what is between two counters.
    pub unaccounted: i64,
}

impl Accounting {
    /// What the other fields do not explain.
    #[must_use]
    pub fn balance(&self) -> i64 {
        let into = i128::from(self.received) + i128::from(self.copied) + i128::from(self.originated);
        let out = i128::from(self.sent)
            + i128::from(self.to_control)
            + i128::from(self.held)
            + i128::from(self.dropped);
        i64::try_from(into - out).unwrap_or(if into > out { i64::MAX } else { i64::MIN })
    }
}

/// What a worker lcore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LcoreState {
    /// The control thread's.
    Main,
    /// Polls without sleeping.
    Polling,
    /// Sleeps between polls.
    Sleeping,
    /// Has no queue.
    Idle,
    /// Not running.
    Stopped,
}

/// Counters of one lcore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LcoreStats {
    /// DPDK lcore id.
    pub lcore: u32,
    /// NUMA socket of its CPU.
    #[serde(default)]
    pub socket: u32,
    /// What it is doing.
    pub state: LcoreState,
    /// Its receive queues as `port:queue`.
    pub queues: Vec<String>,
    /// Receive calls.
    pub polls: u64,
    /// Receive calls that brought nothing.
    pub empty_polls: u64,
    /// Receive calls that brought frames.
    pub bursts: u64,
    /// Frames received.
    pub frames: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// TSC cycles spent on bursts.
    pub busy_cycles: u64,
    /// TSC cycles spent on empty polls and sleep.
    pub idle_cycles: u64,
    /// `busy_cycles` by frame; absent before the first frame.
    pub cycles_per_frame: Option<f64>,
    /// Board revision it forwards by.
    pub revision: u64,
}

/// One reason frames were dropped for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// Stable name.
    pub reason: String,
    /// Frames.
    pub count: u64,
    /// What it means, for people.
    pub explanation: String,
    /// Frames by lcore.
    pub lcores: Vec<LcoreCount>,
}

/// A count that belongs to an lcore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LcoreCount {
    /// DPDK lcore id.
    pub lcore: u32,
    /// Frames.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::Accounting;

    #[test]
    fn accounting_holds() {
        let mut b = Accounting {
            received: 10,
            copied: 3,
            originated: 2,
            sent: 9,
            to_control: 1,
            held: 2,
            dropped: 3,
            unaccounted: 0,
        };
        assert_eq!(b.balance(), 0);
        b.dropped = 5;
        assert_eq!(b.balance(), -2);
        b.dropped = 0;
        assert_eq!(b.balance(), 3);
    }
}
