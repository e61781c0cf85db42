#!/usr/bin/python3
"""The far end is Linux's own vxlan device and bridge, declared by the operator, over an IPv4 and over an IPv6
underlay: both understand each other, both ways.

Two Linux hosts, one by IPv4 with UDP checksums off (Linux's default there) and one by IPv6, each with two
stations on a bridge. One station is declared with its addresses, the other is not, so that it is reached by
flooding only.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, say
from lib.lab.netns import Namespace, veth
from lib.product import stopover
from lib.traffic import capture, mesh


class LinuxHost:
    """A VTEP made of Linux's own parts: underlay interface, vxlan device, bridge."""

    def __init__(self, lab, net, name, vni, vtep, remote):
        self.name, self.vni, self.vtep = name, vni, vtep
        self.ns = Namespace(lab, name)
        veth(self.ns, "ul0", net.switch, f"port-{name}", mtu=net.mtu)
        net.switch.no_ipv6(f"port-{name}")
        net.switch.ip("link", "set", f"port-{name}", "master", "br0")
        self.ns.address("ul0", f"{vtep}/{64 if ':' in vtep else 24}")
        self.ns.bridge("br0", mtu=1500)
        # Whatever the far end does not know it sends to `remote`; what it sees from there it learns.
        self.ns.ip("link", "add", "vx0", "mtu", 1500, "type", "vxlan", "id", vni, "local", vtep, "remote", remote,
                   "dstport", 4789, "dev", "ul0", "ttl", 64)
        self.ns.no_ipv6("vx0")
        self.ns.ip("link", "set", "vx0", "master", "br0")
        self.ns.ip("link", "set", "vx0", "up")

    def plug(self, tenant):
        """Connects a tenant to the bridge."""
        dev = f"st{tenant.id}"
        veth(tenant.ns, "eth0", self.ns, dev, a_mac=tenant.mac)
        self.ns.no_ipv6(dev)
        self.ns.ip("link", "set", dev, "master", "br0")
        tenant.ns.address("eth0", *tenant.cidrs)


def body(lab):
    say("building one host with an appliance, and two Linux hosts with vxlan devices")
    lab.hugepages(stopover.MEMORY_MIB + 64)
    board = stopover.Board(lab)
    net = fabric.Fabric(lab)
    a = net.host("gw-a", board)
    far = [LinuxHost(lab, net, "linux4", 100, "10.0.0.11", a.vteps[0]),
           LinuxHost(lab, net, "linux6", 200, "fd00::12", a.vteps[1])]

    stations, known = [], 0
    for host in far:
        board.add_host(host.name, [host.vtep])
        board.add_member(host.vni, host.name, segment=True)
        for n in (1, 2, 3):
            t = fabric.Tenant(lab, f"{host.name}-{n}" if n > 1 else f"vm-{host.vni}", host.vni + n, host.vni,
                              f"02:00:00:00:00:{n:02x}", [f"192.168.0.{n}/24", f"fd01::{n}/64"])
            stations.append(t)
            if n == 1:
                t.plug_vif(a)
            else:
                host.plug(t)
            if n == 2:
                board.add_node(host.vni, t.mac, host.name, t.ips)
            known += n < 3
    a.start()
    stopover.wait_nodes([a], known)
    say(f"the appliance knows {known} nodes, of which the operator declared {known // 2}")

    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    lost = 0
    for host, vtep in zip(far, a.vteps):
        r = mesh.ping(host.ns, vtep, count=10, dev="ul0")
        say(f"{host.name} pings the appliance's VTEP {vtep}: {r['received']} of {r['sent']} answered")
        lost += r["lost"]
    pinged, bad_pings = mesh.pings(stations, count=10)
    say(f"ping: {dict(pinged)}")
    udp = mesh.streams(lab, stations, count=200, rate=500)
    say(f"UDP streams: {dict(udp)}")
    iperf = mesh.Iperf(lab, stations)
    tcp, bad_tcp = iperf.all_pairs(amount="2M")
    iperf.stop()
    say(f"iperf3: {dict(tcp)}")
    for line in bad_pings + bad_tcp:
        say(line)
    if bad_tcp:
        raise Failure(f"{len(bad_tcp)} TCP transfers failed")
    wire.stop()

    accounting = stopover.accounting([a])
    say("reading the capture of the underlay with tshark")
    seen = capture.Reading(wire.path)
    bad, warned = seen.bad_checksums(), seen.warnings()
    capture.tell(("bad checksum", bad), ("tshark warns", warned))
    return {
        "lost": lost + udp["lost"] + pinged["lost"],
        "duplicated": udp["duplicated"] + pinged["duplicated"],
        "leaked_between_networks": udp["leaked_between_networks"] + udp["astray"],
        "damaged": udp["damaged"],
        "bad_checksums": len(bad),
        **accounting,
        "tshark_warnings": len(warned),
        "vxlan_over_ipv4": seen.vxlan(100, "10.0.0."),
        "vxlan_over_ipv6": seen.vxlan(200, "fd00::"),
        "udp_sent": udp["sent"],
        **tcp,
    }


scenario.main("kernel-interop", body,
              must_be_zero=["lost", "duplicated", "leaked_between_networks", "damaged", "bad_checksums", "unaccounted",
                            "faulty_drops", "tshark_warnings"],
              must_be_positive=["vxlan_over_ipv4", "vxlan_over_ipv6", "udp_sent", "tcp_bytes"])
