#!/usr/bin/python3
"""Processes end under traffic and are started again: the board is killed, an appliance is restarted, a second copy of a
running appliance is started, an appliance is killed.

Two hosts. Host gw-a forwards on two lcores: its underlay port has two queues, its other ports have one, so one lcore
must hand over what it sends. Network 100 (vifs) drops unknown unicast, so every frame to a destination that an
appliance has forgotten is counted. Network 200 has a segment with undeclared stations. UDP streams with sequence
numbers run in both directions all the time.

While the board is away, a VM of gw-a is switched on, another is switched off, and a station of the segment sends for
the first time: gw-b must learn all three when the board is back. While gw-a is restarted, the board and gw-b must keep
its nodes.
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, info, until
from lib.lab.process import Process
from lib.product import ron, stopover
from lib.traffic import mesh

RED, BLUE = 100, 200
RATE = 300


def macs(asked):
    """The nodes of an appliance or the board: (VNI, MAC)."""
    return {(int(row["vni"]), row["mac"]) for row in asked.json("show", "nodes")}


def connected(appliance):
    return appliance.json("show", "board")["connected"]


def unknown(appliance):
    """Frames dropped for an unknown destination in a network that does not flood them."""
    return sum(d["count"] for d in appliance.json("show", "drops") if d["reason"] == "unknown_unicast")


class Switchable:
    """A VM that can be switched on and off: the tap of the port itself, in the namespace of the host."""

    def __init__(self, appliance, name, number):
        self.ns, self.dev, self.vni, self.mac = appliance.ns, name, RED, f"02:00:00:00:{RED:02x}:{number:02x}"
        self.ip = f"192.168.{RED}.{number}"
        appliance.tap(name, name, ron.tagged("vif", vni=RED, mac=self.mac, addresses=[self.ip]), mac=self.mac)

    def address(self):
        """Adds its address, after the appliance has made the tap."""
        self.ns.no_ipv6(self.dev)
        self.ns.address(self.dev, f"{self.ip}/24")

    def switch(self, state):
        """Switches it `up` or `down`."""
        self.ns.ip("link", "set", self.dev, state)


class Run:
    """The hosts and stations, and what has been counted."""

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
        self.silent.ns.ip("link", "set", "eth0", "down")  # else its kernel would send by itself
        self.streaming = [self.red1, self.red4, self.blue1, self.blue4]

    def streams(self, seconds):
        """Streams between the stations, for so many seconds. 5 destinations: two addresses, broadcast, two groups."""
        return mesh.Streams(self.lab, self.streaming, count=seconds * RATE // 5, rate=RATE)

    def count(self, streams):
        """Waits for the end of streams and adds their losses."""
        udp = streams.finish()
        info(f"UDP streams: {dict(udp)}")
        self.total.add({k: udp[k] for k in ("lost", "duplicated", "sent")})
        self.total.add({"lost": udp["damaged"] + udp["astray"] + udp["leaked_between_networks"]})

    def wait_reachable(self):
        """Waits until the stations reach each other. Undeclared stations are learned by this."""
        for one, other in ((self.red1, self.red4), (self.red4, self.red1), (self.blue1, self.blue4),
                           (self.blue4, self.blue1)):
            for ip in other.ips:
                until(f"{one.name} reaches {ip}", lambda: not mesh.ping(one.ns, ip, count=1, wait=1)["lost"])

    def add_accounting(self, appliance):
        """Adds the accounting of an appliance before it is ended."""
        appliance.process.check()
        appliance.save_counters()
        self.figures["unaccounted"] += appliance.unaccounted()

    def start(self):
        for host in self.hosts:
            host.start()
        self.late.address()
        self.late.switch("down")
        self.wait_reachable()
        here = {(t.vni, t.mac) for t in (*self.streaming, self.leaver)}
        for host in self.hosts:
            until(f"{host.name} has {len(here)} nodes", lambda: macs(host) == here)
        lcores = self.a.json("show", "lcores")
        info(f"two appliances run; lcores of gw-a: {[(row['lcore'], row['queues']) for row in lcores]}")

    def restart_board(self):
        """The board is killed and restarted under traffic; nodes are added and removed while it is down."""
        streams = self.streams(10)
        time.sleep(3)  # a new session has claimed all its nodes after 2 s
        info("killing the board")
        self.board.process.kill()
        for host in self.hosts:
            until(f"{host.name} notices that the board is down", lambda: not connected(host))
        self.late.switch("up")
        self.leaver.switch("down")
        self.silent.ns.ip("link", "set", "eth0", "up")
        came, left = {(RED, self.late.mac), (BLUE, self.silent.mac)}, (RED, self.leaver.mac)
        # gw-b cannot know this station: frames to it are flooded, and must arrive.
        self.total.add({"lost": mesh.ping(self.silent.ns, self.blue4.ips[0], count=3)["lost"]})
        until("gw-a has the new nodes", lambda: came < macs(self.a))
        until("gw-a does not have the node that left", lambda: left not in macs(self.a))
        if came & macs(self.b) or left not in macs(self.b):
            raise Failure("gw-b has changes that it cannot know without the board")
        info("starting the board again")
        self.board.start()
        for host in self.hosts:
            took = until(f"{host.name} returns to the board", lambda: connected(host))
            info(f"{host.name} was connected again after {took:.1f} s")
        for asked in (self.b, self.board):
            until("the new nodes are known", lambda: came < macs(asked))
            until("the node that left is removed", lambda: left not in macs(asked))
            self.figures["resynchronised"] += len(came) + 1
        self.count(streams)
        self.total.add({"lost": mesh.ping(self.red4.ns, self.late.ip, count=3)["lost"]})

    def try_second_copy(self):
        """Starts a second appliance with the configuration of a running one."""
        streams = self.streams(4)
        time.sleep(0.5)
        second = Process(self.lab, "gw-a-again", [stopover.program("stopover-appliance"), self.a.write()],
                         ns=self.a.ns)
        status = second.wait_end(20)
        last = second.tail(1)
        info(f"the second copy ended with status {status}: {last}")
        if status != 1 or "another appliance listens at" not in last or "EAL:" in second.log.read_text():
            raise Failure(f"the second copy ended with status {status} and `{last}`; status 1 and a message that "
                          "another appliance listens were expected, before any device is opened")
        self.count(streams)
        self.a.process.check()
        self.figures["replaced"] += self.board.cli("events").count("host-replaced")
        until("gw-a is connected to the board", lambda: connected(self.a))

    def restart(self, how):
        """The appliance of gw-a ends and starts again, under traffic."""
        mine = {(t.vni, t.mac) for t in (self.red1, self.blue1)}
        self.add_accounting(self.a)
        flooded = unknown(self.b)
        streams = self.streams(7)
        time.sleep(0.5)
        info(f"gw-a: {how}")
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
        until("gw-a is connected to the board", lambda: connected(self.a))
        while time.monotonic() - began < 4:  # unclaimed nodes of a host are deleted 2 s after its start
            self.figures["forgotten"] += self.missing(mine)
            time.sleep(0.2)
        # Losses during the restart are expected; duplicates are not.
        udp = streams.finish()
        self.total.add({"duplicated": udp["duplicated"]})
        info(f"UDP streams across the restart: {dict(udp)}")
        self.wait_reachable()
        fresh, other = unknown(self.a), unknown(self.b) - flooded
        info(f"frames to unknown destinations: {fresh} at gw-a since it started again, {other} at gw-b meanwhile")
        # At gw-a, destinations at its own vifs are unknown until their links are up.
        self.figures["flooded_unknown"] += other
        self.figures["unknown_at_start"] += fresh
        self.count(self.streams(2))

    def missing(self, nodes):
        """How many of these nodes the board and gw-b lack."""
        return sum(len(nodes - macs(asked)) for asked in (self.board, self.b))


def body(lab):
    info("building two hosts, two networks, and a site with undeclared stations")
    run = Run(lab)
    run.start()
    run.restart_board()
    run.try_second_copy()
    run.restart("SIGTERM")
    run.restart("SIGKILL")
    run.board.process.check()
    accounting = stopover.accounting(run.hosts)
    accounting["unaccounted"] += run.figures.pop("unaccounted")
    panics = [p.log.name for p in lab.processes if "panicked at" in p.log.read_text(errors="replace")]
    for name in panics:
        info(f"{name} has a panic")
    return {**run.total, **run.figures, **accounting, "crashes": len(panics)}


scenario.main("resilience", body,
              must_be_zero=["lost", "duplicated", "unaccounted", "forgotten", "flooded_unknown", "faulty_drops",
                            "replaced", "crashes"],
              must_be_positive=["sent", "resynchronised"])
