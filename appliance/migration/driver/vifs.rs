//! Vifs that come and go while the appliance runs. Enters: a new vif's port and node, or the number of a port that is to
//! be removed. Leaves: the node's machine, with what is known of the node; or the node's end here.

use super::{CounterReading, Driver, Key, Migrations, Node, VifPort};
use crate::migration::machine::{Event, State};
use crate::migration::tx_hold::PortMigration;
use crate::pipeline::ports::Vif;
use std::sync::Arc;

impl Migrations {
    /// A vif's port exists from now on; it has no link yet. `exact`: its device reports what it delivered.
    pub fn add_vif(&mut self, port: u16, vif: &Vif, exact: bool) {
        let key = (vif.network.bd, vif.mac);
        let declared = exact.then_some(port);
        let config = self.node_config(exact, declared);
        let node =
            self.nodes.entry(key).or_insert_with(|| Node::new(vif.network.vni, config, Arc::default()));
        if let Some(port) = declared {
            node.machine.declare(port);
        }
        let migration = Arc::new(PortMigration::new(Arc::clone(&node.counters)));
        self.ports.insert(port, VifPort { key, exact, logging: false, migration });
    }

    /// Why a port cannot be removed now: its node takes part in a migration. `None` if it can.
    #[must_use]
    pub fn keeps(&self, port: u16) -> Option<&'static str> {
        let key = self.ports.get(&port)?.key;
        let node = self.nodes.get(&key)?;
        let locked = self.locks.contains_key(&key);
        match node.machine.state() {
            State::Leaving { .. } | State::Paused { .. } => Some("is being migrated away from here"),
            State::Forwarding { .. } => Some("has left, and its last frames are still sent on from here"),
            State::Arriving { .. } | State::Expected { .. } => Some("is being migrated to here"),
            State::Away | State::Here { .. } if locked => Some("is locked for a migration"),
            State::Away | State::Here { .. } if node.is_busy() => Some("has just been migrated"),
            State::Away | State::Here { .. } => None,
        }
    }
}

impl Driver<'_> {
    /// Passes a new vif's machine what is known of its node already.
    pub fn on_vif_added(&mut self, now_ms: u64, key: Key) {
        self.init_machine(now_ms, key);
    }

    /// A vif's port is about to be removed: its node is no longer there. Only if [`Migrations::keeps`] has nothing
    /// against it.
    pub fn remove_vif(&mut self, now_ms: u64, port: u16) {
        let Some(vif) = self.migrations.ports.get(&port) else { return };
        let key = vif.key;
        self.event(now_ms, key, Event::PortDown(port));
        self.migrations.ports.remove(&port);
        let others = self.vif_ports(key);
        let exact = others.iter().copied().find(|port| self.is_exact(*port));
        let Some(node) = self.migrations.nodes.get_mut(&key) else { return };
        node.machine.remove_port(port, exact);
        if !others.is_empty() {
            return;
        }
        // What is left of it is over by itself.
        node.is_station = true;
        self.end_if_finished(key);
    }

    /// A node is about to be a vif's: what was followed of a station of its name ends.
    pub fn forget_station(&mut self, key: Key) {
        if !self.migrations.nodes.get(&key).is_some_and(|node| node.is_station) {
            return;
        }
        let Some(node) = self.migrations.nodes.remove(&key) else { return };
        if node.record_mode.is_some() {
            self.tables.end_migrating(key.0, key.1);
        }
        self.stations.unfollow(key.0, key.1);
        self.migrations.past.add(CounterReading::read(&node.counters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::machine::Record;
    use crate::pipeline::ports::{Allowed, Network};
    use crate::tables::Tables;
    use std::path::Path;
    use stopover_bbs::model::{Lock, Unlocked};
    use stopover_config::appliance;
    use stopover_net::{Mac, Vni};

    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
    const LOCK: Lock = Lock { migration: 7, generation: 70, source: 1, target: None };
    /// Another host.
    const B: u32 = 2;
    /// The first ports of the node.
    const P: u16 = 1;
    const Q: u16 = 2;

    fn vif() -> Vif {
        let (mut tables, _views) = Tables::new(1).unwrap();
        let vni = Vni::new(100).unwrap();
        Vif {
            network: Network { bd: tables.bd(vni).unwrap(), vni },
            mac: MAC,
            ipv4: Default::default(),
            ipv6: Default::default(),
            addressed: false,
            guard: true,
            allowed: Allowed::default(),
            shared: [].into(),
        }
    }

    fn key() -> Key {
        (vif().network.bd, MAC)
    }

    /// Of a host, after these events for the node behind the exact port [`P`].
    fn after(events: &[Event]) -> Migrations {
        let text = r#"(name: "gw", vdevs: ["net_null0"], declared: (),
            ports: [(name: "ul0", device: "net_null0", role: underlay(addresses: ["10.0.0.1/24"]))])"#;
        let config = appliance::parse(text, Path::new("gw.ron")).unwrap();
        let mut migrations = Migrations::new(&config, &[], &[]);
        migrations.add_vif(P, &vif(), true);
        let machine = &mut migrations.nodes.get_mut(&key()).unwrap().machine;
        machine.set_own(1);
        for event in events {
            machine.on(0, *event);
        }
        migrations
    }

    const HERE: [Event; 2] = [Event::PortUp(P), Event::Record(Record::Here)];

    /// The events of a node that is here, and then these.
    fn then(events: &[Event]) -> Vec<Event> {
        [&HERE[..], events].concat()
    }

    #[test]
    fn ports_of_one_node_share_its_machine_and_counters() {
        let mut migrations = after(&[]);
        migrations.add_vif(Q, &vif(), false);
        assert_eq!((migrations.nodes.len(), migrations.ports.len()), (1, 2));
        assert!(migrations.has_vif(P) && migrations.has_vif(Q) && !migrations.has_vif(0));
        assert_eq!([P, Q].map(|port| migrations.ports[&port].exact), [true, false]);
        assert_eq!([P, Q].map(|port| migrations.ports[&port].key), [key(); 2]);
        assert!(
            !Arc::ptr_eq(&migrations.port(P).unwrap(), &migrations.port(Q).unwrap()),
            "holds are by port"
        );
        // The node's kind is that of its first port.
        assert!(migrations.nodes[&key()].exact);
    }

    #[test]
    fn an_exact_port_that_is_added_later_is_where_the_node_is_expected() {
        let mut migrations = after(&[]);
        let node = |migrations: &mut Migrations, events: &[Event]| {
            let machine = &mut migrations.nodes.get_mut(&key()).unwrap().machine;
            for event in events {
                machine.on(0, *event);
            }
            *machine.state()
        };
        let given = [Event::Record(Record::Other(B)), Event::Record(Record::Here)];
        assert_eq!(node(&mut migrations, &given), State::Expected { port: P, since: 0 });
        assert_eq!(migrations.keeps(P), Some("is being migrated to here"));
    }

    #[test]
    fn a_port_is_kept_while_its_node_is_being_migrated() {
        let logging = Event::Logging(P, true);
        let begun = Event::Begun { migration: 7, generation: 70 };
        let ours = [logging, Event::Locked(LOCK), begun];
        let gone = [&ours[..], &[Event::PortDown(P)]].concat();
        let completed = [Event::Record(Record::Other(B)), Event::Unlocked(Unlocked::Completed)];
        let away_from_here = Some("is being migrated away from here");
        let cases = [
            (vec![], None),
            (then(&[]), None),
            (then(&[Event::PortDown(P)]), None),
            (then(&ours), away_from_here),
            (then(&gone), away_from_here),
            (
                then(&[&gone[..], &completed].concat()),
                Some("has left, and its last frames are still sent on from here"),
            ),
            (vec![Event::Record(Record::Other(B)), Event::PortUp(P)], Some("is being migrated to here")),
        ];
        for (events, why) in cases {
            let migrations = after(&events);
            assert_eq!(migrations.keeps(P), why, "{:?}", migrations.nodes[&key()].machine.state());
        }
    }

    #[test]
    fn a_lock_or_the_end_of_a_hold_keeps_a_port_as_well() {
        let mut migrations = after(&HERE);
        migrations.locks.insert(key(), LOCK);
        assert_eq!(migrations.keeps(P), Some("is locked for a migration"));
        migrations.locks.clear();
        assert_eq!(migrations.keeps(P), None);
        migrations.nodes.get_mut(&key()).unwrap().closing = Some(Tables::new(1).unwrap().0.publish());
        assert_eq!(migrations.keeps(P), Some("has just been migrated"));
        assert_eq!(migrations.keeps(9), None, "no vif has this number");
    }
}
