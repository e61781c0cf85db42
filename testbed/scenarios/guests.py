#!/usr/bin/python3
"""Two QEMU guests on vhost-user sockets of two appliances, and beside one of them a station without virtio and a guest
whose NIC takes no offloads: ping and TCP between all, with the offloads that virtio-net negotiates.

A guest that negotiated checksum and segmentation offload hands over TCP frames of up to 64 KiB without checksums. On
the underlay, and at the station, tshark must see ordinary frames with correct checksums. The third guest drops what it
has not negotiated, so TCP to it only works if each frame arrives finished.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.lab import Failure, fabric, info
from lib.lab.fabric import cidrs, ips
from lib.product import ron, stopover
from lib.traffic import capture

VNI = 100
LONGEST = 14 + 40 + 8 + 8 + 14 + 1500  # an inner frame at MTU 1500 in VXLAN over IPv6


def build(lab):
    """The fabric with a guest on each of its two hosts, and the station and another guest on the first."""
    lab.hugepages(2 * stopover.MEMORY_MIB + 64)
    board = stopover.Board(lab)
    net = fabric.Fabric(lab)
    hosts = [net.host("gw-a", board), net.host("gw-b", board)]
    machines = [(1, hosts[0], False), (2, hosts[1], False), (4, hosts[0], True)]
    for n, host, _ in machines:
        mac = f"52:54:00:00:00:0{n}"
        role = ron.tagged("vif", vni=VNI, mac=mac, addresses=ips(n), guard=True)
        host.vhost(f"vm{n}", lab.dir / f"vm{n}.sock", role, tso=True)
    station = fabric.Tenant.numbered(lab, "station", VNI, 3).plug_vif(hosts[0])
    for host in hosts:
        host.start()
    guests = [guest.Guest(lab, f"vm{n}", lab.dir / f"vm{n}.sock", f"52:54:00:00:00:0{n}", ns=host.ns, simple=simple)
              for n, host, simple in machines]
    for g, (n, _, _) in zip(guests, machines):
        g.booted()
        g.address(*cidrs(n))
    stopover.wait_nodes(hosts, 4)
    return net, guests, station


def pings(vm1, vm2):
    """Pings between all. Returns how many were lost, and how many answers were duplicates."""
    lost = duplicated = 0
    for g, ip in ((vm1, "192.168.0.2"), (vm2, "fd01::1"), (vm1, "fd01::3"), (vm2, "192.168.0.3")):
        r = g.ping(ip, count=20)
        info(f"{g.name} pings {ip}: {r['received']} of {r['sent']} answered")
        lost, duplicated = lost + r["lost"], duplicated + r["duplicated"]
    large = vm1.ping("192.168.0.2", count=5, size=1472)
    return lost + large["lost"], duplicated


def transfers(vm1, vm2, simple, shell):
    """TCP between all. Returns the bytes that arrived intact, and the seconds that took."""
    total, seconds = 0, 0.0
    for frm, to, ip in ((vm1, vm2, "192.168.0.2"), (vm2, vm1, "fd01::1"), (vm1, shell, "192.168.0.3"),
                        (shell, vm1, "fd01::1"), (vm2, shell, "fd01::3"), (shell, vm2, "192.168.0.2"),
                        (vm1, simple, "192.168.0.4"), (vm1, simple, "fd01::4"), (simple, vm1, "192.168.0.1")):
        size, took, why = guest.tcp(frm, to, ip)
        info(f"TCP {frm.name} -> {to.name} {ip}: {size} bytes intact in {took:.1f} s {why}")
        if why:
            raise Failure(f"TCP from {frm.name} to {to.name}: {why}")
        total, seconds = total + size, seconds + took
    return total, seconds


def body(lab):
    guest.images()
    info("building two hosts with an appliance and a guest each, and a station and a simple guest beside the first")
    net, (vm1, vm2, simple), station = build(lab)
    negotiated, of_simple = vm1.features(), simple.features()
    info(f"the guests run; their drivers negotiated {', '.join(k for k, v in negotiated.items() if v) or 'nothing'}")
    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    # Without the station's own frames, which its interface has yet to complete.
    at_station = capture.Capture(lab, station.ns, "eth0", "station", f"not ether src {station.mac}")
    lost, duplicated = pings(vm1, vm2)
    total, seconds = transfers(vm1, vm2, simple, guest.Shell(lab, station.ns))
    wire.stop()
    at_station.stop()

    accounting = stopover.accounting(net.hosts)
    info("reading the captures with tshark")
    seen, delivered = capture.Reading(wire.path), capture.Reading(at_station.path)
    bad, warned = seen.bad_checksums() + delivered.bad_checksums(), seen.warnings()
    capture.print_findings(("bad checksum", bad), ("tshark warns", warned))
    return {
        "lost": lost,
        "duplicated": duplicated,
        "tcp_bytes": total,
        "tcp_mbit_per_s": round(total * 8 / seconds / 1e6),
        "bad_checksums": len(bad),
        **accounting,
        "tshark_warnings": len(warned),
        "too_long": int(seen.longest() > LONGEST) + int(delivered.longest() > 1514),
        "not_negotiated": sum(not negotiated[k] for k in ("csum", "guest_csum", "host_tso4", "host_tso6")),
        "not_simple": sum(of_simple[k] for k in ("guest_csum", "guest_tso4", "guest_tso6")),
    }


scenario.main("guests", body,
              must_be_zero=["lost", "duplicated", "bad_checksums", "unaccounted", "faulty_drops", "tshark_warnings",
                            "too_long", "not_negotiated", "not_simple"],
              must_be_positive=["tcp_bytes"])
