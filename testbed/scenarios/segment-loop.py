#!/usr/bin/python3
"""Two gateways on one LAN: a broadcast arrives once, nothing goes round, and when the cable between their LANs is
pulled both forward again.

Behind gw-a lies a LAN with two stations, behind gw-b another with one, behind gw-c one on which gw-c has two ports of
the same network, and a VM. First the LANs are apart. Then a cable joins those of gw-a and gw-b, with broadcasts in
the air: while the gateways find each other a frame may come a few times, but must not go round. Then one broadcast
and streams between all; then the cable is pulled, and the same again.

Broadcasts of our own EtherType with a number are counted where they arrive. `looped` are copies of them beyond the
first when the gateways have found each other, on `looped_tried` broadcasts; `multiplied` are copies beyond
MOST_COPIES of one broadcast before that.

STOPOVER_TIMES=told (set by `testbed/run all`): the short form, with fewer broadcasts.
"""

import os
import pathlib
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scapy.all import RawPcapReader

from lib import scenario
from lib.lab import Failure, fabric, say
from lib.lab.netns import veth
from lib.product import ron, stopover
from lib.traffic import capture, mesh

VNI = 100
SHORT = os.environ.get("STOPOVER_TIMES") == "told"
BROADCASTS = int(os.environ.get("STOPOVER_BROADCASTS", 20 if SHORT else 200))
ETHERTYPE = 0x88B5  # local experimental
MOST_COPIES = 12  # of one broadcast at one station while nobody knows of the loop
FIND = 3  # seconds that gateways have to find each other
FORGET = 8  # and to notice that they are alone again


class Counter:
    """Captures at stations, and how often each numbered broadcast arrived there."""

    def __init__(self, lab, stations, name):
        only = f"ether proto {ETHERTYPE:#x}"
        self.captures = {s.name: capture.Capture(lab, s.ns, "eth0", f"{name}-{s.name}", only) for s in stations}
        # tcpdump of an earlier phase has said in the same log that it listens.
        end = time.monotonic() + 10
        while not all(c.path.exists() and c.path.stat().st_size for c in self.captures.values()):
            if time.monotonic() > end:
                raise Failure("tcpdump does not begin to capture")
            time.sleep(0.05)
        time.sleep(0.3)

    def stop(self):
        """By station, by (sender, number): copies."""
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
        say("building three gateways, three LANs with five stations, and a VM")
        lab.hugepages(3 * stopover.MEMORY_MIB + 64)
        self.board = stopover.Board(lab)
        net = fabric.Fabric(lab)
        self.hosts = self.a, self.b, self.c = [net.host(f"gw-{n}", self.board) for n in "abc"]
        self.lans = [fabric.Site(lab, host, f"lan-{host.name[-1]}", vni=VNI) for host in self.hosts]
        self.stations = [
            fabric.Tenant(lab, name, n, VNI, f"02:00:00:00:00:{n:02x}", [f"192.168.0.{n}/24", f"fd01::{n}/64"])
            for n, name in enumerate(("a1", "a2", "b1", "c1", "c2", "vm"), 1)]
        a1, a2, b1, c1, c2, vm = self.stations
        for station, lan in ((a1, 0), (a2, 0), (b1, 1), (c1, 2), (c2, 2)):
            station.plug_site(self.lans[lan])
        vm.plug_vif(self.c)
        self.second_port()
        self.voices = {s.name: s.ns.packet_socket("eth0") for s in self.stations}
        self.number = 0
        for host in self.hosts:
            host.start()

    def second_port(self):
        """Another port of gw-c on the LAN it is on already."""
        lan = self.lans[2]
        veth(lan.ns, "up1", self.c.ns, "lan-c2", plain=False)
        lan.ns.no_ipv6("up1")
        lan.ns.ip("link", "set", "up1", "master", "br0")
        self.c.cabled("lan-c2", "lan-c2", ron.tagged("segment", vni=VNI))

    def join(self):
        """A cable between the LANs of gw-a and gw-b."""
        a, b = self.lans[0].ns, self.lans[1].ns
        veth(a, "joint", b, "joint", plain=False)
        for ns in (a, b):
            ns.no_ipv6("joint")
            ns.ip("link", "set", "joint", "master", "br0")

    def part(self):
        self.lans[0].ns.ip("link", "del", "joint")

    def broadcast(self, station):
        """One broadcast of a station, with a number of its own."""
        self.number += 1
        src = bytes.fromhex(station.mac.replace(":", ""))
        frame = b"\xff" * 6 + src + struct.pack("!HI", ETHERTYPE, self.number) + bytes(40)
        self.voices[station.name].send(frame)
        return station.mac, self.number

    def blocked(self, host):
        """Ports of a host that are blocked for our network."""
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

    def everybody_speaks(self):
        """Each station is heard, so that nobody is where they were before."""
        for s in self.stations:
            for other in self.stations:
                if other is not s:
                    s.ns.run("ping", "-c", 1, "-W", 1, other.ips[0], check=False)
                    break
        time.sleep(0.5)

    def quiet_broadcasts(self, name):
        """Broadcasts when all is settled: each arrives exactly once at everybody. Returns (lost, looped, tried)."""
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
                    # It hears itself once, in its own capture of what it sends; more came back.
                    copies = found[station.name].get(key, 1) - 1
                    looped += copies
                    continue
                copies = found[station.name].get(key, 0)
                tried += 1
                lost += copies == 0
                looped += max(0, copies - 1)
        say(f"{name}: {len(sent)} broadcasts, {tried} arrivals expected, {lost} lost, {looped} copies too many")
        return lost, looped, tried

    def joining(self):
        """The cable is plugged in while broadcasts are in the air. Returns (multiplied, most copies of one)."""
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
        say(f"joining: {len(counts)} arrivals of broadcasts, at most {most} of one, {sum(counts)} in all")
        return sum(max(0, n - MOST_COPIES) for n in counts), most


def body(lab):
    run = Run(lab)
    second = {"gw-a": [], "gw-b": [], "gw-c": ["lan-c2"]}
    run.expect_blocked(second, FIND + 5)
    say("two ports of gw-c are on one LAN: the second is blocked")
    stopover.wait_nodes(run.hosts, 1, or_more=True)
    run.everybody_speaks()
    results = [run.quiet_broadcasts("apart")]
    udp = [mesh.streams(lab, run.stations, count=50, rate=200)]

    multiplied, most = run.joining()
    run.expect_blocked({**second, "gw-b": ["lan-b"]}, FIND)
    say("gw-a and gw-b are on one LAN: gw-b is blocked")
    run.everybody_speaks()
    results.append(run.quiet_broadcasts("joined"))
    udp.append(mesh.streams(lab, run.stations, count=50, rate=200))

    run.part()
    began = time.monotonic()
    run.expect_blocked(second, FORGET)
    recovered = time.monotonic() - began
    say(f"the cable is pulled: gw-b forwards again after {recovered:.1f} s")
    run.everybody_speaks()
    results.append(run.quiet_broadcasts("apart-again"))
    udp.append(mesh.streams(lab, run.stations, count=50, rate=200))

    drops = {h.name: {d["reason"]: d["count"] for d in h.json("show", "drops") if d["count"]} for h in run.hosts}
    say(f"dropped: {drops}")
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
