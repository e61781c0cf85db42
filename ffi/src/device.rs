//! Devices as DPDK found them, before they are configured. Enters: a name from the configuration, a vdev's or a
//! PCI address. Leaves: a [`Device`] with one owner in the process, or an error with the reason why DPDK does
//! not see it.

use std::ffi::c_int;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::eal::{Eal, Runtime};
use crate::error::{Error, ErrorKind, c_name, clear_log, text};
use crate::sys;

/// Most devices of DPDK drivers in one process, as DPDK was built (`RTE_MAX_ETHPORTS`). vhost-user ports are none.
pub const MAX_DEVICES: usize = sys::RTE_MAX_ETHPORTS as usize;

/// Ports that have a [`Device`] or [`crate::Port`]. Two owners of one port would be two pollers of one queue.
static TAKEN: [AtomicBool; MAX_DEVICES] = [const { AtomicBool::new(false) }; MAX_DEVICES];

/// The right to use a device: one in the process. Dropping it frees the device for another owner.
pub(crate) struct Claim(u16);

impl Claim {
    fn of(id: u16) -> Option<Self> {
        let taken = TAKEN.get(usize::from(id))?;
        // Not `then_some`: the claim that it drops would free the other's.
        (!taken.swap(true, Ordering::SeqCst)).then(|| Self(id))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        TAKEN[usize::from(self.0)].store(false, Ordering::SeqCst);
    }
}

/// A device that this process has for itself, not yet configured: see [`Device::configure`].
#[must_use]
pub struct Device {
    claim: Claim,
    name: String,
    runtime: Arc<Runtime>,
}

/// A driver's description of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The driver, such as `net_vhost`.
    pub driver: String,
    /// Most receive queues.
    pub max_rxq: u16,
    /// Most transmit queues.
    pub max_txq: u16,
    /// Smallest MTU, in bytes.
    pub min_mtu: u16,
    /// Largest MTU, in bytes: what the driver names, or what its largest frame leaves.
    pub max_mtu: u16,
    /// The offloads it supports.
    pub offloads: Offloads,
    /// NUMA node, where it has one.
    pub socket: Option<u32>,
    /// Whether it reports link changes by an interrupt.
    pub link_interrupt: bool,
    /// Kernel interface whose MTU counts instead of the driver's: see [`KernelMtu`].
    pub(crate) kernel_mtu: Option<KernelMtu>,
    pub(crate) rss_hash_functions: u64,
    pub(crate) rss_hash_in_mbuf: bool,
}

/// Offloads of a device that this program can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// Checks the IPv4 header checksum of what it receives.
    pub rx_ip_csum: bool,
    /// Checks TCP and UDP checksums of what it receives. With `net_vhost` it also means that checksums a guest left
    /// unfinished remain so ([`Csum::None`](crate::Csum::None)); otherwise the driver finishes them in software.
    pub rx_l4_csum: bool,
    /// Fills in IPv4 header checksums.
    pub tx_ip_csum: bool,
    /// Fills in TCP and UDP checksums.
    pub tx_l4_csum: bool,
    /// Cuts TCP segments.
    pub tso: bool,
    /// Sends frames of several segments.
    pub multi_segs: bool,
    /// Receives frames longer than one buffer, into several.
    pub scatter: bool,
    /// Spreads flows over receive queues.
    pub rss: bool,
}

/// DPDK's bits for an offload, and its field in [`Offloads`].
type Bits = (u64, fn(&mut Offloads) -> &mut bool);

impl Offloads {
    const RX: [Bits; 3] = [
        (sys::SHIM_RXO_IPV4_CSUM, |o| &mut o.rx_ip_csum),
        (sys::SHIM_RXO_UDP_CSUM | sys::SHIM_RXO_TCP_CSUM, |o| &mut o.rx_l4_csum),
        (sys::SHIM_RXO_SCATTER, |o| &mut o.scatter),
    ];
    const TX: [Bits; 4] = [
        (sys::SHIM_TXO_IPV4_CSUM, |o| &mut o.tx_ip_csum),
        (sys::SHIM_TXO_UDP_CSUM | sys::SHIM_TXO_TCP_CSUM, |o| &mut o.tx_l4_csum),
        (sys::SHIM_TXO_TCP_TSO, |o| &mut o.tso),
        (sys::SHIM_TXO_MULTI_SEGS, |o| &mut o.multi_segs),
    ];

    fn from_bits(rx: u64, tx: u64, rss: u64) -> Self {
        let mut offloads = Self { rss: rss != 0, ..Self::default() };
        for (bits, field) in Self::RX {
            *field(&mut offloads) = rx & bits == bits;
        }
        for (bits, field) in Self::TX {
            *field(&mut offloads) = tx & bits == bits;
        }
        offloads
    }

    /// DPDK's words for these, (receive, transmit).
    pub(crate) fn to_bits(mut self) -> (u64, u64) {
        let rx = Self::RX.iter().filter(|(_, field)| *field(&mut self)).map(|(bits, _)| bits).sum();
        let tx = Self::TX.iter().filter(|(_, field)| *field(&mut self)).map(|(bits, _)| bits).sum();
        (rx, tx)
    }
}

impl DeviceInfo {
    /// Whether it bonds other devices. With LACP (IEEE 802.1AX) its driver works only while its queues are polled: see
    /// [`TxQueue::keep_alive`](crate::TxQueue::keep_alive).
    pub fn is_bond(&self) -> bool {
        self.driver == "net_bonding"
    }

    /// That of a vhost-user port. The driver's name is that of DPDK's ethdev driver for the same.
    pub(crate) fn of_vhost(queues: u16, offloads: Offloads) -> Self {
        Self {
            driver: "net_vhost".to_owned(),
            max_rxq: queues,
            max_txq: queues,
            min_mtu: 68,
            max_mtu: u16::MAX,
            offloads,
            socket: None,
            link_interrupt: true,
            kernel_mtu: None,
            rss_hash_functions: 0,
            rss_hash_in_mbuf: false,
        }
    }
}

impl Device {
    /// Takes the device of this name: a vdev's (`net_vhost0`) or a PCI address (`0000:03:00.0` or `03:00.0`).
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchDevice`] with the reason, if the machine shows it; [`ErrorKind::Busy`] if the
    /// program took it before, or a bond has it.
    pub fn find(eal: &Eal, name: &str) -> Result<Self, Error> {
        let pci = pci_address(name);
        let name = pci.clone().unwrap_or_else(|| name.to_owned());
        let c_name = c_name(&name)?;
        let mut id = 0;
        // SAFETY: EAL is up; the name is NUL-terminated, `id` is ours.
        if unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) } != 0 {
            let error = Error::new(ErrorKind::NoSuchDevice, format!("DPDK has no device {name}")).with_log();
            return Err(error.hint(match pci {
                Some(address) => explain_missing_pci(&address, Path::new(SYSFS_PCI)),
                None => format!(
                    "create it with the EAL argument --vdev={name},…; the devices here are [{}]",
                    names(eal).join(", ")
                ),
            }));
        }
        let Some(claim) = Claim::of(id) else {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("device {name} is used by another port already"),
            )
            .hint("give each port a device of its own"));
        };
        let device = Self { claim, name, runtime: eal.runtime() };
        if raw_info(device.id(), &device.name)?.bonded != 0 {
            return Err(Error::new(ErrorKind::Busy, format!("device {} is a member of a bond", device.name))
                .hint("use the bond, or remove it first"));
        }
        Ok(device)
    }

    /// Has DPDK forget the device of this name, so that it can be [probed](Self::probe) with other arguments. Nothing
    /// happens if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while a port or a bond has it; what its driver reports.
    pub fn remove(eal: &Eal, name: &str) -> Result<(), Error> {
        // Nobody takes it meanwhile.
        let device = match Self::find(eal, name) {
            Ok(device) => Some(device),
            Err(e) if e.kind() == ErrorKind::NoSuchDevice => None,
            Err(e) => return Err(e),
        };
        clear_log();
        match forget(name) {
            // Its bus does not know it.
            rc if rc >= 0 || device.is_none() => Ok(()),
            rc => Err(Error::from_rc(format!("device {name}: its bus keeps it"), rc).with_log()),
        }
    }

    /// Has DPDK find a device that it does not have: `devargs` are a vdev string or a PCI address, with arguments of its
    /// driver. After a success [`Self::find`] has it, also if it was there before. For the control thread: a driver may take seconds.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchDevice`] if the machine does not show it; otherwise what its driver reports.
    pub fn probe(_eal: &Eal, devargs: &str) -> Result<(), Error> {
        let name = devargs.split_once(',').map_or(devargs, |(name, _)| name).trim();
        let sysfs = Path::new(SYSFS_PCI);
        let pci = pci_address(name);
        // DPDK would log an error each time.
        if let Some(address) = pci.as_ref().filter(|address| !sysfs.join(address).exists()) {
            return Err(Error::new(ErrorKind::NoSuchDevice, format!("device {name}"))
                .hint(explain_missing_pci(address, sysfs)));
        }
        let args = c_name(devargs)?;
        clear_log();
        // SAFETY: EAL is up; the text is NUL-terminated.
        let rc = unsafe { sys::rte_dev_probe(args.as_ptr()) };
        if rc < 0 {
            let error = Error::from_rc(format!("DPDK cannot use device {name}"), rc).with_log();
            return Err(match pci {
                Some(address) => error.hint(explain_missing_pci(&address, sysfs)),
                None => error,
            });
        }
        Ok(())
    }

    /// DPDK's number for it.
    pub fn id(&self) -> u16 {
        self.claim.0
    }

    /// The name it was found by, PCI addresses in full.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's description.
    pub fn info(&self) -> Result<DeviceInfo, Error> {
        info(self.id(), &self.name)
    }

    /// Makes it a port's.
    pub(crate) fn into_parts(self) -> (Claim, String, Arc<Runtime>) {
        (self.claim, self.name, self.runtime)
    }
}

/// Has the bus forget a device that no port uses. EAL is up. Returns what DPDK does.
pub(crate) fn forget(name: &str) -> c_int {
    let pci = pci_address(name);
    let bus = if pci.is_some() { c"pci" } else { c"vdev" };
    let Ok(name) = c_name(pci.as_deref().unwrap_or(name)) else { return 0 };
    // SAFETY: EAL is up, as the caller says; both are NUL-terminated. Nobody uses the device.
    unsafe { sys::rte_eal_hotplug_remove(bus.as_ptr(), name.as_ptr()) }
}

/// The names of all devices DPDK has.
pub fn names(_eal: &Eal) -> Vec<String> {
    valid_names()
}

/// Whether DPDK has ports of the PCI device at this address: some have several. EAL is up.
pub(crate) fn has_ports_of(address: &str) -> bool {
    valid_names().iter().any(|name| name.starts_with(address))
}

fn valid_names() -> Vec<String> {
    let mut found = Vec::new();
    for id in 0..MAX_DEVICES as u16 {
        let mut name = [0; sys::SHIM_NAME_MAX];
        // SAFETY: EAL is up; the array has the size that DPDK's names have at most.
        if unsafe {
            sys::rte_eth_dev_is_valid_port(id) != 0
                && sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) == 0
        } {
            found.push(text(&name));
        }
    }
    found
}

/// The MTU of the kernel interface (by index) behind a device of `net_af_packet`. That driver names 1518 bytes as its
/// largest frame, and ethdev then refuses any MTU above 1500, but it carries what the interface and its `framesz` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelMtu(u32);

impl KernelMtu {
    pub(crate) fn get(self) -> Option<u16> {
        // SAFETY: an ioctl on a new socket, in the network namespace of this thread.
        u16::try_from(unsafe { sys::shim_kernel_mtu(self.0) }).ok()
    }

    pub(crate) fn set(self, mtu: u16) -> std::ffi::c_int {
        // SAFETY: as above.
        unsafe { sys::shim_set_kernel_mtu(self.0, mtu) }
    }
}

/// Ethernet header and checksum: a frame's length beyond its MTU, unless the driver states another.
const FRAME_OVERHEAD: u32 = 18;

fn raw_info(id: u16, name: &str) -> Result<sys::shim_dev_info, Error> {
    let mut raw = std::mem::MaybeUninit::<sys::shim_dev_info>::zeroed();
    // SAFETY: `raw` is ours, and all zeroes is a value of it; a wrong id is refused by DPDK.
    let (rc, raw) = unsafe { (sys::shim_dev_info(id, raw.as_mut_ptr()), raw.assume_init()) };
    if rc != 0 {
        return Err(Error::from_rc(format!("device {name}: its driver does not describe it"), rc));
    }
    Ok(raw)
}

fn info(id: u16, name: &str) -> Result<DeviceInfo, Error> {
    let raw = raw_info(id, name)?;
    // SAFETY: a wrong id is refused by DPDK.
    let socket = unsafe { sys::rte_eth_dev_socket_id(id) };
    Ok(DeviceInfo {
        driver: text(&raw.driver),
        max_rxq: raw.max_rxq,
        max_txq: raw.max_txq,
        min_mtu: raw.min_mtu,
        max_mtu: max_mtu(raw.max_mtu, raw.max_rx_pktlen),
        offloads: Offloads::from_bits(raw.rx_offloads, raw.tx_offloads, raw.rss & sys::SHIM_RSS_WANTED),
        socket: u32::try_from(socket).ok(),
        link_interrupt: raw.link_interrupt != 0,
        kernel_mtu: (text(&raw.driver) == "net_af_packet" && raw.if_index != 0)
            .then_some(KernelMtu(raw.if_index)),
        rss_hash_functions: raw.rss & sys::SHIM_RSS_WANTED,
        rss_hash_in_mbuf: raw.rx_offloads & sys::SHIM_RXO_RSS_HASH != 0,
    })
}

/// The largest MTU ethdev will accept: it derives the overhead of a frame just so, and refuses what exceeds the
/// driver's largest frame.
fn max_mtu(max_mtu: u16, max_rx_pktlen: u32) -> u16 {
    let named = u32::from(max_mtu);
    let overhead =
        if max_mtu != u16::MAX && max_rx_pktlen > named { max_rx_pktlen - named } else { FRAME_OVERHEAD };
    named.min(max_rx_pktlen.saturating_sub(overhead)) as u16
}

/// The full form of a PCI address, if this is one.
pub(crate) fn pci_address(name: &str) -> Option<String> {
    let hex = |s: &str, digits: usize| s.len() == digits && s.bytes().all(|b| b.is_ascii_hexdigit());
    let (rest, function) = name.rsplit_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, device) = match parts[..] {
        [bus, device] => ("0000", bus, device),
        [domain, bus, device] => (domain, bus, device),
        _ => return None,
    };
    (hex(domain, 4) && hex(bus, 2) && hex(device, 2) && hex(function, 1))
        .then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

/// Where Linux shows PCI devices.
pub(crate) const SYSFS_PCI: &str = "/sys/bus/pci/devices";

/// Why DPDK does not see a PCI device, according to sysfs.
pub(crate) fn explain_missing_pci(address: &str, sysfs: &Path) -> String {
    let device = sysfs.join(address);
    if !device.exists() {
        return "no such PCI device on this machine (lspci -D lists them)".to_owned();
    }
    let bind = format!("dpdk-devbind.py -b vfio-pci {address}");
    match std::fs::read_link(device.join("driver"))
        .ok()
        .and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()))
    {
        None => format!("it has no driver: {bind}"),
        Some(driver) if ["vfio-pci", "uio_pci_generic", "igb_uio"].contains(&driver.as_str()) => {
            format!(
                "it is bound to {driver}; EAL must not have --no-pci, and with -a it must be among those allowed"
            )
        }
        Some(driver) => format!("it is bound to {driver}, which is not a DPDK driver: {bind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_completed_and_vdev_names_are_not() {
        assert_eq!(pci_address("03:00.0").as_deref(), Some("0000:03:00.0"));
        assert_eq!(pci_address("0001:AF:1e.7").as_deref(), Some("0001:af:1e.7"));
        for name in ["net_vhost0", "03:00", "3:0.0", "00:03:00.0", "0000:03:00.0.1", "zz:00.0", ""] {
            assert_eq!(pci_address(name), None, "{name}");
        }
    }

    #[test]
    fn a_missing_pci_device_is_explained() {
        let sysfs = tempfile::tempdir().expect("a directory");
        let of = |address: &str| explain_missing_pci(address, sysfs.path());
        let bound = |address: &str, driver: &str| {
            let device = sysfs.path().join(address);
            std::fs::create_dir(&device).expect("a device");
            std::os::unix::fs::symlink(format!("../../../bus/pci/drivers/{driver}"), device.join("driver"))
                .expect("a link");
        };
        assert!(of("0000:03:00.0").contains("no such PCI device"));
        bound("0000:03:00.0", "ixgbe");
        assert_eq!(
            of("0000:03:00.0"),
            "it is bound to ixgbe, which is not a DPDK driver: dpdk-devbind.py -b vfio-pci 0000:03:00.0"
        );
        bound("0000:03:00.1", "vfio-pci");
        assert!(of("0000:03:00.1").contains("--no-pci"));
        std::fs::create_dir(sysfs.path().join("0000:03:00.2")).expect("a device");
        assert!(of("0000:03:00.2").contains("it has no driver: dpdk-devbind.py"));
    }

    #[test]
    fn the_largest_mtu_leaves_room_for_the_frame() {
        assert_eq!(max_mtu(u16::MAX, 1518), 1500);
        assert_eq!(max_mtu(9000, 9022), 9000);
        assert_eq!(max_mtu(u16::MAX, u32::MAX), u16::MAX);
        assert_eq!(max_mtu(u16::MAX, 10), 0);
    }

    #[test]
    fn offloads_round_trip_through_dpdk_bits() {
        let all = Offloads::from_bits(u64::MAX, u64::MAX, 0);
        assert!(all.rx_l4_csum && all.tso && !all.rss);
        let (rx, tx) = all.to_bits();
        assert_eq!(Offloads::from_bits(rx, tx, 0), all);
        assert_eq!(Offloads::default().to_bits(), (0, 0));
        assert!(!Offloads::from_bits(sys::SHIM_RXO_UDP_CSUM, 0, 0).rx_l4_csum, "UDP alone is not both");
    }
}
