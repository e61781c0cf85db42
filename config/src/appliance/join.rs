//! Adds ports to a configuration that has been checked already. Enters: a configuration, ports as written. Leaves: the
//! configuration with those that agree with it and with each other, and why the others do not.

use super::{Appliance, Declared, PortText, Role, Truth, across_ports, diff::Change, validate, vhost};
use crate::{
    ConfigError,
    fault::{Checked, Fault, fault},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::Path,
};
use stopover_net::{Mac, Vni};

/// A port that cannot be added to a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the list of ports.
    pub index: usize,
    /// Why: what is wrong with it, or what the configuration has already.
    pub error: ConfigError,
}

/// A configuration that grows.
struct Joining {
    to: Appliance,
    no_pci: bool,
    devices: vhost::Vdevs,
    locals: across_ports::Locals,
}

impl Joining {
    fn new(to: Appliance) -> Self {
        let no_pci = to.eal.iter().any(|word| word == "--no-pci");
        // Both were checked before, so there are no errors.
        let devices = validate::created_vdevs(&to.eal, &to.vdevs).unwrap_or_default();
        let locals = across_ports::check(&to.ports).unwrap_or_default();
        Self { to, no_pci, devices, locals }
    }

    fn add(&mut self, at: &str, text: &PortText) -> Checked<()> {
        let vdev = validate::own_vdev(at, &text.0, &mut self.devices)?;
        let port = vhost::check_number(&self.devices)
            .and_then(|()| validate::port(at, text.0.clone(), &self.to.ports, &self.devices, self.no_pci))
            .and_then(|port| self.locals.add(at, &port).map(|()| port));
        match port {
            Ok(port) => {
                self.to.ports.push(port);
                self.to.vdevs.extend(vdev);
                Ok(())
            }
            Err(fault) => {
                *self = Self::new(self.to.clone());
                Err(fault)
            }
        }
    }
}

impl Appliance {
    /// This configuration with these ports behind its own, but for those that cannot be added. `origin` is for messages.
    #[must_use]
    pub fn joined(&self, ports: &[PortText], origin: &Path) -> (Self, Vec<Refused>) {
        let mut refused: BTreeMap<usize, Fault> = match &self.truth {
            Truth::Declared(declared) => Claims::of(ports).conflicts(declared),
            Truth::Board(_) => BTreeMap::new(),
        };
        let mut joining = Joining::new(self.clone());
        for (index, text) in ports.iter().enumerate() {
            if !refused.contains_key(&index)
                && let Err(fault) = joining.add(&format!("ports[{index}]"), text)
            {
                refused.insert(index, fault);
            }
        }
        let refused =
            refused.into_iter().map(|(index, fault)| Refused { index, error: fault.at_field(origin) });
        (joining.to, refused.collect())
    }

    /// This configuration without a port that was added to it. A device that the port does not create itself stays.
    #[must_use]
    pub fn without(&self, port: &PortText) -> Self {
        let setup = port.alone("").ok();
        let gone: Vec<_> = setup.map(|setup| Change::PortRemoved(Box::new(setup))).into_iter().collect();
        self.with(&gone)
    }
}

/// What added ports have that declared rows may have too, with the place of the port.
#[derive(Default)]
struct Claims {
    macs: HashMap<(Vni, Mac), usize>,
    ips: HashMap<(Vni, IpAddr), usize>,
    vteps: HashMap<IpAddr, usize>,
}

impl Claims {
    /// Of those ports that are right in themselves.
    fn of(ports: &[PortText]) -> Self {
        let mut claims = Self::default();
        for (index, text) in ports.iter().enumerate() {
            match text.alone("").map(|setup| setup.port.role) {
                Ok(Role::Vif(vif)) => claims.station(index, vif.vni, vif.mac, &vif.addresses),
                Ok(Role::Segment(segment)) => {
                    segment.stations.iter().for_each(|s| claims.station(index, s.vni, s.mac, &s.addresses));
                }
                Ok(Role::Underlay(underlay)) => {
                    claims.vteps.extend(underlay.addresses.iter().map(|net| (net.addr(), index)));
                }
                Err(_) => {}
            }
        }
        claims
    }

    fn station(&mut self, index: usize, vni: Vni, mac: Mac, ips: &[IpAddr]) {
        self.macs.insert((vni, mac), index);
        self.ips.extend(ips.iter().map(|ip| ((vni, *ip), index)));
    }

    /// The ports that declared rows exclude, and why. Rows may be a million, so they are read once for all ports.
    fn conflicts(&self, declared: &Declared) -> BTreeMap<usize, Fault> {
        let mut found = BTreeMap::new();
        let mut note = |index: Option<&usize>, what: String| {
            let Some(index) = index else { return };
            let why = || {
                let expected = "what no row of `declared` has";
                fault(format!("ports[{index}].role"), what, expected, "correct the port or the row")
            };
            found.entry(*index).or_insert_with(why);
        };
        if self.vteps.is_empty() && self.macs.is_empty() {
            return found;
        }
        for host in &declared.hosts {
            for ip in &host.vteps {
                note(self.vteps.get(ip), format!("VTEP {ip}, which `declared` has at host `{}`", host.name));
            }
        }
        for row in &declared.nodes {
            let (vni, mac, host) = (row.vni, row.mac, &row.host);
            if let Some(index) = self.macs.get(&(vni, mac)) {
                let what = format!("MAC {mac} in network {vni}, which `declared` has at host `{host}`");
                note(Some(index), what);
            }
            for ip in &row.ips {
                if let Some(index) = self.ips.get(&(vni, *ip)) {
                    let what =
                        format!("address {ip} in network {vni}, which `declared` has at host `{host}`");
                    note(Some(index), what);
                }
            }
        }
        found
    }
}
