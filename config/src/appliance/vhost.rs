//! vhost-user ports. A `--vdev` string of DPDK's `net_vhost` driver means a port of our own on librte_vhost, with the
//! words of that driver. Enters: the arguments of such a string. Leaves: a [`Vhost`], or what is wrong with a word.

use super::Appliance;
use crate::fault::{Checked, fault};
use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf};

/// Virtual devices of a file: their names, and the arguments of each.
pub(super) type Vdevs = BTreeMap<String, String>;

/// A vhost-user socket and what its guest is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vhost {
    /// The socket.
    pub path: PathBuf,
    /// The VMM makes the socket, and we connect to it.
    pub client: bool,
    /// Pairs of rings, 1 to 64.
    pub queues: u16,
    /// The guest may leave TCP segmentation to us.
    pub tso: bool,
    /// The guest may have an IOMMU.
    pub iommu: bool,
    /// The VMM may migrate with post-copy.
    pub postcopy: bool,
}

impl Vhost {
    /// The port that a `--vdev` string means, if it means one.
    #[must_use]
    pub fn from_vdev(vdev: &str) -> Option<Self> {
        let (name, arguments) = vdev.split_once(',')?;
        of(name.trim(), arguments)
    }
}

impl Appliance {
    /// The vhost-user port of this device, if it is one.
    #[must_use]
    pub fn vhost(&self, device: &str) -> Option<Vhost> {
        self.vhosts().find(|(name, _)| *name == device).map(|(_, vhost)| vhost)
    }

    /// All vhost-user ports, by device.
    pub fn vhosts(&self) -> impl Iterator<Item = (&str, Vhost)> {
        self.vdevs.iter().filter_map(|vdev| {
            let (name, arguments) = vdev.split_once(',')?;
            Some((name.trim(), of(name.trim(), arguments)?))
        })
    }

    /// The `--vdev` strings for EAL.
    pub fn eal_vdevs(&self) -> impl Iterator<Item = &String> {
        self.vdevs.iter().filter(|vdev| !is_vhost(vdev.trim()))
    }
}

/// As many as a port may have receive queues.
const QUEUES: RangeInclusive<u16> = 1..=64;

/// Whether a virtual device of this name is one. `eth_vhost` is the driver's name of old.
pub(super) fn is_vhost(name: &str) -> bool {
    name.starts_with("net_vhost") || name.starts_with("eth_vhost")
}

/// The vhost-user port with these arguments, which were checked.
fn of(name: &str, arguments: &str) -> Option<Vhost> {
    if is_vhost(name) { parse("", name, arguments).ok() } else { None }
}

/// The queues of a device, if it is a vhost-user port.
pub(super) fn queues(created: &Vdevs, device: &str) -> Option<u16> {
    created.get(device).and_then(|arguments| of(device, arguments)).map(|vhost| vhost.queues)
}

/// EAL arguments without vhost-user ports, which are not EAL's; and the strings of these.
pub(super) fn split(eal: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut vhosts) = (Vec::<String>::with_capacity(eal.len()), Vec::new());
    for word in eal {
        let is_value = kept.last().is_some_and(|before| before == "--vdev");
        let vdev = if is_value { Some(word.as_str()) } else { word.strip_prefix("--vdev=") };
        match vdev.filter(|vdev| is_vhost(vdev.trim())) {
            None => kept.push(word),
            Some(vdev) => {
                vhosts.push(vdev.to_owned());
                if is_value {
                    kept.pop();
                }
            }
        }
    }
    (kept, vhosts)
}

/// Reads the arguments behind the device's name.
pub(super) fn parse(at: &str, name: &str, arguments: &str) -> Checked<Vhost> {
    let mut vhost =
        Vhost { path: PathBuf::new(), client: false, queues: 1, tso: false, iommu: false, postcopy: false };
    for word in arguments.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let found = || format!("`{}` of {name}", word.escape_debug());
        let switch = || match value {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(fault(at, found(), format!("{key}=0 or {key}=1"), "correct the value")),
        };
        match key {
            "iface" => vhost.path = socket(at, name, value)?,
            "queues" => {
                vhost.queues = value.parse().ok().filter(|n| QUEUES.contains(n)).ok_or_else(|| {
                    fault(
                        at,
                        found(),
                        "queues=1 to queues=64",
                        "a guest uses one pair of rings per vCPU at most",
                    )
                })?;
            }
            "client" => vhost.client = switch()?,
            "tso" => vhost.tso = switch()?,
            "iommu-support" => vhost.iommu = switch()?,
            "postcopy-support" => vhost.postcopy = switch()?,
            // They choose how the driver passes frames to its program, which is this one.
            "dequeue-zero-copy" | "linear-buffer" | "ext-buf" | "legacy-ol-flags" => {
                if switch()? {
                    let hint = "remove it: frames are always copied once, and offloads are always understood";
                    return Err(fault(at, found(), format!("{key}=0"), hint));
                }
            }
            _ => {
                return Err(fault(
                    at,
                    found(),
                    "iface, queues, client, tso, iommu-support or postcopy-support",
                    "correct or remove it",
                ));
            }
        }
    }
    if vhost.path.as_os_str().is_empty() {
        return Err(fault(
            at,
            format!("{name} without a socket"),
            "iface=PATH",
            format!("for example \"{name},iface=/run/stopover/vhost/vm.sock\""),
        ));
    }
    Ok(vhost)
}

/// Descriptors that librte_vhost watches for all sockets in one process, less a reserve for connections that replace
/// others (`MAX_FDS`, 1024). A socket at which it listens takes two, one to which it connects takes one.
const DESCRIPTORS: usize = 960;
/// Of these, most that sockets to which it connects may take.
const MOST_CLIENTS: usize = 900;

/// Checks that librte_vhost can serve all vhost-user ports among these devices.
pub(super) fn check_number(created: &Vdevs) -> Checked<()> {
    let vhosts = created.iter().filter_map(|(name, arguments)| of(name, arguments));
    let (clients, servers): (Vec<Vhost>, Vec<Vhost>) = vhosts.partition(|vhost| vhost.client);
    let (clients, servers) = (clients.len(), servers.len());
    if clients <= MOST_CLIENTS && 2 * servers + clients <= DESCRIPTORS {
        return Ok(());
    }
    Err(fault(
        "vdevs",
        format!("{servers} vhost-user ports that listen and {clients} with client=1"),
        format!(
            "at most {} that listen or {MOST_CLIENTS} with client=1; of both kinds, twice those that listen and those with client=1 are {DESCRIPTORS} at most",
            DESCRIPTORS / 2
        ),
        "librte_vhost watches no more sockets in one process; give ports client=1, or serve the rest from another host",
    ))
}

/// struct sockaddr_un (unix(7)) has 108 bytes, the last of which is a NUL.
fn socket(at: &str, name: &str, path: &str) -> Checked<PathBuf> {
    if path.starts_with('/') && path.len() < 108 {
        return Ok(path.into());
    }
    Err(fault(
        at,
        format!("socket `{}` of {name}", path.escape_debug()),
        "an absolute path of at most 107 bytes",
        "give it in full, such as /run/stopover/vhost/vm.sock",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    fn found(arguments: &str) -> String {
        match parse("vdevs[0]", "net_vhost0", arguments) {
            Ok(vhost) => format!("{vhost:?}"),
            Err(Fault::Here { field, found, expected, .. }) => format!("{field}: {found}; {expected}"),
            Err(Fault::Elsewhere(e)) => e.to_string(),
        }
    }

    #[test]
    fn every_word_of_the_driver_has_a_meaning_or_an_error() {
        let path = PathBuf::from("/run/vm.sock");
        let plain = Vhost { path, client: false, queues: 1, tso: false, iommu: false, postcopy: false };
        assert_eq!(found("iface=/run/vm.sock"), format!("{plain:?}"));
        assert_eq!(
            found(" queues=4, client=1,tso=1,iface=/run/vm.sock,iommu-support=1,postcopy-support=1"),
            format!(
                "{:?}",
                Vhost { queues: 4, client: true, tso: true, iommu: true, postcopy: true, ..plain.clone() }
            )
        );
        assert_eq!(found("iface=/run/vm.sock,client=0,linear-buffer=0,ext-buf=0"), format!("{plain:?}"));
        for (arguments, expected) in [
            ("", "vdevs[0]: net_vhost0 without a socket; iface=PATH"),
            ("queues=2", "vdevs[0]: net_vhost0 without a socket; iface=PATH"),
            (
                "iface=vm.sock",
                "vdevs[0]: socket `vm.sock` of net_vhost0; an absolute path of at most 107 bytes",
            ),
            ("iface=/a,queues=0", "vdevs[0]: `queues=0` of net_vhost0; queues=1 to queues=64"),
            ("iface=/a,queues=65", "vdevs[0]: `queues=65` of net_vhost0; queues=1 to queues=64"),
            ("iface=/a,queues", "vdevs[0]: `queues` of net_vhost0; queues=1 to queues=64"),
            ("iface=/a,client=yes", "vdevs[0]: `client=yes` of net_vhost0; client=0 or client=1"),
            ("iface=/a,legacy-ol-flags=1", "vdevs[0]: `legacy-ol-flags=1` of net_vhost0; legacy-ol-flags=0"),
        ] {
            assert_eq!(found(arguments), expected);
        }
        assert!(found("iface=/a,tso2=1").starts_with("vdevs[0]: `tso2=1` of net_vhost0; iface, queues, "));
        assert!(found(&format!("iface=/{}", "a".repeat(107))).contains("at most 107 bytes"));
        let number = |servers, clients| {
            let device = |n, arguments: &str| (format!("net_vhost{n}"), arguments.to_owned());
            let servers = (0..servers).map(|n| device(n, "iface=/a"));
            let clients = (1000..1000 + clients).map(|n| device(n, "iface=/b,client=1"));
            let others = [("net_null0".to_owned(), String::new())];
            check_number(&servers.chain(clients).chain(others).collect()).is_ok()
        };
        assert!(number(480, 0) && !number(481, 0) && number(0, 900) && !number(0, 901));
        assert!(number(30, 900) && !number(31, 900) && number(479, 2) && !number(479, 3));
        assert!(is_vhost("net_vhost3") && is_vhost("eth_vhost0") && !is_vhost("net_virtio_user0"));
    }

    #[test]
    fn vhost_user_ports_are_not_for_eal() {
        let words = [
            "-l",
            "0-1",
            "--vdev",
            "net_vhost0,iface=/a",
            "--vdev",
            "net_null0",
            "--vdev=eth_vhost1,iface=/b",
        ];
        let (kept, vhosts) = split(words.map(str::to_owned).into());
        assert_eq!(kept, ["-l", "0-1", "--vdev", "net_null0"]);
        assert_eq!(vhosts, ["net_vhost0,iface=/a", "eth_vhost1,iface=/b"]);
    }
}
