#!/usr/bin/python3
"""Thousands of migrations of stations and VMs, complete and incomplete, in every order: no node is lost, and nothing of
a migration stays behind.

Behind gw-a and gw-b there is a site each with a packet socket, from which every station of the site sends one frame per
second, unless it is silent. They send to a vif of gw-c, which sees what any other host sees. In a round every station,
alone or in a group of up to 64, gets one of the ORDERS: the calls of an orchestrator (`stopover migration begin`,
`complete`, `abort`) and what the station does; some are wrong or late. Within SETTLES seconds after a round the board
and gw-c must have every station where it sends (`lost_nodes`, `misplaced`), and no appliance may have a migration of
one. Every round has the same orders for other stations, so memory must not grow from round to round. At the end all
stations fall silent. When they have aged out, there must be no node, no lock, no migration and no held frame
(`left_over`).

Then a VM (testpmd on virtio-user) moves between vhost ports of gw-a and gw-b under traffic. At every other arrival it
takes no frames: after `hold_ms` none may be held for it, and packet accounting holds all the time (`unaccounted`).

Among all scenarios it is shorter, with fewer moves. STOPOVER_STATIONS: number of stations. STOPOVER_ROUNDS: number of
rounds. STOPOVER_VM_MOVES: number of moves of the VM. STOPOVER_SEED: seed of the distribution of orders.
"""

import heapq
import itertools
import os
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, info
from lib.peers import testpmd
from lib.product import ron, stopover
from lib.traffic import crowd
from lib.traffic.frames import mac_text

VNI = 100
SHORT = scenario.SHORT
STATIONS = int(os.environ.get("STOPOVER_STATIONS", 300 if SHORT else 2000))
ROUNDS = int(os.environ.get("STOPOVER_ROUNDS", 1 if SHORT else 4))
VM_MOVES = int(os.environ.get("STOPOVER_VM_MOVES", 1 if SHORT else 4))
LEAST_MOVES = 150 if SHORT else 5000
SEED = int(os.environ.get("STOPOVER_SEED", 1))
GROUPS = (64, 4, 1)  # stations in one migration
SHARES = (0.7, 0.2, 0.1)  # of all stations, in groups of each size
AGEING = 4  # seconds
HOLD_MS = 2000
SETTLES = 40
GROWN_PER_MOVE = 256  # bytes; a migration's state that is never freed takes four times that
VM_RATE = 500  # frames per second
PEER = bytes([2, 0, 0, 0, 0, 3])
X = bytes([2, 0, 0, 0, 0, 9])


class Orders:
    """Each order is a generator that yields how many seconds to wait before its next step."""

    def __init__(self, run):
        self.run, self.crowd = run, run.crowd
        self.begun = set()

    def begin(self, group, lease=60, named=True):
        source = group[0].site
        names = [h.name for h in self.run.hosts]
        nodes = [word for s in group for word in ("--node", s.node)]
        to = ["--to", names[1 - source]] if named else []
        if self.run.call("begin", *nodes, "--from", names[source], *to, "--lease", lease):
            self.begun.add(id(group))

    def move(self, group, silent=0.0):
        """Moves a group to the other site. That counts as a move if a migration was begun before."""
        if id(group) in self.begun:
            self.begun.remove(id(group))
            self.run.moves += len(group)
        self.crowd.move(group, silent)

    def end(self, how, group):
        self.run.call(how, "--node", group[0].node)

    def learned(self, group):
        """The target learns it."""
        self.begin(group)
        yield 0.3
        self.move(group)

    def unnamed(self, group):
        """The migration names no target."""
        self.begin(group, named=False)
        yield 0.3
        self.move(group)

    def completed(self, group):
        """It is completed when it has sent at its target."""
        self.begin(group)
        yield 0.3
        self.move(group)
        self.end("complete", group)

    def early(self, group):
        """It is completed before it has sent at its target."""
        self.begin(group)
        yield 0.3
        self.move(group, silent=1.5)
        self.end("complete", group)

    def completed_before_move(self, group):
        """It is completed while it still sends at its source."""
        self.begin(group)
        self.end("complete", group)
        yield 1.5
        self.move(group)

    def never_moved(self, group):
        """It is completed, but never moves."""
        self.begin(group)
        self.end("complete", group)
        yield 0

    def aborted(self, group):
        """It is aborted after it has moved."""
        self.begin(group)
        yield 0.2
        self.move(group)
        self.end("abort", group)

    def cancelled(self, group):
        """It is aborted before it has moved."""
        self.begin(group)
        yield 0.3
        self.end("abort", group)

    def never_ended(self, group):
        """It is begun and never ended."""
        self.begin(group, lease=2)
        yield 0

    def twice(self, group):
        """All calls come twice and in the wrong order."""
        self.end("complete", group)
        self.begin(group)
        self.begin(group)
        yield 0.2
        self.move(group)
        yield 0.2
        for how in ("complete", "complete", "abort"):
            self.end(how, group)

    def moved_back_silently(self, group):
        """It moves back at once, and that is completed before it has sent there."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.begin(group)
        self.end("complete", group)
        self.move(group, silent=1.2)

    def moved_back(self, group):
        """It moves back, and sends there at once."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.begin(group)
        yield 0.1
        self.move(group)

    def silent(self, group):
        """It is silent at its target until it has aged out at its source."""
        self.begin(group)
        self.move(group, silent=AGEING + 3)
        yield 0.5
        self.end("complete", group)

    def aged_out_at_target(self, group):
        """It ages out at its target, sends at its source again, and then migrates to the target again."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.crowd.silence(group, AGEING + 2)
        yield 0.1
        self.move(group, silent=AGEING + 2)
        yield AGEING + 4
        self.begin(group)
        yield 0.5
        self.move(group)

    def aged_out_then_aborted(self, group):
        """As `aged_out_at_target`, but the second migration is aborted."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.move(group, silent=AGEING + 2)
        yield AGEING + 4
        self.begin(group)
        yield 1
        self.end("abort", group)

    def without_migration(self, group):
        """It moves without a migration."""
        self.move(group)
        yield 0


ORDERS = ("learned", "unnamed", "completed", "early", "completed_before_move", "never_moved", "aborted", "cancelled",
          "never_ended", "twice", "moved_back_silently", "moved_back", "silent", "aged_out_at_target",
          "aged_out_then_aborted", "without_migration")


class Vm(testpmd.Console):
    """testpmd behind a vhost port. It takes no frames before `takes_frames`."""

    count = itertools.count()

    def __init__(self, lab, socket):
        super().__init__(lab, "vm", [
            "--single-file-segments", "--file-prefix", f"so{lab.pid}vm{next(self.count)}", "-m", "48",
            "--lcores", "0@(0-1),1@(0-1)", f"--vdev=net_virtio_user0,path={socket},mac={mac_text(X)},queue_size=256",
            "--", "-i", "--total-num-mbufs=4096", "--forward-mode=rxonly", "--rxd=256", "--no-flush-rx"])

    def takes_frames(self):
        self.command("start")

    def power_off(self):
        self.process.kill()


class Flow(threading.Thread):
    """Frames for the VM, from the station behind gw-c."""

    def __init__(self, socket):
        super().__init__(daemon=True)
        self.socket, self.frame, self.on, self.ended = socket, crowd.data(PEER, X), False, False

    def run(self):
        while not self.ended:
            time.sleep(10 / VM_RATE)
            for _ in range(10 if self.on else 0):
                try:
                    self.socket.send(self.frame)
                except OSError:
                    pass


class Run:
    """The hosts, sites and stations, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        self.board, _, self.hosts = fabric.three_hosts(lab, spare_mib=3 * 64, v6=False)
        sockets, self.vhost_sockets = [], []
        for host in self.hosts[:2]:
            host.config["migration"] = {"hold_ms": HOLD_MS}
            site = fabric.Site(lab, host, f"site-{host.name[-1]}", vni=VNI)
            host.config["ports"][-1]["role"].fields["ageing_s"] = AGEING
            number = len(sockets) + 1
            sender = fabric.Tenant(lab, f"m-{host.name[-1]}", number, VNI, fabric.mac(number), [])
            sockets.append(sender.plug_site(site).ns.packet_socket("eth0"))
            self.vhost_sockets.append(lab.dir / f"x-{host.name[-1]}.sock")
            host.vhost("x", self.vhost_sockets[-1], ron.tagged("vif", vni=VNI, mac=mac_text(X), guard=False))
        peer = fabric.Tenant(lab, "peer", 3, VNI, mac_text(PEER), ["10.1.255.3/16"]).plug_vif(self.hosts[2])
        self.flow = Flow(peer.ns.packet_socket("eth0"))
        for host in self.hosts:
            host.start()
        stopover.wait_nodes(self.hosts, 1, or_more=True)
        self.crowd = crowd.Crowd(sockets, STATIONS, VNI, PEER)
        self.crowd.start()
        self.flow.start()
        self.moves = self.calls = self.refused = self.lost = self.misplaced = self.machines = self.unaccounted = 0
        self.memory, self.vm_moves = [], 0
        self.random = random.Random(SEED)

    def call(self, *argv):
        """A call of an orchestrator. Returns whether the board took it."""
        self.calls += 1
        try:
            self.board.cli("migration", *argv)
            return True
        except Failure:
            self.refused += 1
            return False

    def distribute(self):
        """(order, group) of all stations. The stations of a group are at one site."""
        stations = self.crowd.stations[:]
        self.random.shuffle(stations)
        groups = []
        for size, share in zip(GROUPS, SHARES):
            part, stations = stations[:round(share * STATIONS)], stations[round(share * STATIONS):]
            for site in (0, 1):
                here = [s for s in part if s.site == site]
                groups += [here[i:i + size] for i in range(0, len(here), size)]
        groups += [[s] for s in stations]
        return [(ORDERS[n % len(ORDERS)], group) for n, group in enumerate(groups)]

    def round(self, number):
        """Executes all orders, in parallel."""
        dealt, orders = self.distribute(), Orders(self)
        began, calls, refused, moves = time.monotonic(), self.calls, self.refused, self.moves
        heap = [(began, n, getattr(orders, name)(group)) for n, (name, group) in enumerate(dealt)]
        while heap:
            at, n, steps = heapq.heappop(heap)
            time.sleep(max(0, at - time.monotonic()))
            wait = next(steps, None)
            if wait is not None:
                heapq.heappush(heap, (time.monotonic() + wait, n, steps))
        time.sleep(max(0, max(s.silent_until for s in self.crowd.stations) - time.monotonic()))
        took, ended = time.monotonic() - began, time.monotonic()
        order_of = {s.name: name for name, group in dealt for s in group}
        while True:
            lost, misplaced, machines = self.wrong(), self.wrong(lost=False), self.migrations()
            locks = len(self.board.json("migration", "list", "--active"))
            if not (lost or misplaced or machines or locks) or time.monotonic() - ended > SETTLES:
                break
            time.sleep(0.5)
        self.lost += len(lost)
        self.misplaced += len(misplaced)
        self.machines += machines
        self.memory.append(self.resident())
        bad = {}
        for name in lost | misplaced:
            bad.setdefault(order_of[name], []).append(name)
        info(f"round {number}: {self.moves - moves} moves in {len(dealt)} groups, {self.calls - calls} calls of which "
            f"{self.refused - refused} were refused, {took:.0f} s; settled {time.monotonic() - ended:.1f} s later: "
            f"{len(lost)} lost, {len(misplaced)} misplaced {({k: (len(v), v[0]) for k, v in bad.items()}) or ''}, "
            f"{machines} migrations, {locks} locks, memory {self.memory[-1] >> 10} KiB")

    def wrong(self, lost=True):
        """MACs of the stations that the board or gw-c does not have (`lost`), or has at another host than theirs."""
        names = [h.name for h in self.hosts]
        real = {s.name: names[s.site] for s in self.crowd.stations}
        bad = set()
        for rows in (self.board.json("show", "nodes"), self.hosts[2].json("show", "nodes")):
            told = {r["mac"]: r["host"] for r in rows}
            bad |= {mac for mac, host in real.items() if (told.get(mac) is None if lost else told.get(mac, host) != host)}
        return bad

    def migrations(self):
        """How many stations the appliances have migration records for."""
        ours = {s.name for s in self.crowd.stations}
        return sum(n["mac"] in ours for h in self.hosts for n in h.json("show", "migrations")["nodes"])

    def resident(self):
        """Anonymous memory of all appliances, in bytes."""
        total = 0
        for host in self.hosts:
            for line in pathlib.Path(f"/proc/{host.process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) << 10
        return total

    def left_over(self):
        """Silences all stations. Returns what is left when they have aged out, by kind."""
        self.crowd.silence(self.crowd.stations, 1e9)
        end = time.monotonic() + AGEING + SETTLES
        while True:
            ours = {s.name for s in self.crowd.stations}
            left = {
                "nodes": len({r["mac"] for r in self.board.json("show", "nodes")} & ours)
                + sum(len({r["mac"] for r in h.json("show", "nodes")} & ours) for h in self.hosts),
                "machines": self.migrations(),
                "locks": len(self.board.json("migration", "list", "--active")),
                "hold_bytes": sum(b["hold_bytes"] - b["hold_free_bytes"]
                                  for b in (h.json("show", "migrations")["budget"] for h in self.hosts)),
            }
            if not any(left.values()) or time.monotonic() > end:
                info(f"all stations are silent; left of them: {left}")
                return left
            time.sleep(0.5)

    def move_vm(self):
        """Moves the VM there and back; at every other arrival it takes nothing. Returns how many frames are still held
        at the end of each move."""
        at, left = 0, 0
        vm = Vm(self.lab, self.vhost_sockets[at])
        vm.takes_frames()
        self.flow.on = True
        time.sleep(1)
        node, names = f"{VNI}/{mac_text(X)}", [h.name for h in self.hosts]
        for move in range(1, VM_MOVES + 1):
            silent = move % 2 == 1
            self.call("begin", "--node", node, "--from", names[at], "--to", names[1 - at], "--lease", 60)
            time.sleep(0.2)
            vm.power_off()
            at = 1 - at
            vm = Vm(self.lab, self.vhost_sockets[at])
            self.vm_moves += 1
            if not silent:
                vm.takes_frames()
            most, unaccounted = self.watch_vm(self.hosts[at], 2 * HOLD_MS / 1e3 + 4 if silent else 4)
            self.flow.on = False
            time.sleep(1)
            held = self.hosts[at].counter("held")
            where = {r["host"] for r in self.board.json("show", "nodes") if r["mac"] == mac_text(X)}
            info(f"move {move} of the VM to {names[at]}, where it takes {'nothing' if silent else 'frames'}: at most "
                f"{most} held, {held} at the end, at most {unaccounted} unaccounted for; the board has it at {where}")
            left += held
            self.unaccounted += unaccounted
            self.lost += not where
            self.misplaced += bool(where - {names[at]})
            self.flow.on = True
            if silent:
                vm.takes_frames()
                time.sleep(0.5)
        self.flow.on = False
        vm.power_off()
        return left

    @staticmethod
    def watch_vm(host, seconds):
        """The most frames that were held and that were unaccounted for at a host, for some seconds."""
        most = unaccounted = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.2)
            unaccounted = max(unaccounted, host.unaccounted(patience=1))
            most = max(most, host.counter("held"))
        return most, unaccounted


def body(lab):
    info(f"building three hosts, two sites with {STATIONS} stations, and a VM's ports")
    run = Run(lab)
    end = time.monotonic() + 30
    while run.wrong() or run.wrong(lost=False):
        if time.monotonic() > end:
            raise Failure(f"{len(run.wrong())} stations are not known after 30 s")
        time.sleep(0.5)
    for number in range(1, ROUNDS + 1):
        run.round(number)
    left = run.left_over()
    left["hold_frames"] = run.move_vm()
    # The first round allocates memory that later ones use again.
    grown = max(0, run.memory[-1] - run.memory[1]) if ROUNDS > 2 else 0
    moved_since = max(1, run.moves * (ROUNDS - 2) // ROUNDS)
    left["grown_memory"] = int(grown // moved_since > GROWN_PER_MOVE)
    left["machines"] += run.machines
    accounting = stopover.accounting(run.hosts)
    return {
        "moves": run.moves + run.vm_moves,
        "moves_too_few": max(0, LEAST_MOVES - run.moves),
        "vm_moves": run.vm_moves,
        "stations": STATIONS,
        "calls": run.calls,
        "calls_refused": run.refused,
        "lost_nodes": run.lost,
        "misplaced": run.misplaced,
        "left_over": sum(left.values()),
        "left_over_of": left,
        "memory_grown_bytes_per_move": grown // moved_since,
        "unaccounted": run.unaccounted + accounting["unaccounted"],
        "faulty_drops": accounting["faulty_drops"],
    }


scenario.main("migration-leftovers", body,
              must_be_zero=["lost_nodes", "left_over", "misplaced", "unaccounted", "faulty_drops", "moves_too_few"],
              must_be_positive=["moves", "vm_moves", "calls"])
