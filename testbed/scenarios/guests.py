#!/usr/bin/python3
"""Two QEMU guests on vhost-user sockets of two appliances, and a station without virtio beside one of them: ping
and TCP between all, with the checksum and segmentation offloads that virtio-net negotiates.

A guest that negotiated them hands over TCP frames of up to 64 KiB without checksums. On the underlay, and at the
station, tshark must see ordinary frames with right checksums.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.lab import Failure, fabric, say
from lib.product import ron, stopover
from lib.traffic import capture

VNI = 100
LONGEST = 14 + 40 + 8 + 8 + 14 + 1500  # an inner frame of MTU 1500 in VXLAN over IPv6


def body(lab):
    guest.images()
    say("building two hosts with an appliance and a guest each, and a station beside the first guest")
    lab.hugepages(2 * stopover.MEMORY_MIB + 64)
    board = stopover.Board(lab)
    net = fabric.Fabric(lab)
    a, b = net.host("gw-a", board), net.host("gw-b", board)
    macs = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    for n, (host, mac) in enumerate(zip((a, b), macs), 1):
        role = ron.tagged("vif", vni=VNI, mac=mac, addresses=[f"192.168.0.{n}", f"fd01::{n}"], guard=True)
        host.vhost(f"vm{n}", lab.dir / f"vm{n}.sock", role, tso=True)
    station = fabric.Tenant(lab, "station", 3, VNI, "02:00:00:00:00:03", ["192.168.0.3/24", "fd01::3/64"]).plug_vif(a)
    for host in net.hosts:
        host.start()
    guests = [guest.Guest(lab, f"vm{n}", lab.dir / f"vm{n}.sock", mac, ns=host.ns)
              for n, (host, mac) in enumerate(zip((a, b), macs), 1)]
    for g in guests:
        g.booted()
    vm1, vm2 = guests
    negotiated = vm1.features()
    say(f"guests booted; their drivers negotiated {', '.join(k for k, v in negotiated.items() if v) or 'nothing'}")
    for n, g in enumerate(guests, 1):
        g.address(f"192.168.0.{n}/24", f"fd01::{n}/64")
    stopover.wait_nodes(net.hosts, 3)

    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    # What the station itself sends has yet to be finished by its interface.
    at_station = capture.Capture(lab, station.ns, "eth0", "station", f"not ether src {station.mac}")
    sent = lost = duplicated = 0
    for g, ip in ((vm1, "192.168.0.2"), (vm2, "fd01::1"), (vm1, "fd01::3"), (vm2, "192.168.0.3")):
        r = g.ping(ip, count=20)
        say(f"{g.name} pings {ip}: {r['received']} of {r['sent']} answered")
        sent, lost, duplicated = sent + r["sent"], lost + r["lost"], duplicated + r["duplicated"]
    large = vm1.ping("192.168.0.2", count=5, size=1472)
    lost += large["lost"]

    shell = guest.Shell(lab, station.ns)
    total, seconds = 0, 0.0
    for frm, to, ip in ((vm1, vm2, "192.168.0.2"), (vm2, vm1, "fd01::1"), (vm1, shell, "192.168.0.3"),
                        (shell, vm1, "fd01::1"), (vm2, shell, "fd01::3"), (shell, vm2, "192.168.0.2")):
        size, took, why = guest.tcp(frm, to, ip)
        say(f"TCP {frm.name} -> {to.name} {ip}: {size} bytes intact in {took:.1f} s {why}")
        if why:
            raise Failure(f"TCP from {frm.name} to {to.name}: {why}")
        total, seconds = total + size, seconds + took
    wire.stop()
    at_station.stop()

    accounting = stopover.accounting(net.hosts)
    say("reading the captures with tshark")
    seen, delivered = capture.Reading(wire.path), capture.Reading(at_station.path)
    bad, warned = seen.bad_checksums() + delivered.bad_checksums(), seen.warnings()
    capture.tell(("bad checksum", bad), ("tshark warns", warned))
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
    }


scenario.main("guests", body,
              must_be_zero=["lost", "duplicated", "bad_checksums", "unaccounted", "faulty_drops", "tshark_warnings",
                            "too_long", "not_negotiated"],
              must_be_positive=["tcp_bytes"])
