//! The replica: the board's state, written into the packet path's tables. Enters: snapshots and changes in the
//! board's order, next hops as they resolve. Leaves: table entries, and which VTEPs must be resolved. `hosts`,
//! `nodes` and `lineage` are its parts. Pure but for the tables it writes. The replica outlives the board: nothing
//! here expires.

mod hosts;
mod lineage;
mod nodes;

use super::{effects::Effect, stations::Stations};
use crate::tables::{
    Full, Tables,
    entries::{Member, NetworkEntry, Path},
    packed::Bd,
    peer::{Accept, NetworkSeal, PathClass, Slot},
};
use hashbrown::{HashMap, HashSet};
use lineage::Branch;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use stopover_bbs::model::{Change, DeclaredBy, Host};
use stopover_config::appliance::{TunnelMode, Tunnels};
use stopover_net::{FloodPolicy, HostName, Mac, Vni};

/// Migrating nodes in one network that get copies of their own of group frames. Each costs a copy of every such
/// frame; further ones are flooded to as if they did not migrate.
const MAX_NODES_WITH_COPIES: usize = 8;

/// A host, as the control thread and the operator see it.
#[derive(Debug, Clone)]
pub struct HostRecord {
    /// The board's record.
    pub host: Host,
    /// The VTEP address that frames are sent to: the first that this host has a route to.
    pub vtep: Option<IpAddr>,
    /// How it is reached, once the next hop is resolved.
    pub path: Option<Path>,
    /// The same for what must be sealed. `None` also without tunnels.
    pub sealed: Option<Path>,
    /// What its nodes and flood lists name, by path class.
    pub slots: [Slot; PathClass::COUNT],
    /// Which datagrams are accepted from it.
    pub accept: Accept,
}

impl HostRecord {
    /// What its nodes and flood lists in such a network name.
    const fn slot_in(&self, network: NetworkSeal) -> Slot {
        self.slots[self.accept.class(network) as usize]
    }

    /// The VTEP address and UDP port that frames are sent to.
    fn target(&self) -> Option<(IpAddr, u16)> {
        self.vtep.map(|ip| (ip, self.host.udp_port))
    }

    /// Whether the host is an appliance, which understands overlay flags.
    #[must_use]
    pub fn is_appliance(&self) -> bool {
        self.host.declared_by == DeclaredBy::Appliance
    }
}

/// A network, as the control thread and the operator see it.
#[derive(Debug, Clone)]
pub struct NetworkRecord {
    /// Its bridge domain.
    pub bd: Bd,
    /// Its name, if it has one.
    pub name: String,
    /// What happens to frames without a known receiver.
    pub flood: FloodPolicy,
    /// The MTU that its VMs should use; 0 if none is declared.
    pub mtu: u16,
    /// Hosts with members, and whether they have segments.
    pub members: BTreeMap<u32, bool>,
    /// Whether it is followed. Its record is kept afterwards: the board removes what it has said of it one by one.
    followed: bool,
    /// Local ports in it.
    pub ports: Vec<Member>,
    /// Nodes that are locked, or were until recently.
    pub migrating: BTreeSet<Mac>,
    /// The same, until other hosts send them no copies of their own any more.
    pub moved: BTreeSet<Mac>,
}

impl NetworkRecord {
    /// Of which the board has said nothing yet.
    fn new(bd: Bd, ports: Vec<Member>) -> Self {
        Self {
            bd,
            name: String::new(),
            flood: FloodPolicy::default(),
            mtu: 0,
            members: BTreeMap::new(),
            followed: true,
            ports,
            migrating: BTreeSet::new(),
            moved: BTreeSet::new(),
        }
    }
}

/// What the configuration demands of the frames of a network.
fn seal_of(tunnels: Option<&Tunnels>, vni: Vni) -> NetworkSeal {
    match tunnels.and_then(|tunnels| tunnels.networks.get(&vni)) {
        None => NetworkSeal::ByHost,
        Some(TunnelMode::Required) => NetworkSeal::Required,
        Some(TunnelMode::Off) => NetworkSeal::Off,
    }
}

/// The board's state, as far as this appliance needs it.
#[derive(Debug)]
pub struct Replica {
    own: HostName,
    /// Which hosts must have an encrypted tunnel.
    tunnels: Option<Tunnels>,
    /// Our number at the board, once it is known.
    own_id: Option<u32>,
    hosts: HashMap<u32, HostRecord>,
    /// The keys of `hosts` in order, for lists.
    host_ids: BTreeSet<u32>,
    /// Hosts by VTEP address: a search through all of `hosts` for each of ten thousand takes seconds.
    by_vtep: HashMap<IpAddr, Vec<u32>>,
    networks: BTreeMap<Vni, NetworkRecord>,
    /// VNIs by bridge domain.
    vnis: HashMap<Bd, Vni>,
    /// Local ports with a link: only they are flooded to.
    up: HashSet<u16>,
    /// Networks whose record has to be published again.
    dirty: HashSet<Vni>,
    /// What neither the newest snapshot nor a later change has named yet.
    stale: Option<Stale>,
    /// A snapshot is under way.
    in_snapshot: bool,
    /// That snapshot, or an earlier one whose leftovers remain, is of another branch of the board's history.
    branch: Option<Branch>,
    /// Counts what the board has changed, and the networks that are followed.
    version: u64,
}

#[derive(Debug, Default)]
struct Stale {
    pub hosts: HashSet<u32>,
    pub members: HashSet<(Vni, u32)>,
    pub networks: HashSet<Vni>,
}

/// The context of a change.
pub struct ReplicaCtx<'a> {
    /// The packet path's tables.
    pub tables: &'a mut Tables,
    /// The stations of this host, which no board can remove.
    pub stations: &'a Stations,
    /// Whether the underlay has a route to an address.
    pub routable: &'a dyn Fn(IpAddr) -> bool,
}

impl Replica {
    /// An empty replica for host `own`. `networks`: those in which this host has ports.
    #[must_use]
    pub fn new(own: HostName, networks: impl IntoIterator<Item = (Vni, Bd, Vec<Member>)>) -> Self {
        let networks: BTreeMap<_, _> =
            networks.into_iter().map(|(vni, bd, ports)| (vni, NetworkRecord::new(bd, ports))).collect();
        let dirty = networks.keys().copied().collect();
        let vnis = networks.iter().map(|(vni, record)| (record.bd, *vni)).collect();
        Self {
            own,
            tunnels: None,
            own_id: None,
            hosts: HashMap::new(),
            host_ids: BTreeSet::new(),
            by_vtep: HashMap::new(),
            networks,
            vnis,
            up: HashSet::new(),
            dirty,
            stale: None,
            in_snapshot: false,
            branch: None,
            version: 0,
        }
    }

    /// The same, where frames must be sealed for some hosts.
    #[must_use]
    pub fn sealed(self, tunnels: Option<Tunnels>) -> Self {
        Self { tunnels, ..self }
    }

    /// Another number after each change of what a checkpoint holds.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// All networks with local ports, in order.
    pub fn networks(&self) -> impl Iterator<Item = (Vni, &NetworkRecord)> {
        self.networks_from(0)
    }

    /// The same, from this VNI on.
    pub fn networks_from(&self, vni: u32) -> impl Iterator<Item = (Vni, &NetworkRecord)> {
        let from = Vni::from_field(vni.max(1));
        let all = from.into_iter().flat_map(|from| self.networks.range(from..));
        all.filter(|(_, record)| record.followed).map(|(vni, record)| (*vni, record))
    }

    /// A port is in this network from now on. Returns whether it is the first here.
    pub fn add_port(&mut self, vni: Vni, bd: Bd, member: Member) -> bool {
        self.version += 1;
        let record = self.networks.entry(vni).or_insert_with(|| NetworkRecord::new(bd, Vec::new()));
        record.ports.push(member);
        record.followed = true;
        let is_first = record.ports.len() == 1;
        self.vnis.insert(bd, vni);
        self.dirty.insert(vni);
        is_first
    }

    /// A port is in no network any more. Returns the networks that have no port here now.
    pub fn remove_port(&mut self, port: u16) -> Vec<Vni> {
        self.version += 1;
        self.port(port, false);
        let mut without = Vec::new();
        for (vni, record) in &mut self.networks {
            let before = record.ports.len();
            record.ports.retain(|member| member.port != port);
            if record.ports.len() != before {
                self.dirty.insert(*vni);
                record.followed = !record.ports.is_empty();
                without.extend((!record.followed).then_some(*vni));
            }
        }
        without
    }

    /// Forgets a network that has no port here and of which nothing is left, in the tables (`is_empty`) or of what the board
    /// has said. Returns its bridge domain then.
    pub fn forget(&mut self, vni: Vni, is_empty: impl Fn(Bd) -> bool) -> Option<Bd> {
        let record = self.networks.get(&vni)?;
        let is_left = !record.followed && record.members.is_empty();
        let is_still = record.migrating.is_empty() && record.moved.is_empty();
        if !is_left || !is_still || !is_empty(record.bd) {
            return None;
        }
        let bd = self.networks.remove(&vni)?.bd;
        self.vnis.remove(&bd);
        self.dirty.remove(&vni);
        Some(bd)
    }

    /// Whether this host has ports in a network.
    #[must_use]
    pub fn is_followed(&self, vni: Vni) -> bool {
        self.networks.get(&vni).is_some_and(|record| record.followed)
    }

    /// Whether a network has a segment here.
    #[must_use]
    pub fn has_segment(&self, vni: Vni) -> bool {
        self.networks.get(&vni).is_some_and(|record| record.ports.iter().any(|member| member.segment))
    }

    /// A bridge domain's VNI.
    #[must_use]
    pub fn vni_of(&self, bd: Bd) -> Option<Vni> {
        self.vnis.get(&bd).copied()
    }

    /// The declared MTU of a network with local ports; 0 if none.
    #[must_use]
    pub fn mtu_of(&self, vni: Vni) -> Option<u16> {
        self.networks.get(&vni).map(|record| record.mtu)
    }

    /// A local port has gained or lost its link.
    pub fn port(&mut self, port: u16, up: bool) {
        let changed = if up { self.up.insert(port) } else { self.up.remove(&port) };
        if changed {
            let holds = |record: &NetworkRecord| record.ports.iter().any(|member| member.port == port);
            self.dirty.extend(self.networks.iter().filter(|(_, record)| holds(record)).map(|(vni, _)| *vni));
        }
    }

    /// Whether the tables hold the state of one revision. In the middle of a snapshot they do not.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.in_snapshot
    }

    /// A snapshot begins: what it does not name until its end is removed. A snapshot that was under way was
    /// interrupted.
    pub fn begin_snapshot(&mut self, tables: &mut Tables, other_branch: bool) {
        self.version += 1;
        tables.next_sync_generation();
        self.in_snapshot = true;
        if other_branch {
            self.branch = Some(Branch::of(&self.hosts));
        }
        self.stale = Some(Stale {
            hosts: self.hosts.keys().copied().collect(),
            members: self
                .networks
                .iter()
                .flat_map(|(vni, n)| n.members.keys().map(|id| (*vni, *id)))
                .collect(),
            networks: self.networks.keys().copied().collect(),
        });
    }

    /// Applies one change. Network records reach the packet path with the next [`Replica::publish`].
    pub fn apply(&mut self, ctx: &mut ReplicaCtx, change: Change) -> Result<Vec<Effect>, Full> {
        self.version += 1;
        match change {
            Change::HostPut(host) => return self.put_host(ctx, host),
            Change::HostGone { id } => return self.remove_host(ctx, id),
            Change::NetworkPut(network) => {
                if let Some(stale) = &mut self.stale {
                    stale.networks.remove(&network.vni);
                }
                self.change_network(network.vni, |record| {
                    record.name = network.name;
                    record.flood = network.flood;
                    record.mtu = network.mtu;
                });
            }
            Change::NetworkGone { vni } => self.change_network(vni, |record| {
                record.name = String::new();
                record.flood = FloodPolicy::default();
                record.mtu = 0;
            }),
            Change::MemberPut { vni, host_id, segment } => {
                if let Some(stale) = &mut self.stale {
                    stale.members.remove(&(vni, host_id));
                }
                self.change_network(vni, |record| {
                    record.members.insert(host_id, segment);
                });
            }
            Change::MemberGone { vni, host_id } => self.change_network(vni, |record| {
                record.members.remove(&host_id);
            }),
            Change::NodePut { node, gone_ips } => return self.put_node(ctx, &node, &gone_ips),
            Change::NodeGone { vni, mac, ips } => self.remove_node(ctx, vni, mac, &ips),
            Change::NodeLocked { vni, mac, .. } => {
                self.lock_node(ctx, vni, mac, true);
                self.set_own_copies(vni, mac, true);
            }
            Change::NodeUnlocked { vni, mac, .. } => {
                self.lock_node(ctx, vni, mac, false);
                return Ok(vec![Effect::Unlocked { vni, mac }]);
            }
        }
        Ok(Vec::new())
    }

    fn change_network(&mut self, vni: Vni, change: impl FnOnce(&mut NetworkRecord)) {
        if let Some(record) = self.networks.get_mut(&vni) {
            change(record);
            self.dirty.insert(vni);
        }
    }

    /// Publishes every network record that has changed since the last time.
    pub fn publish(&mut self, tables: &mut Tables) -> Result<(), Full> {
        for vni in self.dirty.drain() {
            let Some(record) = self.networks.get(&vni) else { continue };
            let seal = seal_of(self.tunnels.as_ref(), vni);
            let others = |segments_only: bool| -> Box<[Slot]> {
                record
                    .members
                    .iter()
                    .filter(|(_, segment)| **segment || !segments_only)
                    .filter_map(|(id, _)| self.hosts.get(id))
                    // Unicast to a host that is down continues; floods, which it would miss for minutes, do not.
                    .filter(|record| record.host.name != self.own && !record.host.no_flood)
                    .map(|record| record.slot_in(seal))
                    .collect()
            };
            tables.put_network(NetworkEntry {
                bd: record.bd,
                vni,
                flood: record.flood,
                mtu: record.mtu,
                seal,
                slots: others(false),
                segment_slots: others(true),
                ports: record.ports.iter().filter(|member| self.up.contains(&member.port)).copied().collect(),
                migrating: record.migrating.iter().take(MAX_NODES_WITH_COPIES).copied().collect(),
                moved: record.moved.iter().copied().collect(),
            })?;
        }
        Ok(())
    }

    /// A network's bridge domain.
    #[must_use]
    pub fn bd_of(&self, vni: Vni) -> Option<Bd> {
        self.networks.get(&vni).map(|network| network.bd)
    }

    /// A migrating node gets group frames by copies of its own from now on, or no longer.
    pub fn set_own_copies(&mut self, vni: Vni, mac: Mac, on: bool) {
        let Some(record) = self.networks.get_mut(&vni) else { return };
        let changed = if on {
            let is_new = record.moved.insert(mac);
            record.migrating.insert(mac) || is_new
        } else {
            record.migrating.remove(&mac)
        };
        if changed {
            self.dirty.insert(vni);
        }
    }

    /// No host sends a node copies of its own any more.
    pub fn end_own_copies(&mut self, vni: Vni, mac: Mac) {
        let Some(record) = self.networks.get_mut(&vni) else { return };
        let had_copies = record.migrating.remove(&mac);
        if record.moved.remove(&mac) || had_copies {
            self.dirty.insert(vni);
        }
    }
}
