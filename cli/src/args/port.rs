//! Commands that change the configuration of an appliance while it runs. A vif has options of its own, because its ports
//! come and go every day; other ports are given in the words of the configuration file.

use super::Change;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};
use std::{net::IpAddr, path::PathBuf};
use stopover_ctl::PortJson;
use stopover_net::{Mac, Vni};

/// `port …`
#[derive(Debug, Subcommand)]
pub enum Port {
    /// Add a port. It survives a restart.
    Add(AddPort),
    /// Change a port that was added at run time. What is not given stays.
    Set(SetPort),
    /// Remove a port that was added at run time.
    Delete {
        /// Its name.
        name: String,
        /// Only print what would change.
        #[arg(long)]
        dry_run: bool,
    },
    /// Ports, and whether each is in the configuration file or was added at run time.
    List,
}

/// `port add …`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["device", "file"]))]
pub struct AddPort {
    /// The port's name.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub name: Option<String>,
    /// Its device: a --vdev string, which creates it, or a PCI address.
    #[arg(long, value_name = "DEVICE", requires = "vni", requires = "mac")]
    pub device: Option<String>,
    /// A port as in the configuration file, `(name: …, device: …, role: …)`; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = VIF_OPTIONS)]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub vif: VifOptions,
    /// Only print what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// `port set …`
#[derive(Debug, Args)]
pub struct SetPort {
    /// The port's name.
    pub name: String,
    /// Its device: a --vdev string, which creates it, or a PCI address.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Any other key, as JSON that is merged into the port (RFC 7396), such as {"role": {"segment": {"ageing_s": 60}}}.
    #[arg(long, value_name = "JSON", value_parser = object, conflicts_with_all = VIF_OPTIONS, conflicts_with = "device")]
    pub json_patch: Option<Object>,
    #[command(flatten)]
    pub vif: VifOptions,
    #[command(flatten)]
    pub change: Change,
}

/// A JSON object.
pub type Object = Map<String, Value>;

fn object(text: &str) -> Result<Object, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: expected a JSON object"))
}

/// The names of [`VifOptions`].
const VIF_OPTIONS: [&str; 9] =
    ["vni", "mac", "address", "shared_address", "guard", "allowed", "router", "dhcp_server", "mtu"];

/// The keys of a vif.
#[derive(Debug, Default, Args)]
pub struct VifOptions {
    /// The VM's network.
    #[arg(long, value_name = "N")]
    pub vni: Option<Vni>,
    /// The VM's MAC.
    #[arg(long, value_name = "MAC")]
    pub mac: Option<Mac>,
    /// An address of the VM; repeat the option for more.
    #[arg(long, value_name = "IP")]
    pub address: Vec<IpAddr>,
    /// An address that the VM shares with others; repeat the option for more.
    #[arg(long, value_name = "IP")]
    pub shared_address: Vec<IpAddr>,
    /// Whether it may send only from its own addresses.
    #[arg(long, value_name = "true|false")]
    pub guard: Option<bool>,
    /// A prefix that it may send from too, with its own MAC or another: IP[/LENGTH][,MAC]. Repeat the option for more.
    #[arg(long, value_name = "PREFIX[,MAC]")]
    pub allowed: Vec<String>,
    /// Whether it may send router advertisements.
    #[arg(long, value_name = "true|false")]
    pub router: Option<bool>,
    /// Whether it may answer as a DHCP server.
    #[arg(long, value_name = "true|false")]
    pub dhcp_server: Option<bool>,
    /// MTU of the port, bytes of IP packet.
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u16>,
}

impl VifOptions {
    /// The keys that were given, with the port's name and device.
    pub fn json(self, name: Option<String>, device: Option<String>) -> PortJson {
        let mut vif = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                vif.insert(key.to_owned(), value);
            }
        };
        let list = |items: Vec<Value>| Some(items).filter(|items| !items.is_empty()).map(Value::from);
        let addresses = |ips: Vec<IpAddr>| list(ips.into_iter().map(|ip| json!(ip)).collect());
        put("vni", self.vni.map(|vni| json!(vni)));
        put("mac", self.mac.map(|mac| json!(mac)));
        put("addresses", addresses(self.address));
        put("shared_addresses", addresses(self.shared_address));
        put("guard", self.guard.map(Value::from));
        put("allowed", list(self.allowed.iter().map(|pair| allowed(pair)).collect()));
        put("router", self.router.map(Value::from));
        put("dhcp_server", self.dhcp_server.map(Value::from));
        let role = Some(vif).filter(|vif| !vif.is_empty()).map(|vif| json!({ "vif": vif }));
        let keys = [
            ("name", name.map(Value::from)),
            ("device", device.map(Value::from)),
            ("mtu", self.mtu.map(Value::from)),
            ("role", role),
        ];
        keys.into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect::<Map<_, _>>()
            .into()
    }
}

fn allowed(pair: &str) -> Value {
    match pair.split_once(',') {
        Some((ip, mac)) => json!({ "ip": ip, "mac": mac }),
        None => json!({ "ip": pair }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<Port, String> {
        let words: Vec<&str> = line.split(' ').collect();
        match Cli::try_parse_from(words).map_err(|e| e.to_string())?.command {
            Command::Port(port) => Ok(port),
            other => Err(format!("{other:?}")),
        }
    }

    fn added(line: &str) -> PortJson {
        match parse(&format!("stopover port add {line}")) {
            Ok(Port::Add(add)) => add.vif.json(add.name, add.device),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_options_of_a_vif() {
        assert_eq!(
            added("vm2 --device net_vhost2,iface=/run/vm2.sock --vni 100 --mac 52:54:00:00:00:02"),
            json!({
                "name": "vm2",
                "device": "net_vhost2,iface=/run/vm2.sock",
                "role": {"vif": {"vni": 100, "mac": "52:54:00:00:00:02"}},
            })
        );
        assert_eq!(
            added(
                "vm2 --device 0000:03:00.1 --vni 7 --mac 52:54:00:00:00:02 --address 10.7.0.2 --address fd07::2 --shared-address 10.7.0.9 --guard true --allowed 10.8.0.0/16 --allowed 10.9.0.1,00:00:5e:00:01:07 --router true --dhcp-server false --mtu 1450"
            ),
            json!({
                "name": "vm2",
                "device": "0000:03:00.1",
                "mtu": 1450,
                "role": {"vif": {
                    "vni": 7,
                    "mac": "52:54:00:00:00:02",
                    "addresses": ["10.7.0.2", "fd07::2"],
                    "shared_addresses": ["10.7.0.9"],
                    "guard": true,
                    "allowed": [{"ip": "10.8.0.0/16"}, {"ip": "10.9.0.1", "mac": "00:00:5e:00:01:07"}],
                    "router": true,
                    "dhcp_server": false,
                }},
            })
        );
        let Ok(Port::Set(set)) = parse("stopover port set vm2 --guard false --dry-run") else {
            panic!("set")
        };
        assert!(set.change.dry_run && !set.change.reopen);
        assert_eq!(set.vif.json(None, set.device), json!({"role": {"vif": {"guard": false}}}));
        assert_eq!(VifOptions::default().json(None, None), json!({}));
    }

    #[test]
    fn a_port_is_given_by_options_or_by_a_file() {
        for wrong in [
            "stopover port add",
            "stopover port add vm2",
            "stopover port add vm2 --device net_null2",
            "stopover port add vm2 --device net_null2 --vni 7",
            "stopover port add vm2 --file vm2.ron",
            "stopover port add --file vm2.ron --vni 7",
            "stopover port add vm2 --device net_null2 --vni 0 --mac 52:54:00:00:00:02",
            "stopover port set",
            "stopover port set vm2 --json-patch 7",
            "stopover port set vm2 --json-patch {} --guard true",
            "stopover port delete",
            "stopover port delete vm2 --reopen",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(
            matches!(parse("stopover port add --file vm2.ron"), Ok(Port::Add(add)) if add.file.is_some())
        );
        assert!(matches!(
            parse("stopover port delete vm2 --dry-run"),
            Ok(Port::Delete { dry_run: true, .. })
        ));
        let set = parse(r#"stopover port set br0 --json-patch {"role":{"segment":{"ageing_s":60}}}"#);
        let Ok(Port::Set(SetPort { json_patch: Some(patch), .. })) = set else { panic!("{set:?}") };
        assert_eq!(patch["role"]["segment"]["ageing_s"], 60);
    }
}
