#!/usr/bin/python3
"""Three hosts, two networks with the same MACs and IPs in both: everybody reaches everybody of their own network,
nobody of the other. Also with packets above one MTU, which arrive in fragments, and with what a kernel leaves to hardware:
stations' interfaces are as the kernel makes them, so that TCP and UDP start out without checksums and in long segments.

Host a has a VM of each network and, behind a segment port each, a bridge with two stations, of which the
appliance must find one by itself; host b has two VMs of each, so that frames also stay on one host; behind host
c lies a site with a VLAN trunk and a station of each network. All pairs, over IPv4 and IPv6: ping, UDP streams
with sequence numbers (also broadcast and multicast), TCP by iperf3. The underlay is captured whole and read by
tshark.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, say
from lib.product import stopover
from lib.traffic import capture, mesh

NETWORKS = {100: "red", 200: "blue"}
VLANS = {10: 100, 20: 200}
FRAGMENTED = 4000  # bytes of a ping: three fragments where the MTU is 1500


def body(lab):
    say("building three hosts, an underlay switch, two networks with six stations each")
    lab.hugepages(3 * stopover.MEMORY_MIB + 64)
    board = stopover.Board(lab)
    net = fabric.Fabric(lab)
    a, b, c = (net.host(n, board) for n in ("gw-a", "gw-b", "gw-c"))

    def tenant(vni, n):
        # The same MAC and addresses in both networks; only the identity in the datagrams differs.
        return fabric.Tenant(lab, f"{NETWORKS[vni]}{n}", vni + n, vni, f"02:00:00:00:00:{n:02x}",
                             [f"192.168.0.{n}/24", f"fd01::{n}/64"])

    stations = {(vni, n): tenant(vni, n) for vni in NETWORKS for n in range(1, 7)}
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
    everybody = list(stations.values())

    for host in net.hosts:
        host.start()
    stopover.wait_nodes(net.hosts, len(everybody) - len(NETWORKS), or_more=True)
    for vni in NETWORKS:  # the undeclared stations are found once they speak
        mesh.ping(stations[vni, 6].ns, stations[vni, 1].ips[0], count=2)
        mesh.ping(stations[vni, 6].ns, stations[vni, 1].ips[1], count=2)
    stopover.wait_nodes(net.hosts, len(everybody))
    known = stopover.addresses(a.json("show", "nodes"))
    say(f"board and three appliances run; each knows all {len(everybody)} nodes with {len(known)} addresses")

    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    pinged, bad_pings = mesh.pings(everybody, count=5)
    say(f"ping: {dict(pinged)}")
    fragments, bad_fragments = mesh.pings(everybody, count=2, size=FRAGMENTED)
    say(f"ping of {FRAGMENTED} bytes: {dict(fragments)}")
    udp = mesh.streams(lab, everybody, count=100, rate=400)
    say(f"UDP streams: {dict(udp)}")
    iperf = mesh.Iperf(lab, everybody)
    tcp, bad_tcp = iperf.all_pairs(amount="512K")
    iperf.stop()
    say(f"iperf3: {dict(tcp)}")
    for line in bad_pings + bad_fragments + bad_tcp:
        say(line)
    if bad_tcp:
        raise Failure(f"{len(bad_tcp)} TCP transfers failed")
    wire.stop()

    accounting = stopover.accounting(net.hosts)
    say("reading the capture of the underlay with tshark")
    seen = capture.Reading(wire.path)
    requests, bad, warned, strange = (seen.address_requests(known), seen.bad_checksums(), seen.warnings(),
                                      seen.not_vxlan())
    capture.tell(("needless request on the underlay", requests), ("bad checksum", bad), ("tshark warns", warned),
                 ("not VXLAN", strange))
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
