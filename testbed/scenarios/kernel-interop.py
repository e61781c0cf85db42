#!/usr/bin/python3
"""Interoperation with Linux's own vxlan device and bridge, over an IPv4 and an IPv6 underlay, in both directions.

One host has an appliance. Two Linux hosts, declared by the operator, have two stations each on a bridge: one host uses
IPv4 without UDP checksums (Linux's default there), the other IPv6. One station of each is declared with its addresses;
the other is not, so it is reached by flooding only.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import fabric, info
from lib.peers.linux_vxlan import LinuxHost
from lib.product import stopover
from lib.traffic import capture, mesh


def build(lab):
    """The appliance, the Linux hosts and all stations."""
    lab.hugepages(stopover.MEMORY_MIB + 64)
    board = stopover.Board(lab)
    net = fabric.Fabric(lab)
    gateway = net.host("gw-a", board)
    linux_hosts = [LinuxHost(lab, net, "linux4", 100, "10.0.0.11", gateway.vteps[0]),
                   LinuxHost(lab, net, "linux6", 200, "fd00::12", gateway.vteps[1])]
    stations, known = [], 0
    for host in linux_hosts:
        board.add_host(host.name, [host.vtep])
        board.add_member(host.vni, host.name, segment=True)
        for n in (1, 2, 3):
            name = f"{host.name}-{n}" if n > 1 else f"vm-{host.vni}"
            t = fabric.Tenant.numbered(lab, name, host.vni, n, host.vni + n)
            stations.append(t)
            if n == 1:
                t.plug_vif(gateway)
            else:
                host.plug(t)
            if n == 2:
                board.add_node(host.vni, t.mac, host.name, t.ips)
            known += n < 3
    gateway.start()
    stopover.wait_nodes([gateway], known)
    info(f"the appliance knows {known} nodes; the operator declared {known // 2} of them")
    return net, gateway, linux_hosts, stations


def body(lab):
    info("building one host with an appliance, and two Linux hosts with vxlan devices")
    net, gateway, linux_hosts, stations = build(lab)
    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    lost = 0
    for host, vtep in zip(linux_hosts, gateway.vteps):
        r = mesh.ping(host.ns, vtep, count=10, dev="ul0")
        info(f"{host.name} pings the appliance's VTEP {vtep}: {r['received']} of {r['sent']} answered")
        lost += r["lost"]
    pinged, udp, tcp = mesh.everything(lab, stations, 10, 200, 500, "2M")
    wire.stop()

    accounting = stopover.accounting([gateway])
    info("reading the capture of the underlay with tshark")
    seen = capture.Reading(wire.path)
    bad, warned = seen.bad_checksums(), seen.warnings()
    capture.print_findings(("bad checksum", bad), ("tshark warns", warned))
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
