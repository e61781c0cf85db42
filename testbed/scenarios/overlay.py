#!/usr/bin/python3
"""Three hosts and two networks with the same MACs and IPs: all stations of a network reach each other, and none of the
other network.

Host gw-a has a VM of each network and, behind a segment port for each, a bridge with two stations, one of which the
appliance must learn. Host gw-b has two VMs of each, so some frames stay on one host. Behind host gw-c is a site with a
VLAN trunk and a station of each network.

All pairs exchange, over IPv4 and IPv6: pings, pings larger than the MTU (they arrive in fragments), UDP streams with
sequence numbers (broadcast and multicast too), and TCP by iperf3. The stations' interfaces have the kernel's default
offloads, so TCP and UDP leave them without checksums and in long segments. The whole underlay is captured and read by
tshark.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import fabric, info
from lib.product import stopover
from lib.traffic import capture, mesh

NETWORKS = {100: "red", 200: "blue"}
VLANS = {10: 100, 20: 200}
FRAGMENTED = 4000  # bytes of a ping: three fragments at an MTU of 1500
RATE = 150 if scenario.SHORT else 400  # datagrams per second of each of the twelve stations


def build(lab):
    """The fabric with its hosts, and all stations by network and number."""
    _, net, (a, b, c) = fabric.three_hosts(lab)
    # The same MACs and addresses in both networks; only the identity in the datagrams differs.
    stations = {(vni, n): fabric.Tenant.numbered(lab, f"{NETWORKS[vni]}{n}", vni, n, vni + n)
                for vni in NETWORKS for n in range(1, 7)}
    for vni, name in NETWORKS.items():
        stations[vni, 1].plug_vif(a)
        stations[vni, 2].plug_vif(b)
        stations[vni, 3].plug_vif(b)
        site = fabric.Site(lab, a, f"site-{name}", vni=vni, declared=[stations[vni, 5]])
        stations[vni, 5].plug_site(site)
        stations[vni, 6].plug_site(site)
    campus = fabric.Site(lab, c, "campus", vlans=VLANS, declared=[stations[vni, 4] for vni in NETWORKS])
    for vni in NETWORKS:
        stations[vni, 4].plug_site(campus)
    campus.start()
    return net, stations


def start(net, stations):
    """Starts the appliances and waits until each knows every station. Returns the addresses that they know."""
    for host in net.hosts:
        host.start()
    stopover.wait_nodes(net.hosts, len(stations) - len(NETWORKS), or_more=True)
    for vni in NETWORKS:  # an undeclared station is learned when it sends
        mesh.ping(stations[vni, 6].ns, stations[vni, 1].ips[0], count=2)
        mesh.ping(stations[vni, 6].ns, stations[vni, 1].ips[1], count=2)
    stopover.wait_nodes(net.hosts, len(stations))
    known = stopover.addresses(net.hosts[0].json("show", "nodes"))
    info(f"the board and three appliances run; each knows {len(stations)} nodes with {len(known)} addresses")
    return known


def body(lab):
    info("building three hosts, an underlay switch, and two networks with six stations each")
    net, stations = build(lab)
    known = start(net, stations)
    stations = list(stations.values())
    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    pinged, udp, tcp = mesh.everything(lab, stations, 5, 100, RATE, "512K")
    fragments, bad_fragments = mesh.pings(stations, count=2, size=FRAGMENTED)
    info(f"ping of {FRAGMENTED} bytes: {dict(fragments)}")
    for line in bad_fragments:
        info(line)
    wire.stop()

    accounting = stopover.accounting(net.hosts)
    info("reading the capture of the underlay with tshark")
    seen = capture.Reading(wire.path)
    requests, bad, warned, strange = (seen.address_requests(known), seen.bad_checksums(), seen.warnings(),
                                      seen.not_vxlan())
    capture.print_findings(("needless request on the underlay", requests), ("bad checksum", bad),
                           ("tshark warns", warned), ("not VXLAN", strange))
    return {
        "lost": udp["lost"] + pinged["lost"],
        "fragmented_lost": fragments["lost"],
        "fragmented_sent": fragments["sent"],
        "duplicated": udp["duplicated"] + pinged["duplicated"],
        "reordered": udp["reordered"],
        "leaked_between_networks": udp["leaked_between_networks"] + udp["astray"],
        "damaged": udp["damaged"],
        "arp_on_underlay": len(requests),
        **accounting,
        "bad_checksums": len(bad),
        "tshark_warnings": len(warned),
        "not_vxlan": len(strange),
        "vxlan_frames": seen.vxlan(),
        "udp_sent": udp["sent"],
        **tcp,
    }


scenario.main("overlay", body,
              must_be_zero=["lost", "fragmented_lost", "duplicated", "leaked_between_networks", "damaged", "arp_on_underlay",
                            "unaccounted", "faulty_drops", "bad_checksums", "tshark_warnings", "not_vxlan"],
              must_be_positive=["fragmented_sent", "vxlan_frames", "udp_sent", "tcp_bytes"])
