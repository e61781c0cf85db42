#!/usr/bin/python3
"""Processes end at the worst moment and come back: the board is killed under traffic, an appliance is restarted,
a second copy of a running one is tried, an appliance is killed.

Two hosts. Host a forwards on two lcores: its underlay port has two queues, its other ports only one, so that one
lcore must hand over what it sends. Network 100 (vifs) sends unknown unicast nowhere, so that every frame whose
destination an appliance has forgotten is counted; network 200 has a segment, with stations that nobody declared.
UDP streams with sequence numbers run in both directions meanwhile.

While the board is away a VM of host a is switched on, another off, and a station of the segment speaks for the
first time: host b must know all three once the board is back. While host a is restarted, the board and host b
must keep its nodes.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, say
from lib.lab.process import Process
from lib.product import ron, stopover
from lib.traffic import mesh

RED, BLUE = 100, 200
RATE = 300


def until(what, true, timeout=20):
    """Waits until `true()`; returns the seconds that took."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > timeout:
            raise Failure(f"{what}: not within {timeout} s")
        time.sleep(0.1)
    return round(time.monotonic() - began, 1)


def macs(asked):
    """The nodes that an appliance, or the board, knows: (VNI, MAC)."""
    return {(int(row["vni"]), row["mac"]) for row in asked.json("show", "nodes")}


def connected(appliance):
    return appliance.json("show", "board")["connected"]


def unknown(appliance):
    """Frames whose destination it did not know and its network does not flood."""
    return sum(d["count"] for d in appliance.json("show", "drops") if d["reason"] == "unknown_unicast")


class Switchable:
    """A VM that can be switched off: the tap itself, whose link is the port's. Its kernel is that of the host's
    namespace."""

    def __init__(self, appliance, name, number):
        self.ns, self.dev, self.vni, self.mac = appliance.ns, name, RED, f"02:00:00:00:{RED:02x}:{number:02x}"
        self.ip = f"192.168.{RED}.{number}"
        appliance.tap(name, name, ron.tagged("vif", vni=RED, mac=self.mac, addresses=[self.ip]), mac=self.mac)

    def address(self):
        """Gives it its address, once the appliance has made the tap."""
        self.ns.no_ipv6(self.dev)
        self.ns.address(self.dev, f"{self.ip}/24")

    def switch(self, way):
        """Switches it `up` or `down`."""
        self.ns.ip("link", "set", self.dev, way)


class Run:
    """The lab and what has been counted in it."""

    def __init__(self, lab):
        self.lab = lab
        lab.hugepages(2 * stopover.MEMORY_MIB + 64)
        self.board = stopover.Board(lab)
        self.board.cli("network", "add", RED, "--flood", "to-segments")
        net = fabric.Fabric(lab)
        self.a = net.host("gw-a", self.board, lcores=3, queues=2)
        self.b = net.host("gw-b", self.board)
        self.hosts = net.hosts
        self.total = mesh.Tally(lost=0, duplicated=0, sent=0)
        self.figures = mesh.Tally(unaccounted=0, flooded_unknown=0, unknown_at_start=0, resynchronised=0, forgotten=0)

        def tenant(name, number, vni):
            v4, v6 = f"192.168.{vni}.{number}/24", f"fd01:{vni}::{number}/64"
            return fabric.Tenant(lab, name, vni + number, vni, f"02:00:00:00:{vni:02x}:{number:02x}", [v4, v6])

        self.red1 = tenant("red1", 1, RED).plug_vif(self.a)
        self.late, self.leaver = (Switchable(self.a, n, i) for i, n in enumerate(("late", "leaver"), 2))
        self.red4 = tenant("red4", 4, RED).plug_vif(self.b)
        site = fabric.Site(lab, self.a, "site", vni=BLUE)
        self.blue1, self.silent = (tenant(n, i, BLUE).plug_site(site) for i, n in enumerate(("blue1", "silent"), 1))
        self.blue4 = tenant("blue4", 4, BLUE).plug_vif(self.b)
        self.silent.ns.ip("link", "set", "eth0", "down")  # its kernel would speak unasked
        self.streaming = [self.red1, self.red4, self.blue1, self.blue4]

    def streams(self, seconds):
        """Streams between all that have a peer, for so long. 5 destinations: two addresses, broadcast, two groups."""
        return mesh.Streams(self.lab, self.streaming, count=seconds * RATE // 5, rate=RATE)

    def count(self, streams):
        """Waits for their end; nothing may be missing."""
        udp = streams.finish()
        say(f"UDP streams: {dict(udp)}")
        self.total.add({k: udp[k] for k in ("lost", "duplicated", "sent")})
        self.total.add({"lost": udp["damaged"] + udp["astray"] + udp["leaked_between_networks"]})

    def talk(self):
        """All that stream reach each other; for stations that nobody declared this is how they are found."""
        for one, other in ((self.red1, self.red4), (self.red4, self.red1), (self.blue1, self.blue4),
                           (self.blue4, self.blue1)):
            for ip in other.ips:
                until(f"{one.name} reaches {ip}", lambda: not mesh.ping(one.ns, ip, count=1, wait=1)["lost"])

    def close_accounting(self, appliance):
        """Before a process goes, and with it its counters."""
        appliance.process.check()
        appliance.save_books()
        self.figures["unaccounted"] += appliance.unaccounted()

    def start(self):
        for host in self.hosts:
            host.start()
        self.late.address()
        self.late.switch("down")
        self.talk()
        here = {(t.vni, t.mac) for t in (*self.streaming, self.leaver)}
        for host in self.hosts:
            until(f"{host.name} knows {len(here)} nodes", lambda: macs(host) == here)
        lcores = self.a.json("show", "lcores")
        say(f"two appliances run; lcores of gw-a: {[(row['lcore'], row['queues']) for row in lcores]}")

    def lose_board(self):
        """The board dies and returns under traffic; the world goes on meanwhile."""
        streams = self.streams(10)
        time.sleep(3)  # beyond the 2 s after which a young session has told the board all that it has
        say("killing the board")
        self.board.process.kill()
        for host in self.hosts:
            until(f"{host.name} notices that the board is gone", lambda: not connected(host))
        self.late.switch("up")
        self.leaver.switch("down")
        self.silent.ns.ip("link", "set", "eth0", "up")
        came, left = {(RED, self.late.mac), (BLUE, self.silent.mac)}, (RED, self.leaver.mac)
        # Nobody can tell host b of this station: what is sent back to it is flooded, and arrives all the same.
        self.total.add({"lost": mesh.ping(self.silent.ns, self.blue4.ips[0], count=3)["lost"]})
        until("host a itself finds who has come", lambda: came < macs(self.a))
        until("host a itself finds who has left", lambda: left not in macs(self.a))
        if came & macs(self.b) or left not in macs(self.b):
            raise Failure("host b knows who came and left, though nobody can have told it")
        say("starting the board again")
        self.board.start()
        for host in self.hosts:
            took = until(f"{host.name} returns to the board", lambda: connected(host))
            say(f"{host.name} was connected again after {took} s")
        for asked in (self.b, self.board):
            until("who came meanwhile is known", lambda: came < macs(asked))
            until("who left meanwhile is gone", lambda: left not in macs(asked))
            self.figures["resynchronised"] += len(came) + 1
        self.count(streams)
        self.total.add({"lost": mesh.ping(self.red4.ns, self.late.ip, count=3)["lost"]})

    def try_second_copy(self):
        """The same configuration once more, beside the running appliance."""
        streams = self.streams(4)
        time.sleep(0.5)
        second = Process(self.lab, "gw-a-again", [stopover.program("stopover-appliance"), self.a.write()],
                         ns=self.a.ns)
        status = second.wait_end(20)
        last = second.tail(1)
        say(f"the second copy ended with status {status}: {last}")
        if status != 1 or "another appliance listens at" not in last or "EAL:" in second.log.read_text():
            raise Failure(f"the second copy ended with status {status} and `{last}`; status 1 and the word that another "
                          "appliance listens were expected, before it opens any device")
        self.count(streams)
        self.a.process.check()
        self.figures["replaced"] += self.board.cli("events").count("host-replaced")
        until("host a is at the board", lambda: connected(self.a))

    def restart(self, how):
        """Host a's appliance ends and starts again, under traffic."""
        mine = {(t.vni, t.mac) for t in (self.red1, self.blue1)}
        self.close_accounting(self.a)
        flooded = unknown(self.b)
        streams = self.streams(7)
        time.sleep(0.5)
        say(f"gw-a: {how}")
        if how == "SIGTERM":
            why = self.a.process.stop()
            if why:
                raise Failure(why)
            if self.a.socket.exists():
                raise Failure(f"gw-a left `{self.a.socket}`")
        else:
            self.a.process.kill()
        self.figures["forgotten"] += self.missing(mine)
        began = time.monotonic()
        self.a.start()
        until("host a is at the board", lambda: connected(self.a))
        while time.monotonic() - began < 4:  # 2 s after its start a host's unclaimed nodes are deleted
            self.figures["forgotten"] += self.missing(mine)
            time.sleep(0.2)
        # What is lost meanwhile is nobody's fault; what arrives twice is.
        udp = streams.finish()
        self.total.add({"duplicated": udp["duplicated"]})
        say(f"UDP streams across the restart: {dict(udp)}")
        self.talk()
        fresh, other = unknown(self.a), unknown(self.b) - flooded
        say(f"frames to unknown destinations: {fresh} at gw-a since it started again, {other} at gw-b meanwhile")
        # At gw-a itself, frames for its own vifs are unknown until it has seen their links.
        self.figures["flooded_unknown"] += other
        self.figures["unknown_at_start"] += fresh
        self.count(self.streams(2))

    def missing(self, nodes):
        """How many of them the board or host b has forgotten."""
        return sum(len(nodes - macs(asked)) for asked in (self.board, self.b))


def body(lab):
    say("building two hosts, two networks, a site with stations that nobody declared")
    run = Run(lab)
    run.start()
    run.lose_board()
    run.try_second_copy()
    run.restart("SIGTERM")
    run.restart("SIGKILL")
    run.board.process.check()
    accounting = stopover.accounting(run.hosts)
    accounting["unaccounted"] += run.figures.pop("unaccounted")
    panics = [p.log.name for p in lab.processes if "panicked at" in p.log.read_text(errors="replace")]
    for name in panics:
        say(f"a panic stands in {name}")
    return {**run.total, **run.figures, **accounting, "crashes": len(panics)}


scenario.main("resilience", body,
              must_be_zero=["lost", "duplicated", "unaccounted", "forgotten", "flooded_unknown", "faulty_drops",
                            "replaced", "crashes"],
              must_be_positive=["sent", "resynchronised"])
