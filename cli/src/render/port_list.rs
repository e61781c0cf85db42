//! Which port is from where: the configuration file, or added at run time.

use super::ports::device_state;
use crate::table::Table;
use std::fmt::Write as _;
use stopover_ctl::{ConfigState, PortInfo, PortRole};

/// `port list`
pub fn ports(running: &[PortInfo], config: &ConfigState) -> String {
    let mut table = Table::new(&["PORT", "ROLE", "DEVICE", "LINK", "FROM"], "no port runs");
    for port in running {
        let added = config.ports.iter().any(|p| p.name == port.name && p.overruled.is_none());
        table.row([
            port.name.clone(),
            match &port.role {
                PortRole::Underlay { .. } => "underlay",
                PortRole::Vif { .. } => "vif",
                PortRole::Segment { .. } => "segment",
            }
            .to_owned(),
            port.device.clone(),
            device_state(port).unwrap_or(if port.link_up { "up" } else { "down" }).to_owned(),
            if added { "run time" } else { "file" }.to_owned(),
        ]);
    }
    let mut s = table.to_string();
    for port in &config.ports {
        if let Some(why) = &port.overruled {
            let _ = writeln!(s, "{} does not run: the configuration file overrules it: {why}", port.name);
        }
    }
    for port in &config.missing {
        let _ = writeln!(s, "{} does not run: it could not be opened again: {}", port.name, port.why);
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use stopover_ctl::{DeviceState, MissingPort, StatePort};
    use stopover_net::{Mac, Vni};

    fn running(name: &str) -> PortInfo {
        PortInfo {
            name: name.into(),
            device: "net_vhost0".into(),
            port_id: 1,
            driver: "net_vhost".into(),
            role: PortRole::Vif {
                vni: Vni::new(100).unwrap(),
                vm_mac: Mac::new([0x52, 0x54, 0, 0, 0, 1]),
                addresses: vec![],
                guard: true,
            },
            mac: Mac::new([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
            inside: vec![],
            promiscuous: false,
            link_up: true,
            device_state: DeviceState::InService,
            speed_mbps: None,
            full_duplex: true,
            socket: None,
            rxd: 512,
            txd: 512,
            rxq_lcores: vec![1],
            txq: 1,
            rx_offloads: vec![],
            tx_offloads: vec![],
        }
    }

    #[test]
    fn ports_have_their_origin() {
        let port = |name: &str, overruled: Option<&str>| StatePort {
            name: name.into(),
            port: json!({}),
            overruled: overruled.map(Into::into),
        };
        let config = ConfigState {
            missing: vec![MissingPort { name: "vm4".into(), why: "no device".into() }],
            ports: vec![port("vm2", None), port("vm3", Some("found a MAC"))],
            ..ConfigState::default()
        };
        let mut running = ["vm1", "vm2"].map(running);
        running[1].link_up = false;
        running[1].device_state = DeviceState::Removed;
        assert_eq!(
            ports(&running, &config),
            "\
PORT  ROLE  DEVICE      LINK     FROM
vm1   vif   net_vhost0  up       file
vm2   vif   net_vhost0  removed  run time
vm3 does not run: the configuration file overrules it: found a MAC
vm4 does not run: it could not be opened again: no device
"
        );
        assert_eq!(ports(&[], &ConfigState::default()), "no port runs\n");
    }
}
