#!/usr/bin/python3
"""Faults in each phase of a live migration of a QEMU guest: the guest must be reachable afterwards, and nothing of the
migration may be left.

Each process is killed by SIGKILL and started again, a VMM is killed, the migration is cancelled, operators report what
is not true, the board is away, end markers are lost, the hold is too small. After every case the guest must be
reachable where it runs, no lock may be left, packet accounting must hold, and no process of ours may have ended by
itself.

Two hosts, gw-a and gw-b, have a port for each of two guests, X and Y. A station at gw-c pings. Each case is a migration
of X to the other host (see `lib/guests/stepwise.py`), with a fault in the phase that the case names. When the fault and
the migration are over, and QEMU has reconnected to its appliance (it tries once per second), X has one second to answer
over IPv4 and IPv6.

STOPOVER_CASES: only cases with one of these words in their name; separated by semicolons.
"""

import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.guests.migration import VNI, mac, port
from lib.guests.stepwise import PHASES, Place, Stepwise, until
from lib.lab import Failure, fabric, info
from lib.lab.fabric import cidrs, ips
from lib.product import stopover
from lib.traffic import mesh

ONLY = [w for w in os.environ.get("STOPOVER_CASES", "").split(";") if w]
X, Y, STATION = 1, 2, 3
WITHIN = 1.0  # seconds from a fault's end until X answers
LOCK_ENDS = 8  # seconds after which no lock may be left; an appliance has a lease of 6
HUNG = 3  # seconds for which a process is stopped
HOLD_MIB = 1
FLOOD = 3_000  # datagrams of 1,400 bytes, several times HOLD_MIB


class Run:
    """The hosts and guests, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        guest.images()
        self.board, self.net, self.hosts = fabric.three_hosts(lab)
        for host in self.hosts:
            host.config["migration"] = {"hold_mib": 4 * HOLD_MIB, "hold_node_mib": HOLD_MIB}
        self.third = self.hosts[2]
        self.places = {n: [self.place(host, n) for host in self.hosts[:2]] for n in (X, Y)}
        self.station = fabric.Tenant(lab, "station", STATION, VNI, mac(STATION), cidrs(STATION))
        self.station.plug_vif(self.third)
        for family in ("ipv4", "ipv6"):  # its kernel repeats an unanswered request soon
            self.station.ns.sysctl(f"{family}.neigh.eth0.retrans_time_ms", 100)
        for host in self.hosts:
            host.start()
        self.at = {X: self.places[X][0], Y: self.places[Y][1]}
        self.booted = 0
        self.guests = {n: self.power_on(n) for n in (X, Y)}
        self.figures = mesh.Tally(cases=0, unreachable_after=0, locks_left=0, misplaced=0, unaccounted=0, crashes=0,
                                     vmm_crashes=0, powered_on=0)
        self.slowest = 0.0

    def place(self, host, number):
        """A vhost-user port for guest `number`."""
        return Place(host, port(host, number, f"vm{number}-{host.name}"))

    def power_on(self, number):
        """Starts a new machine for guest `number`, where it was last."""
        self.booted += 1
        at = self.at[number]
        until("the appliance takes a VMM", lambda: at.socket.exists())
        g = guest.Guest(self.lab, f"vm{number}-{self.booted}", at.socket, mac(number), at.appliance.ns, reconnect=True)
        g.booted(timeout=90)
        for family in ("ipv4", "ipv6"):
            g.run(f"echo 100 > /proc/sys/net/{family}/neigh/eth0/retrans_time_ms")
        g.address(*cidrs(number))
        return g

    def other(self, place):
        """The other place of the same guest."""
        return next(p for both in self.places.values() if place in both for p in both if p is not place)

    def migration(self, number=X):
        """A migration of a guest to the other host."""
        at = self.at[number]
        return Stepwise(self.guests[number], self.board, at, self.other(at))

    def wait_reachable(self, number=X, within=WITHIN):
        """Whether the station reaches a guest in time. If not, waits longer, to report the time."""
        began = time.monotonic()
        for ip in ips(number):
            while mesh.ping(self.station.ns, ip, count=1, wait=0.15)["lost"]:
                if time.monotonic() - began > 15:
                    raise Failure(f"{ip} is never reached")
        took = time.monotonic() - began
        self.slowest = max(self.slowest, took)
        if took > within:
            self.figures["unreachable_after"] += 1
            info(f"    UNREACHABLE for {took:.1f} s")
        return took <= within

    def finish(self, move):
        """Ends a migration and waits until the guest's VMM is connected to its appliance."""
        number = next(n for n, g in self.guests.items() if g is move.guest)
        place = move.finish()
        for p in (move.old.process, move.new.process):
            if not p.alive() and p.popen.returncode < 0 and not p.ended_by_us:
                self.figures["vmm_crashes"] += 1
                info(f"    a VMM was ended by signal {-p.popen.returncode}: {p.tail(2)}")
            p.ended_by_us = not p.alive()  # QEMU ends by itself when its incoming migration fails
        if place is None:
            info("    the guest does not run: it is powered on again")
            self.figures["powered_on"] += 1
            self.guests[number] = self.power_on(number)
        else:
            self.at[number] = place
        until("the VMM finds its appliance", self.guests[number].machine.connected)

    def case(self, case):
        """One migration with its fault."""
        began = time.monotonic()
        move = self.migration()
        info(f"{case.name}: X at {move.source.appliance.name}")
        move.to(case.phase)
        case.strike(self, move)
        self.finish(move)
        ended = time.monotonic()
        self.wait_reachable()
        self.check_all()
        self.figures["cases"] += 1
        info(f"    over after {ended - began:.1f} s, X answers at {self.at[X].appliance.name}, all checks passed "
            f"{time.monotonic() - ended:.1f} s later")

    def check_all(self):
        """Checks after every case."""
        for p in (self.board.process, *(h.process for h in self.hosts)):
            if not p.alive():
                self.figures["crashes"] += 1
                p.check()
        end = time.monotonic() + LOCK_ENDS
        while (left := self.board.json("migration", "list", "--active")) and time.monotonic() < end:
            time.sleep(0.1)
        for lock in left:
            info(f"    LOCK LEFT: {lock}")
        self.figures["locks_left"] += len(left)
        for number, at in self.at.items():
            try:
                until("the board has its host", lambda: self.host_at_board(number) == at.appliance.name, timeout=3,
                      every=0.1)
            except Failure:
                self.figures["misplaced"] += 1
                info(f"    MISPLACED: guest {number} runs at {at.appliance.name}, the board has it at "
                     f"{self.host_at_board(number)}")
        for host in self.hosts:
            if n := host.unaccounted():
                info(f"    {host.name} CANNOT ACCOUNT for {n} frames")
                self.figures["unaccounted"] += n

    def host_at_board(self, number):
        """The host of a guest at the board."""
        rows = self.board.json("show", "nodes")
        return next((row["host"] for row in rows if row["mac"] == mac(number)), None)


# The faults.

def kill(*whom):
    """Processes end by SIGKILL and are started again. A guest that runs must be reachable then."""
    def strike(run, move):
        for process in [one(run, move) for one in whom]:
            process.process.kill()
        for process in [one(run, move) for one in whom]:
            process.start()
        # Also a VMM without a running guest: QEMU 7.2 loses the features of the NIC if it loads the guest's state
        # without an appliance, and then cuts the last two bytes of every frame.
        machines = [m for m in (move.old, move.new) if m is not None and m.process.alive()]
        for machine in machines:
            until("the VMM finds its appliance", machine.connected)
        if any(m.state() == "running" for m in machines):
            run.wait_reachable()
    return strike


def source(_, move):
    return move.source.appliance


def target(_, move):
    return move.target.appliance


def third(run, _):
    return run.third


def board(run, _):
    return run.board


def kill_vmm(old):
    """QEMU of the source or of the target ends."""
    def strike(_, move):
        (move.old if old else move.new).kill()
    return strike


def hang(one):
    """A process is stopped for a while."""
    def strike(run, move):
        pid = one(run, move).process.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(HUNG)
        os.kill(pid, signal.SIGCONT)
    return strike


def cancel(_, move):
    """The migration is cancelled."""
    move.cancel()


def report_complete(run, move):
    """The operator reports X at its target, where it does not run yet."""
    run.board.cli("migration", "complete", "--node", f"{VNI}/{mac(X)}", "--at", move.target.appliance.name)


def report_abort(run, _):
    """The operator aborts the migration of X, which continues."""
    run.board.cli("migration", "abort", "--node", f"{VNI}/{mac(X)}")


def unfinished_begin(run, move):
    """An orchestrator locks X and does nothing more."""
    run.board.cli("migration", "begin", "--node", f"{VNI}/{mac(X)}", "--from", move.source.appliance.name,
                  "--to", move.target.appliance.name, "--lease", 1)
    run.wait_reachable()
    until("the lease ends", lambda: not move.locks(), timeout=3)


def in_turn(*strikes):
    """Several faults, one after the other."""
    def strike(run, move):
        for one in strikes:
            one(run, move)
    return strike


def stop_board(until_phase=None, then=lambda _, __: None):
    """The board is down until the migration has reached a phase. X must be reachable without it."""
    def strike(run, move):
        run.board.process.kill()
        if until_phase:
            move.to(until_phase)
        then(run, move)
        run.wait_reachable()
        run.board.start()
    return strike


def lost_markers(run, move):
    """The underlay loses every end marker (the CONTROL bit of the VXLAN header's last byte)."""
    switch = run.net.switch
    switch.run("nft", "add table bridge lossy; add chain bridge lossy marks { type filter hook forward priority 0; }; "
                      "add rule bridge lossy marks udp dport 4789 @th,120,8 & 0x02 == 0x02 counter drop")
    move.to("committed")
    run.wait_reachable()
    lost = switch.run("nft", "list", "table", "bridge", "lossy")
    switch.run("nft", "delete", "table", "bridge", "lossy")
    if "packets 0 " in lost:
        raise Failure("no end marker crossed the underlay")


def unplug_source(run, move):
    """The source's cable to the underlay is unplugged during the migration, and plugged in again."""
    port = f"port{move.source.appliance.number}"
    run.net.switch.ip("link", "set", port, "down")
    move.to("running")
    time.sleep(0.5)
    run.net.switch.ip("link", "set", port, "up")


def flood(run, move):
    """More frames come for the paused guest than can be held."""
    run.station.ns.run("python3", "-c", f"""
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range({FLOOD}):
    s.sendto(bytes(1400), ("{ips(X)[0]}", 9))
    if n % 20 == 0:
        time.sleep(0.002)
""")
    full = sum(d["count"] for d in move.source.appliance.json("show", "drops") if d["reason"] == "hold_full")
    if full == 0:
        raise Failure(f"{FLOOD} frames of 1,400 bytes did not fill {HOLD_MIB} MiB")


def migrate_back(run, move):
    """The guest has just arrived, and migrates back."""
    run.finish(move)
    again = run.migration()
    again.to("running")
    run.finish(again)
    move.finish = lambda: again.target


def opposite_migration(run, move):
    """Y migrates in the other direction at the same time."""
    if run.at[Y].appliance is not move.target.appliance:
        there = run.migration(Y)
        there.to("running")
        run.finish(there)
        run.check_all()
    other = run.migration(Y)
    other.to("copying")
    move.to("stopped")
    other.to("loaded")
    move.to("loaded")
    other.to("running")
    move.to("running")
    run.finish(other)
    run.wait_reachable(Y)


def host_dies(run, move):
    """VMM and appliance of the source die; the guest is powered on at the target."""
    move.source.appliance.process.kill()
    move.old.kill()
    move.new.kill()
    run.at[X] = move.target
    run.guests[X] = move.guest = run.power_on(X)
    run.wait_reachable()
    move.source.appliance.start()
    move.finish = lambda: move.target


@dataclasses.dataclass
class Case:
    """A fault, and the phase of the migration in which it occurs."""
    name: str
    phase: str
    strike: Callable


KILLED = {"source": source, "target": target, "third": third, "board": board}
CASES = [
    *[Case(f"{who} killed, {phase}", phase, kill(one)) for phase in PHASES for who, one in KILLED.items()],
    Case("source and target killed, stopped", "stopped", kill(source, target)),
    Case("source and board killed, stopped", "stopped", kill(board, source)),
    Case("board and target killed, running", "running", kill(board, target)),
    *[Case(f"source VMM killed, {phase}", phase, kill_vmm(old=True)) for phase in ("copying", "stopped", "loaded")],
    *[Case(f"target VMM killed, {phase}", phase, kill_vmm(old=False))
      for phase in ("copying", "stopped", "loaded", "running")],
    Case("source host dies, copying", "copying", host_dies),
    *[Case(f"cancelled, {phase}", phase, cancel) for phase in ("copying", "stopped")],
    *[Case(f"{who} hangs, {phase}", phase, hang(one))
      for who, one in KILLED.items() if who != "third" for phase in ("copying", "stopped")],
    Case("begin never ended, before", "before", unfinished_begin),
    Case("completed too early, copying", "copying", report_complete),
    Case("completed, then cancelled, copying", "copying", in_turn(report_complete, cancel)),
    *[Case(f"aborted, {phase}", phase, report_abort) for phase in ("copying", "stopped")],
    *[Case(f"board down until it runs, {phase}", phase, stop_board("running"))
      for phase in ("before", "copying", "stopped")],
    *[Case(f"board down, then cancelled, {phase}", phase, stop_board(then=cancel)) for phase in ("copying", "stopped")],
    Case("end markers lost, before", "before", lost_markers),
    Case("source cut off, stopped", "stopped", unplug_source),
    Case("hold too small, stopped", "stopped", flood),
    Case("there and back at once, running", "running", migrate_back),
    Case("two cross, before", "before", opposite_migration),
]


def body(lab):
    cases = [c for c in CASES if not ONLY or any(word in c.name for word in ONLY)]
    info(f"building three hosts, two guests and a station; then {len(cases)} migrations with a fault")
    run = Run(lab)
    stopover.wait_nodes(run.hosts, 3)
    for number in (X, Y):
        run.wait_reachable(number, within=15)
    run.slowest = 0.0
    for case in cases:
        run.case(case)
    panics = [p.log.name for p in lab.processes if "panicked at" in p.log.read_text(errors="replace")]
    for name in panics:
        info(f"{name} has a panic")
    run.figures["crashes"] += len(panics)
    return {**run.figures, "slowest_ms": round(run.slowest * 1e3), "few_cases": int(not ONLY and run.figures["cases"] < 40)}


scenario.main("migration-faults", body,
              must_be_zero=["unreachable_after", "locks_left", "misplaced", "unaccounted", "crashes", "vmm_crashes",
                            "few_cases"],
              must_be_positive=["cases"])
