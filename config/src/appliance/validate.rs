//! From the raw file to [`Appliance`]: single values, names and devices; the other modules check roles,
//! lcores and declarations. It ends at the first error.

use super::{
    Appliance, Declared, Device, Idle, Port, Role, Truth, across_ports, declared, lcores, migration, raw,
    roles, tunnels, underlay,
    vhost::{self, Vdevs},
};
use crate::{
    fault::{Checked, fault},
    read, text,
};
use std::path::Path;

/// testpmd's default for `--burst`.
const BURST: u16 = 32;
/// Largest burst: vectors on the lcore's stack are this long, and larger ones measured slower.
const MAX_BURST: u16 = 64;
/// `RTE_MEMPOOL_CACHE_MAX_SIZE`.
const MAX_MBCACHE: u32 = 512;
/// `RTE_MBUF_DEFAULT_BUF_SIZE`: 2048 bytes of data room after 128 of headroom.
const MBUF_SIZE: u16 = 2176;
/// Headroom plus an Ethernet frame with the smallest IPv6 MTU, rounded up.
const MIN_MBUF_SIZE: u16 = 1536;

pub(super) fn appliance(raw: raw::Appliance, origin: &Path) -> Checked<Appliance> {
    let name =
        text::host_name(&raw.name).map_err(|w| fault("name", quoted(&raw.name), w.expected, w.hint))?;
    let created = created_vdevs(&raw.eal, &raw.vdevs)?;
    let eal_lcores = lcores::parse_eal(&raw.eal)?;
    let no_pci = raw.eal.iter().any(|a| a == "--no-pci");
    let (eal, vhosts) = vhost::split(raw.eal);
    let mut vdevs: Vec<String> = raw.vdevs.into_iter().chain(vhosts).collect();
    let ports = all_ports(raw.ports, created, &mut vdevs, no_pci)?;
    let locals = across_ports::check(&ports)?;

    let lcores = match raw.lcores {
        Some(entries) => Some(lcores::check(entries, eal_lcores.as_ref(), &ports)?),
        None => {
            lcores::require_worker(eal_lcores.as_ref())?;
            None
        }
    };
    let truth = truth(raw.board, raw.declared, |d| declared::check(d, &name, &locals, origin))?;
    let tls = raw.tls.map(|s| read::absolute("tls", &s)).transpose()?;
    if let Truth::Board(endpoints) = &truth {
        read::needs_credentials("board", endpoints, tls.as_ref())?;
        read::needs_insecure("board", endpoints, raw.insecure)?;
    }
    let tunnels = tunnels::check(raw.tunnels, &name, &truth)?;
    let (mbufs, mbcache) = pool(raw.mbufs, raw.mbcache)?;
    Ok(Appliance {
        ctl: match raw.ctl {
            Some(s) => read::socket_path("ctl", &s)?,
            None => format!("/run/stopover/{name}.sock").into(),
        },
        name,
        eal,
        vdevs,
        burst: read::number("burst", raw.burst, BURST, 1..=MAX_BURST, "frames")?,
        rxd: read::number("rxd", raw.rxd, 512, 16..=32_768, "descriptors")?,
        txd: read::number("txd", raw.txd, 512, 16..=32_768, "descriptors")?,
        mbcache,
        mbufs,
        mbuf_size: read::number("mbuf_size", raw.mbuf_size, MBUF_SIZE, MIN_MBUF_SIZE..=u16::MAX, "bytes")?,
        idle: match raw.idle {
            Some(raw::Idle::Poll) => Idle::Poll,
            Some(raw::Idle::Adaptive { cap_us, poll_us }) => adaptive(cap_us, poll_us)?,
            None => adaptive(None, None)?,
        },
        truth,
        tls,
        insecure: raw.insecure,
        metrics: raw.metrics.map(|s| read::socket_addr("metrics", &s)).transpose()?,
        max_network_stations: read::number(
            "max_network_stations",
            raw.max_network_stations,
            roles::MAX_NETWORK_STATIONS,
            1..=roles::ALL_STATIONS,
            "stations",
        )?,
        stale_ms: read::number("stale_ms", raw.stale_ms, 30_000, 0..=3_600_000, "milliseconds")?,
        checkpoint_s: read::number("checkpoint_s", raw.checkpoint_s, 10, 0..=86_400, "seconds")?,
        migration: migration::check(raw.migration)?,
        tunnels,
        ports,
        lcores,
    })
}

/// The ports of the file. Those that create their devices add them to `vdevs`.
fn all_ports(
    raw: Vec<raw::Port>,
    mut created: Vdevs,
    vdevs: &mut Vec<String>,
    no_pci: bool,
) -> Checked<Vec<Port>> {
    if raw.is_empty() {
        return Err(fault("ports", "no port", "at least one", "add one, see examples/"));
    }
    let mut ports = Vec::with_capacity(raw.len());
    for (i, raw) in raw.into_iter().enumerate() {
        let at = format!("ports[{i}]");
        vdevs.extend(own_vdev(&at, &raw, &mut created)?);
        ports.push(port(&at, raw, &ports, &created, no_pci)?);
    }
    vhost::check_number(&created)?;
    Ok(ports)
}

/// Where the appliance takes hosts, networks and nodes from: a board, or its own configuration.
fn truth(
    board: Option<Vec<String>>,
    declared: Option<raw::Declared>,
    check: impl FnOnce(raw::Declared) -> Checked<Declared>,
) -> Checked<Truth> {
    match (board, declared) {
        (Some(board), None) => Ok(Truth::Board(endpoints(&board)?)),
        (None, Some(d)) => Ok(Truth::Declared(check(d)?.into())),
        (Some(_), Some(_)) => Err(fault(
            "declared",
            "both `board` and `declared`",
            "one of the two",
            "remove one; what an operator declares beside a board she declares at the board",
        )),
        (None, None) => Err(fault(
            "",
            "neither `board` nor `declared`",
            "one of the two",
            "add board: [\"https://host:7480\"], or declared: () to work without a board",
        )),
    }
}

/// Size of the pool of mbufs, and of each lcore's cache of it.
fn pool(mbufs: Option<i64>, mbcache: Option<i64>) -> Checked<(u32, u32)> {
    let mbufs: u32 = read::number("mbufs", mbufs, 16_384, 512..=1 << 26, "mbufs")?;
    let mbcache: u32 = read::number("mbcache", mbcache, 256, 0..=MAX_MBCACHE, "mbufs")?;
    if mbcache.saturating_mul(3) > mbufs.saturating_mul(2) {
        return Err(fault(
            "mbcache",
            format!("{mbcache} with a pool of {mbufs} mbufs"),
            "one and a half times mbcache to fit the pool",
            "lower mbcache or raise mbufs",
        ));
    }
    Ok((mbufs, mbcache))
}

/// Polling for 50 µs outlasts the pauses of senders under load, and costs 5 % of a core at a thousand frames a second.
fn adaptive(cap_us: Option<i64>, poll_us: Option<i64>) -> Checked<Idle> {
    Ok(Idle::Adaptive {
        cap_us: read::number("idle.cap_us", cap_us, 100, 1..=100_000, "microseconds")?,
        poll_us: read::number("idle.poll_us", poll_us, 50, 1..=10_000, "microseconds")?,
    })
}

fn quoted(s: &str) -> String {
    format!("`{}`", s.escape_debug())
}

/// The virtual devices of the file. Also refuses strings that cannot be passed to a C program.
pub(super) fn created_vdevs(eal: &[String], vdevs: &[String]) -> Checked<Vdevs> {
    let mut created = Vdevs::new();
    let mut create = |at: String, s: &str| create(&mut created, at, s);
    for (key, list) in [("eal", eal), ("vdevs", vdevs)] {
        for (i, s) in list.iter().enumerate() {
            not_for_c(&format!("{key}[{i}]"), s)?;
        }
    }
    let mut words = eal.iter().enumerate();
    while let Some((i, word)) = words.next() {
        if let Some(s) = word.strip_prefix("--vdev=") {
            create(format!("eal[{i}]"), s)?;
        } else if word == "--vdev"
            && let Some((i, s)) = words.next()
        {
            create(format!("eal[{i}]"), s)?;
        }
    }
    for (i, s) in vdevs.iter().enumerate() {
        without_option(&format!("vdevs[{i}]"), s)?;
        create(format!("vdevs[{i}]"), s)?;
    }
    Ok(created)
}

/// Adds the device of one vdev string.
fn create(created: &mut Vdevs, at: String, s: &str) -> Checked<()> {
    let (name, arguments) = s.split_once(',').unwrap_or((s, ""));
    let name = name.trim();
    if name.is_empty() {
        return Err(fault(
            at,
            quoted(s),
            "a device name first",
            "for example \"net_vhost0,iface=/run/vm.sock\"",
        ));
    }
    if vhost::is_vhost(name) {
        vhost::parse(&at, name, arguments)?;
    }
    if created.insert(name.to_owned(), arguments.to_owned()).is_some() {
        return Err(fault(
            at,
            format!("virtual device `{name}` again"),
            "each device once",
            "number the second, for example net_vhost1",
        ));
    }
    Ok(())
}

/// Refuses what cannot be passed to a C program.
fn not_for_c(at: &str, s: &str) -> Checked<()> {
    if s.contains('\0') || s.is_empty() {
        let hint = "one argument per string, as in a shell without quotes";
        return Err(fault(at, quoted(s), "a text without NUL", hint));
    }
    Ok(())
}

/// Refuses a vdev string with the option that EAL takes it by.
fn without_option(at: &str, s: &str) -> Checked<()> {
    let Some(rest) = s.strip_prefix("--vdev") else { return Ok(()) };
    let hint = format!("write \"{}\"", rest.trim_start_matches(['=', ' ']).escape_debug());
    Err(fault(at, quoted(s), "only what follows --vdev", hint))
}

/// The vdev string of a port that creates its device itself: a name, a comma, arguments. (A PCI address has a colon
/// before its first comma.)
pub(super) fn own_vdev(at: &str, port: &raw::Port, created: &mut Vdevs) -> Checked<Option<String>> {
    let Some((name, _)) = port.device.split_once(',').filter(|(name, _)| !name.contains(':')) else {
        return Ok(None);
    };
    let at = format!("{at}.device");
    not_for_c(&at, &port.device)?;
    without_option(&at, &port.device)?;
    if created.contains_key(name.trim()) {
        return Err(fault(
            at,
            format!("virtual device `{}` of port `{}`, which exists already", name.trim(), port.name),
            "another name for a device that the port creates",
            "give it another number, or write only the name to use the device that exists",
        ));
    }
    create(created, at, &port.device)?;
    Ok(Some(port.device.clone()))
}

/// Refuses drivers that read a kernel interface by a packet socket, for ports of guests. Such a socket returns frames
/// whose checksum a local sender left to hardware as if they were complete. The socket of `net_af_packet` also joins
/// IPv4 fragments (`PACKET_FANOUT_FLAG_DEFRAG`), to packets larger than any MTU of their path. Frames
/// between VTEPs are never fragments, so an underlay may use them.
fn check_guest_driver(at: &str, port: &str, device: &Device, created: &Vdevs, role: &Role) -> Checked<()> {
    let word = match role {
        Role::Underlay(_) => return Ok(()),
        Role::Vif(_) => "vif",
        Role::Segment(_) => "segment",
    };
    let Device::Vdev(name) = device else { return Ok(()) };
    let is = |driver: &str| ["net_", "eth_"].iter().any(|kind| name.starts_with(&format!("{kind}{driver}")));
    let live = |arguments: &String| {
        arguments
            .split(',')
            .any(|a| ["iface=", "rx_iface=", "rx_iface_in="].iter().any(|key| a.trim().starts_with(key)))
    };
    let by_packet_socket = is("af_packet") || (is("pcap") && created.get(name).is_some_and(live));
    if !by_packet_socket {
        return Ok(());
    }
    Err(fault(
        at,
        format!(
            "{word} port `{port}` on `{name}`, whose driver does not pass IPv4 fragments and unfinished checksums"
        ),
        format!(
            "a {word} on a driver that passes every frame, such as net_vhost, net_tap, net_memif, net_virtio_user, or a NIC"
        ),
        "instead of a packet socket on an interface of the kernel use \"net_tap0,iface=tap0\", and bridge tap0 with it; see Devices in docs/configuration.md",
    ))
}

fn endpoints(board: &[String]) -> Checked<Vec<crate::Endpoint>> {
    let mut endpoints = Vec::with_capacity(board.len());
    for (i, s) in board.iter().enumerate() {
        let at = format!("board[{i}]");
        let endpoint = read::endpoint(&at, s)?;
        if endpoints.contains(&endpoint) {
            return Err(fault(
                at,
                format!("{endpoint} again"),
                "each endpoint once",
                "remove the repetition",
            ));
        }
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        return Err(fault(
            "board",
            "no endpoint",
            "at least one",
            "add for example \"https://10.9.0.1:7480\", or use declared: () to work without a board",
        ));
    }
    Ok(endpoints)
}

pub(super) fn port(
    at: &str,
    raw: raw::Port,
    before: &[Port],
    created: &Vdevs,
    no_pci: bool,
) -> Checked<Port> {
    let name = raw.name;
    let allowed = (1..=32).contains(&name.len())
        && name != "all"
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    if !allowed {
        return Err(fault(
            format!("{at}.name"),
            quoted(&name),
            "a port name of 1 to 32 of A-Z a-z 0-9 . _ -, other than `all`",
            "rename the port",
        ));
    }
    if before.iter().any(|p| p.name == name) {
        return Err(fault(
            format!("{at}.name"),
            format!("port `{name}` again"),
            "each name once",
            "rename one of the two",
        ));
    }
    let device = device(&format!("{at}.device"), &name, &raw.device, created, no_pci)?;
    if let Some(other) = before.iter().find(|p| p.device == device) {
        return Err(fault(
            format!("{at}.device"),
            format!("device `{}` of port `{name}`, which port `{}` has already", device.as_str(), other.name),
            "a device for each port",
            "create another device in `vdevs`, or remove one of the ports",
        ));
    }
    let role = roles::role(&format!("{at}.role"), &name, raw.role)?;
    check_guest_driver(&format!("{at}.device"), &name, &device, created, &role)?;
    let mtu = match raw.mtu {
        None => None,
        given => Some(read::number(&format!("{at}.mtu"), given, 0, text::MIN_MTU..=u16::MAX, "bytes")?),
    };
    underlay::mtu_fits(&format!("{at}.mtu"), &name, mtu, &role)?;
    // Every ring that a guest may use is polled.
    let (rxq, most) = vhost::queues(created, device.as_str()).map_or((1, 64), |queues| (queues, queues));
    Ok(Port {
        rxq: read::number(&format!("{at}.rxq"), raw.rxq, rxq, 1..=most, "queues")?,
        txq: read::number(&format!("{at}.txq"), raw.txq, 0, 0..=most, "queues")?,
        promiscuous: raw.promiscuous.unwrap_or(matches!(role, Role::Segment(_))),
        name,
        device,
        mtu,
        role,
    })
}

fn device(at: &str, port: &str, s: &str, created: &Vdevs, no_pci: bool) -> Checked<Device> {
    let name = s.split_once(',').map_or(s, |(name, _)| name.trim());
    if !name.contains(':') {
        if created.contains_key(name) {
            return Ok(Device::Vdev(name.to_owned()));
        }
        let known = created.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let expected = if known.is_empty() {
            "a PCI address, or a device that `vdevs` creates (it creates none)".to_owned()
        } else {
            format!("a PCI address, or a device that `vdevs` creates: {known}")
        };
        return Err(fault(
            at,
            format!("device {} of port `{port}`", quoted(s)),
            expected,
            format!("add \"{},…\" to `vdevs`, or correct the name", s.escape_debug()),
        ));
    }
    let Some(address) = pci(s) else {
        return Err(fault(
            at,
            format!("device {} of port `{port}`", quoted(s)),
            "a PCI address such as 0000:03:00.0",
            "see `dpdk-devbind.py --status` for the addresses",
        ));
    };
    if no_pci {
        return Err(fault(
            at,
            format!("PCI device {address} of port `{port}`, with --no-pci in `eal`"),
            "EAL to look at PCI devices",
            "remove --no-pci from `eal`",
        ));
    }
    Ok(Device::Pci(address))
}

/// `[dddd:]bb:dd.f` in hexadecimal, as the kernel prints it with the domain.
fn pci(s: &str) -> Option<String> {
    let hex = |s: &str, len: usize| {
        (s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(s, 16).ok())
            .flatten()
    };
    let parts: Vec<&str> = s.split(':').collect();
    let (domain, bus, rest) = match parts[..] {
        [bus, rest] => (0, bus, rest),
        [domain, bus, rest] => (hex(domain, 4)?, bus, rest),
        _ => return None,
    };
    let (device, function) = rest.split_once('.')?;
    let (bus, device, function) = (hex(bus, 2)?, hex(device, 2)?, hex(function, 1)?);
    (device < 32 && function < 8).then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[cfg(test)]
mod tests {
    use super::pci;

    #[test]
    fn pci_addresses() {
        assert_eq!(pci("0000:03:00.0").as_deref(), Some("0000:03:00.0"));
        assert_eq!(pci("AB:1f.7").as_deref(), Some("0000:ab:1f.7"));
        for bad in ["0000:03:20.0", "0000:03:00.8", "03:00", "0:3:0.0", "::.", "0000:03:00.0:1", "zz:00.0"] {
            assert_eq!(pci(bad), None, "{bad}");
        }
    }
}
