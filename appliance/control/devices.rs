//! Devices of the ports: finds and configures them, checks that lcores and buffers suffice, and starts them. Enters: the
//! configuration. Leaves: the mbuf pools, configured devices with what they report, then running ports with their queues.

use crate::control::{
    connect::Started,
    mtu,
    numa::{Pools, Sockets},
    plan::Facts,
    vhost_sockets,
};
use anyhow::{Context, Result, bail};
use dpdk::{Device, DeviceInfo, Eal, ErrorKind, Granted, Offloads, Port, PortConfig, VhostConfig};
use std::collections::BTreeMap;
use stopover_config::appliance::{self as config, Appliance, QueueRef};
use stopover_net::Mac;

/// Most receive queues of a port.
pub const MAX_QUEUES: u16 = 64;

/// What devices need before they are configured.
#[derive(Debug)]
pub struct Reserved {
    /// The pools of all frames.
    pub pools: Pools,
    /// By lcore, the receive queues that it polls.
    pub assigned: BTreeMap<u32, Vec<QueueRef>>,
}

/// What the device of a port is made of.
#[derive(Debug)]
pub enum DeviceSource {
    /// A vhost-user socket.
    Vhost(config::Vhost),
    /// What DPDK is to be told to find the device: a vdev string or a PCI address, with arguments of its driver.
    Driver(String),
}

impl DeviceSource {
    /// As this configuration has it.
    #[must_use]
    pub fn of(config: &Appliance, device: &config::Device) -> Self {
        match config.vhost(device.as_str()) {
            Some(vhost) => Self::Vhost(vhost),
            None => Self::Driver(config.devargs(device)),
        }
    }

    /// The vhost-user socket, if it is one.
    #[must_use]
    pub fn vhost(&self) -> Option<config::Vhost> {
        match self {
            Self::Vhost(vhost) => Some(vhost.clone()),
            Self::Driver(_) => None,
        }
    }

    /// Prepares the socket, or has DPDK find the device if it does not have it. Returns whether it did not.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn prepare(&self, eal: &Eal) -> Result<bool> {
        match self {
            Self::Vhost(vhost) => vhost_sockets::prepare_socket(vhost).map(|()| false),
            Self::Driver(devargs) => {
                vhost_sockets::prepare_folder(devargs)?;
                match Device::find(eal, name(devargs)) {
                    Ok(_) => Ok(false),
                    Err(e) if e.kind() == ErrorKind::NoSuchDevice => {
                        Device::probe(eal, devargs)?;
                        Ok(true)
                    }
                    Err(e) => Err(e.into()),
                }
            }
        }
    }

    /// A port could not be made of it: DPDK has it as before. `is_new`: what [`Self::prepare`] has returned.
    pub fn give_back(&self, eal: &Eal, is_new: bool) {
        let Self::Driver(devargs) = self else { return };
        let removed = Device::remove(eal, name(devargs));
        let done = if is_new { removed } else { removed.and_then(|()| Device::probe(eal, devargs)) };
        if let Err(e) = done {
            log::warn!("{e}");
        }
    }
}

/// The name of a device in a vdev string, or its PCI address.
fn name(devargs: &str) -> &str {
    devargs.split_once(',').map_or(devargs, |(name, _)| name).trim()
}

/// A device that is configured but not started.
pub struct Ready {
    port: Port,
    /// What it reports of itself.
    pub facts: Facts,
}

impl Ready {
    /// What the device granted.
    #[must_use]
    pub fn granted(&self) -> &dpdk::Granted {
        self.port.granted()
    }

    /// What the device granted, and its socket.
    #[must_use]
    pub fn on_socket(&self) -> (Option<u32>, &Granted) {
        (self.port.info().socket, self.port.granted())
    }

    /// Has it use this address.
    ///
    /// # Errors
    /// It has another, and its driver refuses.
    pub fn keep_mac(&self, mac: Mac) -> Result<(), dpdk::Error> {
        if self.facts.mac == mac { Ok(()) } else { self.port.set_mac(mac.octets()) }
    }

    /// Starts it.
    pub fn start(self, name: &str) -> Result<Started> {
        let queues = self.port.start().with_context(|| format!("port {name}"))?;
        Ok(Started { port: self.port, queues })
    }
}

impl Reserved {
    /// Assigns queues, and creates the pools. A device that is not there yet is taken to be on no socket.
    pub fn new(eal: &Eal, config: &Appliance) -> Result<Self> {
        let sockets = sockets(eal, config);
        let pools = Pools::create(eal, config, &sockets)?;
        let workers: Vec<u32> = sockets.lcores.keys().copied().collect();
        let assigned = config.queues_by_lcore(&workers, |port, lcore| sockets.is_near(port, lcore));
        check_lcores(&assigned, &workers, eal)?;
        for far in sockets.far(&assigned) {
            let name = config.ports.get(far.queue.port).map_or("?", |port| port.name.as_str());
            log::warn!(port = name; "{}", far.explain(name));
        }
        Ok(Self { pools, assigned })
    }

    /// Configures the devices of all ports. Returns them in the order of these.
    pub fn configure(&self, eal: &Eal, config: &Appliance) -> Result<Vec<Ready>> {
        let Self { pools, assigned } = self;
        let ready = config
            .ports
            .iter()
            .map(|port| {
                configure(eal, config, port, config.vhost(port.device.as_str()), (assigned.len(), pools))
            })
            .collect::<Result<Vec<_>>>()?;
        let granted: Vec<_> = ready.iter().map(Ready::on_socket).collect();
        check_pools(config, &granted, assigned.len(), pools)?;
        Ok(ready)
    }
}

/// Of the worker lcores and of the devices that are there.
fn sockets(eal: &Eal, config: &Appliance) -> Sockets {
    let of_device = |port: &config::Port| {
        let name = Some(port.device.as_str()).filter(|name| config.vhost(name).is_none())?;
        Device::find(eal, name).ok()?.info().ok()?.socket
    };
    let workers = eal.worker_lcores().into_iter();
    Sockets {
        lcores: workers.map(|lcore| (lcore.get(), lcore.socket())).collect(),
        ports: config.ports.iter().map(of_device).collect(),
    }
}

/// Checks that DPDK, as it was built, has room for the devices.
pub fn check_number(config: &Appliance) -> Result<()> {
    let is_device = |port: &&config::Port| config.vhost(port.device.as_str()).is_none();
    let devices = config.ports.iter().filter(is_device).count();
    if devices > dpdk::MAX_DEVICES {
        bail!(
            "ports: found {devices} beside vhost-user ports; expected at most {}, as this DPDK was built (RTE_MAX_ETHPORTS); hint: use vhost-user ports for VMs, or build DPDK with a higher max_ethports",
            dpdk::MAX_DEVICES
        );
    }
    Ok(())
}

fn check_lcores(assigned: &BTreeMap<u32, Vec<QueueRef>>, workers: &[u32], eal: &Eal) -> Result<()> {
    if workers.is_empty() {
        bail!(
            "EAL has no worker lcore beside the main lcore {}; expected at least two lcores; hint: name two in `eal`, for example `\"-l\", \"0-1\"`, or `\"--lcores\", \"0@0,1@0\"` on a single core",
            eal.main_lcore()
        );
    }
    for lcore in assigned.keys() {
        if !workers.contains(lcore) {
            bail!(
                "lcore {lcore} is not a worker lcore of EAL; expected one of {workers:?}; hint: correct `lcores` or the EAL arguments"
            );
        }
    }
    Ok(())
}

/// Every descriptor and every lcore's cache can hold a buffer, and each lcore needs one more burst to work with. Frames of
/// each pool may be in any transmit queue. `ports`: what each was granted, and its socket.
///
/// # Errors
/// A pool is too small.
pub fn check_pools(
    config: &Appliance,
    ports: &[(Option<u32>, &Granted)],
    lcores: usize,
    pools: &Pools,
) -> Result<()> {
    for pool in pools.sockets() {
        let is_fed = |socket: Option<u32>| pool.is_none() || socket.is_none() || socket == pool;
        let rx = |g: &Granted, fed: bool| u32::from(g.rxq) * u32::from(g.rxd) * u32::from(fed);
        let tx = |g: &Granted| u32::from(g.txq) * u32::from(g.txd);
        let descriptors: u32 = ports.iter().map(|(socket, g)| rx(g, is_fed(*socket)) + tx(g)).sum();
        let needed = descriptors + lcores as u32 * (config.mbcache + u32::from(config.burst));
        if config.mbufs < needed {
            let of_socket = pool.map_or(String::new(), |socket| format!(" for the pool of socket {socket}"));
            bail!(
                "mbufs: found {}; expected at least {needed}{of_socket}: {descriptors} for the queues' descriptors, the rest for {lcores} lcores' caches and bursts; hint: raise `mbufs`, or lower `rxd`, `txd` or the number of queues",
                config.mbufs
            );
        }
    }
    Ok(())
}

/// Finds and configures the device of a port.
pub fn configure(
    eal: &Eal,
    config: &Appliance,
    port: &config::Port,
    vhost: Option<config::Vhost>,
    (lcores, pools): (usize, &Pools),
) -> Result<Ready> {
    let context = || format!("port {}", port.name);
    let ready = match vhost {
        Some(vhost) => open_vhost(eal, port, vhost, lcores, pools),
        None => configure_ethdev(eal, config, port, lcores, pools),
    };
    let ready = ready.with_context(context)?;
    let granted = ready.granted();
    if port.mtu.is_some_and(|mtu| mtu != granted.mtu) {
        log::warn!(
            "port {}: MTU {} instead of {:?}: the device accepts no other",
            port.name,
            granted.mtu,
            port.mtu
        );
    }
    let mac = Mac::new(ready.mac().with_context(context)?);
    let mtu = port.mtu.map_or(granted.mtu, |mtu| mtu.min(granted.mtu));
    if let Some(why) =
        mtu::too_small(&port.name, mtu, &mtu::inside(&port.role, mtu, config.tunnels.is_some()))
    {
        log::warn!("{why}");
    }
    let exact = is_vhost(ready.info());
    // A guest does what it has negotiated (`Ports::changed_offloads`): nothing before it is there.
    let facts = Facts {
        mac,
        mtu,
        fills_checksums: granted.offloads.tx_l4_csum && !exact,
        segments_tcp: granted.offloads.tso && !exact,
        exact,
    };
    Ok(Ready { port: ready, facts })
}

/// Opens a vhost-user port.
fn open_vhost(
    eal: &Eal,
    port: &config::Port,
    vhost: config::Vhost,
    lcores: usize,
    pools: &Pools,
) -> Result<Port> {
    let config = VhostConfig {
        path: vhost.path,
        client: vhost.client,
        queues: port.rxq.max(port.txq),
        txq: match port.txq {
            0 => (lcores as u16).clamp(1, port.rxq),
            txq => txq,
        },
        // The outer checksums of what comes from other hosts are complete.
        csum: !matches!(port.role, config::Role::Underlay(_)),
        tso: vhost.tso,
        iommu: vhost.iommu,
        postcopy: vhost.postcopy,
        mtu: port.mtu,
    };
    // Until an lcore polls it.
    Ok(Port::open_vhost(eal, port.device.as_str(), config, pools.usual())?)
}

/// Finds and configures a device of a DPDK driver.
fn configure_ethdev(
    eal: &Eal,
    config: &Appliance,
    port: &config::Port,
    lcores: usize,
    pools: &Pools,
) -> Result<Port> {
    let device = Device::find(eal, port.device.as_str())?;
    let info = device.info()?;
    if info.max_rxq < port.rxq {
        bail!(
            "found {} receive queues; {} has at most {}; hint: lower `rxq`, or give the vdev more queues",
            port.rxq,
            port.device.as_str(),
            info.max_rxq
        );
    }
    Ok(device.configure(&port_config(config, port, &info, lcores), pools.of(info.socket))?)
}

/// The requested configuration of a port's device.
fn port_config(config: &Appliance, port: &config::Port, info: &DeviceInfo, lcores: usize) -> PortConfig {
    PortConfig {
        rxq: port.rxq,
        txq: match port.txq {
            // A tap has one file per pair of queues.
            0 if info.driver == "net_tap" => port.rxq,
            0 => (lcores as u16).min(info.max_txq).max(1),
            txq => txq,
        },
        rxd: config.rxd as u16,
        txd: config.txd as u16,
        mtu: port.mtu,
        promiscuous: port.promiscuous,
        all_multicast: true,
        offloads: Offloads {
            rx_l4_csum: !matches!(port.role, config::Role::Underlay(_)),
            multi_segs: true,
            scatter: true,
            rss: true,
            ..Offloads::default()
        },
    }
}

fn is_vhost(info: &DeviceInfo) -> bool {
    info.driver == "net_vhost"
}

/// Starts the devices of all ports.
pub fn start_ports(config: &Appliance, ready: Vec<Ready>) -> Result<Vec<Started>> {
    config.ports.iter().zip(ready).map(|(port, ready)| ready.start(&port.name)).collect()
}
