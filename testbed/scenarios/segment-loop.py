#!/usr/bin/python3
"""Two gateways on one LAN: a broadcast arrives once, no frame loops, and when the cable between their LANs is unplugged
both gateways forward again.

gw-a has a LAN with two stations, gw-b a LAN with one. gw-c has two ports of the same network on one LAN with two
stations, and a VM. First the LANs are apart. Then a cable joins those of gw-a and gw-b, while broadcasts are sent:
until the gateways find each other a frame may arrive a few times, but must not loop. Then come broadcasts and streams
between all stations; then the cable is unplugged, and the same is repeated.

Numbered broadcasts of a local EtherType are counted where they arrive. `looped` are the copies beyond the first after
the gateways have found each other, of `looped_tried` expected arrivals; `multiplied` are the copies beyond MOST_COPIES
of one broadcast before that.

Among all scenarios it sends fewer broadcasts. STOPOVER_BROADCASTS: how many.
"""

import os
import pathlib
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scapy.all import RawPcapReader

from lib import scenario
from lib.lab import Failure, fabric, info
from lib.lab.netns import veth
from lib.product import ron, stopover
from lib.traffic import capture, mesh

VNI = 100
BROADCASTS = int(os.environ.get("STOPOVER_BROADCASTS", 20 if scenario.SHORT else 200))
ETHERTYPE = 0x88B5  # local experimental
MOST_COPIES = 12  # of a broadcast at a station before the loop is detected
FIND = 3  # seconds in which gateways must find each other
FORGET = 8  # seconds in which they must notice that they are alone again


class Counter:
    """Captures at stations; counts the copies of each numbered broadcast."""

    def __init__(self, lab, stations, name):
        only = f"ether proto {ETHERTYPE:#x}"
        self.captures = {s.name: capture.Capture(lab, s.ns, "eth0", f"{name}-{s.name}", only) for s in stations}
        # The log may have the line of an earlier tcpdump, so wait for the files.
        end = time.monotonic() + 10
        while not all(c.path.exists() and c.path.stat().st_size for c in self.captures.values()):
            if time.monotonic() > end:
                raise Failure("tcpdump does not begin to capture")
            time.sleep(0.05)
        time.sleep(0.3)

    def stop(self):
        """{station: {(sender, number): copies}}."""
        found = {}
        for name, running in self.captures.items():
            running.stop()
            counts = found[name] = {}
            for frame, _ in RawPcapReader(str(running.path)):
                number = struct.unpack_from("!I", frame, 14)[0]
                key = frame[6:12].hex(":"), number
                counts[key] = counts.get(key, 0) + 1
        return found


class Run:
    def __init__(self, lab):
        self.lab = lab
        info("building three gateways, three LANs with five stations, and a VM")
        self.board, _, self.hosts = fabric.three_hosts(lab)
        self.a, self.b, self.c = self.hosts
        self.lans = [fabric.Site(lab, host, f"lan-{host.name[-1]}", vni=VNI) for host in self.hosts]
        self.stations = [
            fabric.Tenant.numbered(lab, name, VNI, n)
            for n, name in enumerate(("a1", "a2", "b1", "c1", "c2", "vm"), 1)]
        a1, a2, b1, c1, c2, vm = self.stations
        for station, lan in ((a1, 0), (a2, 0), (b1, 1), (c1, 2), (c2, 2)):
            station.plug_site(self.lans[lan])
        vm.plug_vif(self.c)
        self.second_port()
        self.sockets = {s.name: s.ns.packet_socket("eth0") for s in self.stations}
        self.number = 0
        for host in self.hosts:
            host.start()

    def second_port(self):
        """Adds another port of gw-c on its LAN."""
        lan = self.lans[2]
        veth(lan.ns, "up1", self.c.ns, "lan-c2", plain=False)
        lan.ns.no_ipv6("up1")
        lan.ns.ip("link", "set", "up1", "master", "br0")
        self.c.cabled("lan-c2", "lan-c2", ron.tagged("segment", vni=VNI))

    def join(self):
        """Joins the LANs of gw-a and gw-b by a cable."""
        a, b = self.lans[0].ns, self.lans[1].ns
        veth(a, "joint", b, "joint", plain=False)
        for ns in (a, b):
            ns.no_ipv6("joint")
            ns.ip("link", "set", "joint", "master", "br0")

    def part(self):
        self.lans[0].ns.ip("link", "del", "joint")

    def broadcast(self, station):
        """Sends a broadcast with a number; returns (sender, number)."""
        self.number += 1
        src = bytes.fromhex(station.mac.replace(":", ""))
        frame = b"\xff" * 6 + src + struct.pack("!HI", ETHERTYPE, self.number) + bytes(40)
        self.sockets[station.name].send(frame)
        return station.mac, self.number

    def blocked(self, host):
        """The ports of a host that are blocked for the network."""
        return [p["name"] for p in host.json("show", "port", "info", "all")
                if any(int(b["vni"]) == VNI for b in p["role"].get("blocked", []))]

    def expect_blocked(self, expected, timeout):
        """Waits until exactly these ports are blocked, by host."""
        end = time.monotonic() + timeout
        while True:
            now = {h.name: self.blocked(h) for h in self.hosts}
            if now == expected:
                return
            if time.monotonic() > end:
                raise Failure(f"after {timeout} s blocked ports are {now}; expected {expected}")
            time.sleep(0.1)

    def all_send(self):
        """Each station sends, so that its place is learned again."""
        for s in self.stations:
            for other in self.stations:
                if other is not s:
                    s.ns.run("ping", "-c", 1, "-W", 1, other.ips[0], check=False)
                    break
        time.sleep(0.5)

    def settled_broadcasts(self, name):
        """Broadcasts when the topology is stable: each must arrive exactly once at every other station. Returns (lost,
        looped, tried)."""
        counter = Counter(self.lab, self.stations, name)
        sent = []
        for n in range(BROADCASTS):
            sent.append(self.broadcast(self.stations[n % len(self.stations)]))
            time.sleep(0.01)
        time.sleep(3)
        found = counter.stop()
        lost = looped = tried = 0
        for station in self.stations:
            for key in sent:
                if key[0] == station.mac:
                    # Its own capture has the frame that it sent; more copies have come back.
                    copies = found[station.name].get(key, 1) - 1
                    looped += copies
                    continue
                copies = found[station.name].get(key, 0)
                tried += 1
                lost += copies == 0
                looped += max(0, copies - 1)
        info(f"{name}: {len(sent)} broadcasts, {tried} arrivals expected, {lost} lost, {looped} copies too many")
        return lost, looped, tried

    def joining(self):
        """Plugs the cable in while broadcasts are sent. Returns (multiplied, the most copies of one)."""
        counter = Counter(self.lab, self.stations, "joining")
        self.broadcast(self.stations[0])
        self.join()
        end = time.monotonic() + FIND
        while time.monotonic() < end:
            for station in self.stations[:3]:
                self.broadcast(station)
            time.sleep(0.05)
        counts = [n for station in counter.stop().values() for n in station.values()]
        most = max(counts, default=0)
        info(f"joining: {sum(counts)} arrivals of broadcasts, at most {most} copies of one")
        return sum(max(0, n - MOST_COPIES) for n in counts), most


def body(lab):
    run = Run(lab)
    second = {"gw-a": [], "gw-b": [], "gw-c": ["lan-c2"]}
    run.expect_blocked(second, FIND + 5)
    info("two ports of gw-c are on one LAN: the second is blocked")
    stopover.wait_nodes(run.hosts, 1, or_more=True)
    run.all_send()
    results = [run.settled_broadcasts("apart")]
    udp = [mesh.streams(lab, run.stations, count=50, rate=200)]

    multiplied, most = run.joining()
    run.expect_blocked({**second, "gw-b": ["lan-b"]}, FIND)
    info("gw-a and gw-b are on one LAN: gw-b is blocked")
    run.all_send()
    results.append(run.settled_broadcasts("joined"))
    udp.append(mesh.streams(lab, run.stations, count=50, rate=200))

    run.part()
    began = time.monotonic()
    run.expect_blocked(second, FORGET)
    recovered = time.monotonic() - began
    info(f"the cable is unplugged: gw-b forwards again after {recovered:.1f} s")
    run.all_send()
    results.append(run.settled_broadcasts("apart-again"))
    udp.append(mesh.streams(lab, run.stations, count=50, rate=200))

    drops = {h.name: {d["reason"]: d["count"] for d in h.json("show", "drops") if d["count"]} for h in run.hosts}
    info(f"dropped: {drops}")
    lost, looped, tried = (sum(column) for column in zip(*results))
    return {
        "looped": looped,
        "looped_tried": tried,
        "broadcasts_lost": lost,
        "multiplied": multiplied,
        "most_copies_while_joining": most,
        "recovered_s": round(recovered, 1),
        "streams_lost": sum(u["lost"] for u in udp),
        "streams_duplicated": sum(u["duplicated"] for u in udp),
        "streams_sent": sum(u["sent"] for u in udp),
        "blocked_drops": sum(d.get("segment_blocked", 0) for d in drops.values()),
        **stopover.accounting(run.hosts),
    }


scenario.main("segment-loop", body,
              must_be_zero=["looped", "broadcasts_lost", "multiplied", "streams_lost", "streams_duplicated",
                            "unaccounted", "faulty_drops"],
              must_be_positive=["looped_tried", "streams_sent", "blocked_drops"])
