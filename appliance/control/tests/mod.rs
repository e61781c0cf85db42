//! Tests of the control thread's pure parts: the replica, the stations, and the plan from a configuration.
//! They write real tables and look at what a reader then sees.

mod checkpoint;
mod claims;
mod model;
mod plan;
mod ports;
mod replica;
mod rows;
mod source;
mod stations;
mod timeouts;

use super::effects::{Effect, Limit, Removal, Report};
use super::replica::{Replica, ReplicaCtx};
use super::station_limits::PortLimits;
use super::stations::{Declared, Kind, Stations};
use crate::pipeline::Learn;
use crate::tables::{
    Full, Tables, View,
    entries::{EncapTemplate, Member, NetworkEntry, Path, Seal},
    packed::{Bd, FdbEntry},
    peer::{Peer, Slot},
};
use std::net::IpAddr;
use stopover_bbs::model::{Change, DeclaredBy, Host, Network, Node, NodeBatch, NodeFacts};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};
use stopover_net::{
    ecn::OuterTos,
    outer::{OuterHeader, OuterSpec},
};

/// The number of this appliance's own host at the board.
const OWN: u32 = 1;
/// VNIs that this appliance is in.
const VNIS: [u32; 2] = [100, 200];

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn mac(n: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, n])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(id: u32) -> HostName {
    HostName::new(format!("host-{id}")).unwrap()
}

fn host(id: u32, vteps: &[&str], udp_port: u16) -> Change {
    let vteps = vteps.iter().map(|text| ip(text)).collect();
    Change::HostPut(Host {
        id,
        name: name(id),
        vteps,
        udp_port,
        declared_by: DeclaredBy::Appliance,
        up: true,
        no_flood: false,
        down_unix_ms: 0,
        details: Default::default(),
    })
}

fn node(mac: Mac, host_id: u32, ips: &[&str], gone_ips: &[&str]) -> Change {
    let ips = ips.iter().map(|text| ip(text)).collect();
    Change::NodePut {
        node: Node { vni: vni(100), mac, ips, host_id, generation: 1, facts: NodeFacts::default() },
        gone_ips: gone_ips.iter().map(|text| ip(text)).collect(),
    }
}

/// Tables with a view, a replica and stations over them, as the control thread has them.
struct Lab {
    tables: Tables,
    view: View,
    replica: Replica,
    stations: Stations,
    bds: [Bd; 2],
    now_ms: u64,
}

/// The underlay has IPv4 only.
fn routable(ip: IpAddr) -> bool {
    ip.is_ipv4()
}

impl Lab {
    /// `declared`: stations by network (index into [`VNIS`]), MAC, port, addresses and kind. Ports 10
    /// and 11 are segments of network 100 that age after 300 seconds.
    fn new(declared: &[(usize, Mac, u16, &[IpAddr], Kind)]) -> Self {
        let (mut tables, views) = Tables::new(1).unwrap();
        let bds = VNIS.map(|n| tables.bd(vni(n)).unwrap());
        let member = |port, segment| Member { port, vlan: 0, segment };
        let mut ports = [vec![member(10, true), member(11, true)], vec![]];
        for (bd, _, port, _, _) in declared {
            ports[*bd].push(member(*port, false));
        }
        let networks = VNIS.iter().zip(bds).zip(ports).map(|((n, bd), ports)| (vni(*n), bd, ports));
        let replica = Replica::new(name(OWN), networks);
        let declared = declared
            .iter()
            .map(|(bd, mac, port, ips, kind)| Declared {
                bd: bds[*bd],
                mac: *mac,
                port: *port,
                vlan: 0,
                ips: ips.to_vec(),
                shared: Vec::new(),
                kind: *kind,
            })
            .collect();
        let vnis = bds.into_iter().zip(VNIS.map(vni)).collect();
        let ageing = [(10, 300_000), (11, 300_000)].into_iter().collect();
        let stations = Stations::new(declared, vnis, ageing);
        let view = views.into_iter().next().unwrap().online();
        Self { tables, view, replica, stations, bds, now_ms: 1000 }
    }

    fn with<R>(&mut self, f: impl FnOnce(&mut Replica, &mut ReplicaCtx) -> R) -> R {
        let mut ctx = ReplicaCtx { tables: &mut self.tables, stations: &self.stations, routable: &routable };
        f(&mut self.replica, &mut ctx)
    }

    fn apply(&mut self, change: Change) -> Vec<Effect> {
        self.with(|replica, ctx| replica.apply(ctx, change)).unwrap()
    }

    fn end_snapshot(&mut self) -> Vec<Effect> {
        self.with(Replica::end_snapshot).unwrap()
    }

    /// A port gains or loses its link.
    fn link(&mut self, port: u16, up: bool) -> Vec<Effect> {
        self.replica.port(port, up);
        self.stations.port(&mut self.tables, self.now_ms, port, up)
    }

    /// A frame of a station of network 100 arrives.
    fn learn(&mut self, port: u16, mac: Mac, ip: Option<IpAddr>) -> Vec<Effect> {
        let learn = Learn { port, bd: self.bds[0], vlan: 0, mac, ip };
        self.stations.learn(&mut self.tables, self.now_ms, &learn)
    }

    fn refuse(&mut self, mac: Mac) -> Vec<Effect> {
        self.stations.refused(&mut self.tables, self.now_ms, vni(100), mac, "elsewhere")
    }

    fn accept(&mut self, mac: Mac) {
        self.stations.accepted(&mut self.tables, self.now_ms, vni(100), mac, None);
    }

    fn age(&mut self, ms: u64) -> Vec<Effect> {
        self.now_ms += ms;
        self.stations.age(&mut self.tables, self.now_ms)
    }

    fn publish(&mut self) -> Result<(), Full> {
        self.view.quiescent();
        self.replica.publish(&mut self.tables)?;
        self.tables.publish();
        Ok(())
    }

    /// Where a node of network 100 is: the port of a station of ours, or the number of its host.
    fn location(&self, mac: Mac) -> Where {
        self.place(self.view.fdb_entry(self.bds[0], mac))
    }

    fn place(&self, entry: Option<FdbEntry>) -> Where {
        match entry {
            Some(FdbEntry::Local { port, .. } | FdbEntry::Migrating { port, .. }) => Where::Port(port),
            Some(FdbEntry::Remote { slot, .. }) => Where::Host(self.tables.peer_of(slot).unwrap().get()),
            None => Where::Nowhere,
        }
    }

    /// The host that sends from an address.
    fn vtep(&self, address: &str) -> Option<u32> {
        self.view.vtep(ip(address)).map(|vtep| vtep.peer().get())
    }

    /// The hosts that a network is flooded to, and those of them with segments.
    fn flooded(&self, index: usize) -> [Vec<u32>; 2] {
        let hosts =
            |slots: &[Slot]| slots.iter().map(|slot| self.view.peer_of(*slot).unwrap().get()).collect();
        let network = self.network(index);
        [hosts(&network.slots), hosts(&network.segment_slots)]
    }

    fn owner(&self, address: &str) -> Option<Mac> {
        self.view.owner(self.bds[0], ip(address))
    }

    fn network(&self, index: usize) -> &NetworkEntry {
        self.view.network(self.bds[index]).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    Port(u16),
    Host(u32),
    Nowhere,
}

fn claim(mac: Mac, ips: &[&str]) -> Effect {
    Effect::Claim { vni: vni(100), mac, ips: ips.iter().map(|text| ip(text)).collect() }
}

fn withdraw(mac: Mac) -> Effect {
    Effect::Withdraw { vni: vni(100), mac }
}

/// A path to host 2 through underlay port 0.
fn path(dst: &str) -> Path {
    let spec = OuterSpec {
        src_mac: mac(1),
        dst_mac: mac(2),
        vlan: None,
        src: ip("10.0.0.1"),
        dst: ip(dst),
        dst_port: 4789,
        ttl: 64,
    };
    Path {
        peer: Peer::new(2),
        port: 0,
        inner_mtu: 1450,
        template: EncapTemplate {
            tos: OuterTos::COPY,
            zero_checksum: false,
            outer: OuterHeader::new(&spec).unwrap(),
        },
        seal: Seal::None,
    }
}

fn network(n: u32, flood: FloodPolicy, mtu: u16) -> Change {
    Change::NetworkPut(Network { vni: vni(n), name: format!("net {n}"), flood, mtu })
}
