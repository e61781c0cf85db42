#!/usr/bin/python3
"""An appliance is replaced by another process under traffic, and restarted.

Two hosts; guests in QEMU at gw-a, a station at gw-b. UDP streams with sequence numbers run in both directions between a guest
and the station, 1,000 datagrams per second each. QEMU listens at the socket of the first guest's NIC; gw-a listens at the
others'. Run by its name there is a third guest, with two pairs of packed rings.

Hand-overs, with a guest after another: a process is started with `--take-over`. It gets the connection of the guest's QEMU,
which does not notice: it counts no reconnection (`reconnected`).
After them, processes that must not get the place: one with a mistake in its configuration, and one that asks while the guest is
locked for a migration. Others are killed at a random moment: if it was before they had the place, gw-a goes on, or ends with an
error because it has stopped already; then it is started again.

Restarts: gw-a is stopped by SIGTERM, or killed, and started again. QEMU tries every second to reconnect.

Run by its name, at the end: another hand-over, after which a guest migrates live to gw-b, and the QEMU of another is killed and
started again. Both must reach the station (`moved`, `came_again`).

`handover_gap_ms`, `restart_gap_ms`: the longest time without an arrival, of both directions and all rounds; `quiet_gap_ms`: the
same of streams during which nothing happened, which is the machine's own. `lost`: datagrams
of streams that began after a hand-over or a restart had ended, and those that the guest sent during the attempts that must
fail; `sent` is how many these were. `handover_lost_sent`, `handover_lost_received`: datagrams from the guest and to it that
were lost in hand-overs; `handover_doubled`: those that arrived twice; `restart_lost`: both, in restarts. `stop_ms`: the longest
time from SIGTERM to the end of the process. `taken_wrongly`: places that were given to a process that must not have them.
`killed`: processes that were killed; `outlived`: how often gw-a went on.

Options: --rounds 10
"""

import argparse
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests.guest import Guest, Shell
from lib.guests.migration import VNI, mac, port
from lib.lab import Failure, fabric, info, until
from lib.lab.process import listens
from lib.product import stopover
from lib.product.stopover import MEMORY_MIB, Board
from lib.traffic.stream import Receiver, Sender

RATE = 1000  # datagrams per second in each direction
HANDOVER_MS = 100
RESTART_MS = 2500  # QEMU reconnects in whole seconds
BEFORE_S, AFTER_S = 0.4, 0.5
KILL_S = 1.5  # longer than a process needs to take over
QUIET_S = 1.5  # a guest on a busy machine may be behind
PEER = 2


class Direction:
    """Datagrams from one place to another, a stream at a time."""

    def __init__(self, sends, receives, ip, receiver=None):
        self.sends, self.ip, self.receiver = sends, ip, receiver or Receiver(receives)
        self.stream = self.sender = None

    def start(self, stream):
        self.stream, self.sender = stream, Sender(self.sends, self.ip, stream, RATE)

    def counts(self):
        return self.receiver.stats()["streams"].get(str(self.stream), {"received": 0, "longest_gap_us": 0})

    def finish(self):
        """Returns the numbers of datagrams sent, and lost; and the longest gap in milliseconds."""
        sent, got, end = self.sender.stop()["sent"], None, 0
        while (got is None or got["received"] < sent) and (got is None or time.monotonic() < end):
            now = self.counts()
            if got is None or now["received"] > got["received"]:
                end = time.monotonic() + QUIET_S
            got = now
            time.sleep(0.05)
        return sent, sent - got["received"], got["longest_gap_us"] / 1e3


class Run:
    """The hosts, the guests and the station, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        lab.hugepages(3 * MEMORY_MIB + 64)
        self.board, net = Board(lab), fabric.Fabric(lab)
        self.a, self.b = (net.host(f"gw-{n}", self.board) for n in "ab")
        sockets = [port(self.a, 1, "vm1", client=True), port(self.a, 3, "vm3")]
        if not scenario.SHORT:
            sockets.append(port(self.a, 5, "vm5", pairs=2))
        self.elsewhere = port(self.b, 3, "vm3b")
        station = fabric.Tenant.numbered(lab, "peer", VNI, PEER).plug_vif(self.b)
        for host in (self.a, self.b):
            host.start()
        rings = {"cpus": 2, "pairs": 2, "packed": True}
        guests = {n: Guest(lab, f"vm{n}", socket, mac(n), vhost_server=n == 1, reconnect=n != 1, **(rings if n == 5 else {}))
                  for n, socket in zip((1, 3, 5), sockets)}
        for n, guest in guests.items():
            guest.booted()
            guest.address(*fabric.cidrs(n))
            until(f"{guest.name} reaches the station", lambda: not guest.ping(station.ips[0], count=1)["lost"])
        peer, at_peer = Shell(lab, station.ns), None
        self.pairs = []
        for n, guest in guests.items():
            out = Direction(guest, peer, station.ips[0], at_peer)
            at_peer = out.receiver
            self.pairs.append((out, Direction(peer, guest, fabric.ips(n)[0])))
        self.guests, self.station = guests, station
        self.ways = self.pairs[0]
        self.streams = 0
        self.figures = {"lost": 0, "sent": 0, "handovers": 0, "handover_lost_sent": 0, "handover_lost_received": 0,
                        "handover_doubled": 0, "reconnected": 0, "refusals": 0, "taken_wrongly": 0, "killed": 0, "outlived": 0,
                        "restarts": 0, "restart_lost": 0, "unaccounted": 0}
        self.handover_ms, self.restart_ms, self.stop_ms, self.quiet_ms = [], [], [], []

    def begin(self):
        self.streams += 1
        for way in self.ways:
            way.start(self.streams)
        until("the streams flow", lambda: all(way.counts()["received"] > 0 for way in self.ways))
        time.sleep(BEFORE_S)

    def flow_again(self):
        """Waits until both streams have had an arrival since now."""
        before = [way.counts()["received"] for way in self.ways]
        until("the streams flow again", timeout=30, true=lambda: all(
            way.counts()["received"] > was for way, was in zip(self.ways, before)))
        time.sleep(AFTER_S)

    def doubled(self):
        """Datagrams that arrived twice."""
        return sum(way.counts()["duplicated"] for way in self.ways)

    def links(self):
        """How often the link of each guest's NIC has changed: it goes down when QEMU loses the connection."""
        return [int(guest.run("cat /sys/class/net/eth0/carrier_changes")) for guest in self.guests.values()]

    def finish(self):
        """Lost datagrams by direction, and the longest gap."""
        ends = [way.finish() for way in self.ways]
        return [lost for _, lost, _ in ends], max(gap for _, _, gap in ends), sum(sent for sent, _, _ in ends)

    def steady(self):
        """New streams, of which nothing may be lost."""
        self.begin()
        time.sleep(AFTER_S)
        self.quiet_ms.append(self.count_lost())

    def count_lost(self):
        """Counts what was lost of streams of which nothing may be; returns their longest gap."""
        lost, gap_ms, sent = self.finish()
        self.figures["sent"] += sent
        self.figures["lost"] += sum(lost)
        if any(lost):
            info(f"lost {lost} of {sent}")
        return gap_ms

    def hand_over(self, number):
        """One hand-over."""
        self.ways = self.pairs[number % len(self.pairs)]
        before = self.links()
        self.begin()
        self.a.end_take_over(self.a.begin_take_over())
        self.flow_again()
        (out, back), gap_ms, sent = self.finish()
        self.figures["handover_doubled"] += self.doubled()
        self.figures["reconnected"] += self.links() != before
        self.handover_ms.append(gap_ms)
        self.figures["handovers"] += 1
        self.figures["handover_lost_sent"] += out
        self.figures["handover_lost_received"] += back
        gaps = [round(way.counts()["longest_gap_us"] / 1e3) for way in self.ways]
        info(f"hand-over {number}: gaps {gaps} ms, lost {out} from the guest and {back} to it, of {sent} together")
        self.steady()

    def refuse(self, why, prepare):
        """A process that must not get the place; the streams go on."""
        self.begin()
        old = self.a.process
        undo = prepare()
        process = self.a.begin_take_over()
        if process.wait_end(30) == 0:
            raise Failure(f"a process whose start must fail ({why}) has ended without an error")
        undo()
        self.figures["refusals"] += 1
        self.figures["taken_wrongly"] += not old.alive()
        info(f"{why}: {process.tail(1) or 'nothing logged'}")
        self.count_lost()

    def kill(self):
        """A process that is killed while it takes over, or soon after."""
        self.begin()
        old, process = self.a.process, self.a.begin_take_over()
        time.sleep(random.uniform(0, KILL_S))
        process.kill()
        self.figures["killed"] += 1
        time.sleep(AFTER_S)
        if old.alive() and not listens(self.a.socket):
            old.wait_end(10)  # it is closing
        if old.alive():
            self.figures["outlived"] += 1
            self.count_lost()
            return
        old.ended_by_us = True
        self.a.start()
        self.flow_again()
        self.finish()

    def refusals(self):
        def mistake():
            ports, self.a.config["ports"] = self.a.config["ports"], [{"name": "a port without a device"}]
            return lambda: self.a.config.update(ports=ports)

        def lock():
            self.board.cli("migration", "begin", "--node", f"{VNI}/{mac(1)}", "--from", "gw-a", "--lease", 60)
            until("gw-a has the lock", lambda: self.a.json("show", "migrations")["nodes"])
            return lambda: self.board.cli("migration", "abort", "1")
        self.refuse("mistake", mistake)
        self.refuse("migration", lock)
        self.a.write()
        until("no node migrates", lambda: not self.board.json("migration", "list", "--active"))
        time.sleep(2)  # the migration is over at gw-a a moment later

    def restart(self, number):
        """One restart."""
        kindly = number % 2 == 0
        self.begin()
        self.figures["unaccounted"] += self.a.unaccounted()
        began = time.monotonic()
        if kindly and (why := self.a.process.stop()):
            raise Failure(why)
        if kindly:
            self.stop_ms.append((time.monotonic() - began) * 1e3)
        else:
            self.a.process.kill()
        self.a.start()
        self.flow_again()
        lost, gap_ms, sent = self.finish()
        self.restart_ms.append(gap_ms)
        self.figures["restarts"] += 1
        self.figures["restart_lost"] += sum(lost)
        info(f"restart {number}, {'stopped' if kindly else 'killed'}: gap {gap_ms:.0f} ms, lost {lost} of {sent}")
        self.steady()


    def aftermath(self):
        """After a hand-over a guest migrates to gw-b, and another is started again."""
        self.hand_over(1)
        reaches = lambda guest: not guest.ping(self.station.ips[0], count=1)["lost"]
        moves, again = self.guests[3], self.guests[1]
        figures = moves.migrate(self.elsewhere)
        until("the guest that has moved reaches the station", lambda: reaches(moves))
        again.machine.kill()
        again.restart()
        again.address(*fabric.cidrs(1))
        until("the guest that has come again reaches the station", lambda: reaches(again))
        info(f"after a hand-over: migrated in {figures['total_ms']} ms, and started again")
        self.figures.update(moved=1, came_again=1)


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1 if scenario.SHORT else 10)
    options = parser.parse_args()
    run = Run(lab)
    run.steady()
    for number in range(options.rounds):
        run.hand_over(number)
    # Not the packed rings: after a connection that breaks, QEMU does not know where they were (7.2).
    run.ways = run.pairs[0]
    run.refusals()
    for _ in range(options.rounds):
        run.kill()
    run.ways = run.pairs[1]
    for number in range(options.rounds):
        run.restart(number)
    if not scenario.SHORT:
        run.aftermath()
    figures = stopover.accounting([run.a, run.b])
    figures["unaccounted"] += run.figures.pop("unaccounted")
    return {**run.figures, **figures, "handover_gap_ms": round(max(run.handover_ms)),
            "restart_gap_ms": round(max(run.restart_ms)), "stop_ms": round(max(run.stop_ms)),
            "quiet_gap_ms": round(max(run.quiet_ms)),
            "late": sum(gap > HANDOVER_MS for gap in run.handover_ms) + sum(gap > RESTART_MS for gap in run.restart_ms)}


scenario.main("upgrade", body, must_be_zero=["taken_wrongly", "unaccounted", "faulty_drops", "handover_doubled", "reconnected"],
              must_be_positive=["sent", "handovers", "refusals", "killed", "restarts"], must_be_zero_alone=["late", "lost"])
