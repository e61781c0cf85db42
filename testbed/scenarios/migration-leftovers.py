#!/usr/bin/python3
"""Thousands of stations and VMs moved there and back, aged out, silent on arrival, begun and completed in every order:
the node is never lost, and nothing of it stays behind.

Behind gw-a and gw-b lies a site each, and in each site all stations have a mouth: a packet socket, from which one
frame a second goes out for every station that is there and speaks. gw-c has a vif, to which they speak, and sees of
them what other hosts see. A round gives every station, alone or in a group of up to 64, one of the ORDERS: what an
orchestrator says (`stopover migration begin`, `complete`, `abort`) and what the station does, some of it wrong or
late. When all have been carried out, the board and gw-c must have every station where it really speaks within
SETTLES seconds (`lost_nodes`, `misplaced`), and the appliances must follow no station any more. Every round has the
same orders, dealt to other stations, so memory must not grow from round to round. At the end all fall silent:
when they have aged out there is no node, no lock, no machine and nothing in a hold (`left_over`).

Then a VM, testpmd behind virtio-user, moves between vhost ports of gw-a and gw-b under traffic, and at every other
arrival takes no frame: after `hold_ms` nothing is held for it, and the counters add up all the time (`unaccounted`).

Among all scenarios it is shorter, and so is the least number of moves. STOPOVER_STATIONS: how many.
STOPOVER_ROUNDS: how many rounds. STOPOVER_VM_MOVES: how many moves of the VM. STOPOVER_SEED: how orders are dealt.
"""

import heapq
import itertools
import os
import pathlib
import random
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, say
from lib.lab.process import Process
from lib.product import ron, stopover

VNI = 100
SHORT = scenario.SHORT
STATIONS = int(os.environ.get("STOPOVER_STATIONS", 300 if SHORT else 2000))
ROUNDS = int(os.environ.get("STOPOVER_ROUNDS", 1 if SHORT else 4))
VM_MOVES = int(os.environ.get("STOPOVER_VM_MOVES", 1 if SHORT else 4))
LEAST_MOVES = 150 if SHORT else 5000
SEED = int(os.environ.get("STOPOVER_SEED", 1))
GROUPS = (64, 4, 1)  # stations of one migration
SHARES = (0.7, 0.2, 0.1)  # of all stations, in groups of each size
AGEING = 4  # seconds
HOLD_MS = 2000
SETTLES = 40
GROWN_PER_MOVE = 256  # bytes: a machine that stays takes four times that
VM_RATE = 500  # frames a second


def station_mac(number):
    return bytes([2, 0x10, 0, 0, number >> 8, number & 0xFF])


def text(octets):
    return ":".join(f"{b:02x}" for b in octets)


def garp(mac, ip):
    """A gratuitous ARP."""
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, ip, bytes(6), ip)
    return (b"\xff" * 6 + mac + b"\x08\x06" + arp).ljust(60, b"\0")


def data(src, dst):
    """A frame of an Ethernet type that nobody listens to."""
    return (dst + src + b"\x88\xb5").ljust(60, b"\0")


class Station:
    """One of the many."""

    def __init__(self, number, site):
        self.number, self.site, self.mac = number, site, station_mac(number)
        self.name, self.node = text(self.mac), f"{VNI}/{text(self.mac)}"
        self.quiet_until = 0.0
        self.hello = garp(self.mac, bytes([10, 1, number >> 8, number & 0xFF]))
        self.voice = data(self.mac, PEER)


PEER = bytes([2, 0, 0, 0, 0, 3])
X = bytes([2, 0, 0, 0, 0, 9])


class Herd(threading.Thread):
    """All stations, and what they say: each that is not silent one frame a second at its site."""

    def __init__(self, mouths, number):
        super().__init__(daemon=True)
        self.mouths = mouths
        self.stations = [Station(n, n % 2) for n in range(number)]
        self.ended = False

    def run(self):
        began, said = time.monotonic(), 0
        while not self.ended:
            now = time.monotonic()
            due = int((now - began) * len(self.stations))
            for n in range(said, min(due, said + len(self.stations))):
                station = self.stations[n % len(self.stations)]
                if station.quiet_until <= now:
                    self.say(station, station.voice)
            said = due
            time.sleep(0.005)

    def say(self, station, frame):
        try:
            self.mouths[station.site].send(frame)
        except OSError:
            pass  # the queue is full: a frame may be lost

    def move(self, group, silent=0.0):
        """To the other site; from then on silent for so long, or heard there at once."""
        now = time.monotonic()
        for station in group:
            station.quiet_until = now + silent
            station.site = 1 - station.site
            if not silent:
                self.say(station, station.hello)

    def hush(self, group, seconds):
        now = time.monotonic()
        for station in group:
            station.quiet_until = now + seconds


class Orders:
    """Each is a generator that yields how long to wait before it goes on."""

    def __init__(self, run):
        self.run, self.herd = run, run.herd
        self.begun = set()

    def begin(self, group, lease=60, named=True):
        source = group[0].site
        names = [h.name for h in self.run.hosts]
        nodes = [word for s in group for word in ("--node", s.node)]
        to = ["--to", names[1 - source]] if named else []
        if self.run.call("begin", *nodes, "--from", names[source], *to, "--lease", lease):
            self.begun.add(id(group))

    def move(self, group, silent=0.0):
        """To the other site, which counts if a migration was begun before."""
        if id(group) in self.begun:
            self.begun.remove(id(group))
            self.run.moves += len(group)
        self.herd.move(group, silent)

    def end(self, how, group):
        self.run.call(how, "--node", group[0].node)

    def heard(self, group):
        self.begin(group)
        yield 0.3
        self.move(group)

    def unnamed(self, group):
        """Nobody has said where to."""
        self.begin(group, named=False)
        yield 0.3
        self.move(group)

    def told(self, group):
        self.begin(group)
        yield 0.3
        self.move(group)
        self.end("complete", group)

    def early(self, group):
        """Completed before anybody has heard it at its target."""
        self.begin(group)
        yield 0.3
        self.move(group, silent=1.5)
        self.end("complete", group)

    def too_early(self, group):
        """Completed while it still speaks where it was."""
        self.begin(group)
        self.end("complete", group)
        yield 1.5
        self.move(group)

    def not_at_all(self, group):
        """Completed, but it never goes."""
        self.begin(group)
        self.end("complete", group)
        yield 0

    def aborted(self, group):
        """Aborted when it is there already."""
        self.begin(group)
        yield 0.2
        self.move(group)
        self.end("abort", group)

    def cancelled(self, group):
        self.begin(group)
        yield 0.3
        self.end("abort", group)

    def forgotten(self, group):
        """Begun, and that was all."""
        self.begin(group, lease=2)
        yield 0

    def twice(self, group):
        """Everything twice, and the wrong way round."""
        self.end("complete", group)
        self.begin(group)
        self.begin(group)
        yield 0.2
        self.move(group)
        yield 0.2
        for how in ("complete", "complete", "abort"):
            self.end(how, group)

    def there_and_back(self, group):
        """Back at once, and completed before anybody has heard it there."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.begin(group)
        self.end("complete", group)
        self.move(group, silent=1.2)

    def back_heard(self, group):
        self.begin(group)
        self.move(group)
        yield 0.7
        self.begin(group)
        yield 0.1
        self.move(group)

    def silent(self, group):
        """Silent at its target until it has aged out where it was."""
        self.begin(group)
        self.move(group, silent=AGEING + 3)
        yield 0.5
        self.end("complete", group)

    def left_silently(self, group):
        """Ages out at its target, speaks where it was, and is to go there again."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.herd.hush(group, AGEING + 2)
        yield 0.1
        self.move(group, silent=AGEING + 2)
        yield AGEING + 4
        self.begin(group)
        yield 0.5
        self.move(group)

    def left_and_stays(self, group):
        """As before, but it does not go again after all."""
        self.begin(group)
        self.move(group)
        yield 0.7
        self.move(group, silent=AGEING + 2)
        yield AGEING + 4
        self.begin(group)
        yield 1
        self.end("abort", group)

    def unannounced(self, group):
        """Nobody was told."""
        self.move(group)
        yield 0


ORDERS = ("heard", "unnamed", "told", "early", "too_early", "not_at_all", "aborted", "cancelled", "forgotten",
          "twice", "there_and_back", "back_heard", "silent", "left_silently", "left_and_stays", "unannounced")


class Vm:
    """testpmd behind a vhost port; it takes frames once it is told to."""

    count = itertools.count()

    def __init__(self, lab, socket):
        argv = ["dpdk-testpmd", "--no-pci", "--in-memory", "--single-file-segments", "--file-prefix",
                f"so{lab.pid}vm{next(self.count)}", "-m", "48", "--lcores", "0@(0-1),1@(0-1)",
                f"--vdev=net_virtio_user0,path={socket},mac={text(X)},queue_size=256",
                "--", "-i", "--total-num-mbufs=4096", "--forward-mode=rxonly", "--rxd=256", "--no-flush-rx"]
        self.process = Process(lab, "vm", argv, pipes=True)
        self.read()

    def read(self, timeout=30):
        said, end = "", time.monotonic() + timeout
        while not said.endswith("testpmd> "):
            part = os.read(self.process.popen.stdout.fileno(), 65536).decode(errors="replace")
            if not part or time.monotonic() > end:
                self.process.check()
                raise Failure(f"testpmd said: {said}")
            said += part

    def takes_frames(self):
        self.process.popen.stdin.write("start\n")
        self.process.popen.stdin.flush()
        self.read()

    def power_off(self):
        self.process.kill()


class Flow(threading.Thread):
    """Frames for the VM, from the station behind gw-c."""

    def __init__(self, mouth):
        super().__init__(daemon=True)
        self.mouth, self.frame, self.on, self.ended = mouth, data(PEER, X), False, False

    def run(self):
        while not self.ended:
            time.sleep(10 / VM_RATE)
            for _ in range(10 if self.on else 0):
                try:
                    self.mouth.send(self.frame)
                except OSError:
                    pass


class Run:
    """The lab, and what happened in it."""

    def __init__(self, lab):
        self.lab = lab
        lab.hugepages(3 * stopover.MEMORY_MIB + 2 * 64 + 64)
        self.board = stopover.Board(lab)
        net = fabric.Fabric(lab)
        self.hosts = [net.host(f"gw-{n}", self.board, v6=False) for n in "abc"]
        mouths, self.sockets = [], []
        for host in self.hosts[:2]:
            host.config["migration"] = {"hold_ms": HOLD_MS}
            site = fabric.Site(lab, host, f"site-{host.name[-1]}", vni=VNI)
            host.config["ports"][-1]["role"].fields["ageing_s"] = AGEING
            mouth = fabric.Tenant(lab, f"m-{host.name[-1]}", len(mouths) + 1, VNI,
                                  text(bytes([2, 0, 0, 0, 0, len(mouths) + 1])), [])
            mouths.append(mouth.plug_site(site).ns.packet_socket("eth0"))
            self.sockets.append(lab.dir / f"x-{host.name[-1]}.sock")
            host.vhost("x", self.sockets[-1], ron.tagged("vif", vni=VNI, mac=text(X), guard=False))
        peer = fabric.Tenant(lab, "peer", 3, VNI, text(PEER), ["10.1.255.3/16"]).plug_vif(self.hosts[2])
        self.flow = Flow(peer.ns.packet_socket("eth0"))
        for host in self.hosts:
            host.start()
        stopover.wait_nodes(self.hosts, 1, or_more=True)
        self.herd = Herd(mouths, STATIONS)
        self.herd.start()
        self.flow.start()
        self.moves = self.calls = self.refused = self.lost = self.misplaced = self.machines = self.unaccounted = 0
        self.memory, self.vm_moves, self.not_settled = [], 0, []
        self.random = random.Random(SEED)

    def call(self, *argv):
        """What an orchestrator says, which may be refused."""
        self.calls += 1
        try:
            self.board.cli("migration", *argv)
            return True
        except Failure:
            self.refused += 1
            return False

    def deal(self):
        """Groups, each with one of the orders."""
        stations = self.herd.stations[:]
        # Groups are of one site.
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
        """All orders once, side by side."""
        dealt, orders = self.deal(), Orders(self)
        began, calls, refused, moves = time.monotonic(), self.calls, self.refused, self.moves
        heap = [(began, n, getattr(orders, name)(group)) for n, (name, group) in enumerate(dealt)]
        while heap:
            at, n, steps = heapq.heappop(heap)
            time.sleep(max(0, at - time.monotonic()))
            wait = next(steps, None)
            if wait is not None:
                heapq.heappush(heap, (time.monotonic() + wait, n, steps))
        time.sleep(max(0, max(s.quiet_until for s in self.herd.stations) - time.monotonic()))
        took, ended = time.monotonic() - began, time.monotonic()
        order_of = {s.name: name for name, group in dealt for s in group}
        while True:
            lost, misplaced, machines = self.wrong(), self.wrong(lost=False), self.followed()
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
        say(f"round {number}: {self.moves - moves} moves in {len(dealt)} groups, {self.calls - calls} calls of which "
            f"{self.refused - refused} refused, {took:.0f} s; settled {time.monotonic() - ended:.1f} s later: "
            f"{len(lost)} lost, {len(misplaced)} misplaced {({k: (len(v), v[0]) for k, v in bad.items()}) or ''}, "
            f"{machines} followed, {locks} locks, memory {self.memory[-1] >> 10} KiB")

    def wrong(self, lost=True):
        """MACs of stations that the board, or gw-c, has nowhere; or elsewhere than where they speak."""
        names = [h.name for h in self.hosts]
        real = {s.name: names[s.site] for s in self.herd.stations}
        bad = set()
        for rows in (self.board.json("show", "nodes"), self.hosts[2].json("show", "nodes")):
            told = {r["mac"]: r["host"] for r in rows}
            bad |= {mac for mac, host in real.items() if (told.get(mac) is None if lost else told.get(mac, host) != host)}
        return bad

    def followed(self):
        """Stations that an appliance follows as if they had a part in a migration."""
        ours = {s.name for s in self.herd.stations}
        return sum(n["mac"] in ours for h in self.hosts for n in h.json("show", "migrations")["nodes"])

    def resident(self):
        """Memory of all appliances that is theirs alone, in bytes."""
        total = 0
        for host in self.hosts:
            for line in pathlib.Path(f"/proc/{host.process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) << 10
        return total

    def left_over(self):
        """All fall silent. What is left when they have aged out, by kind."""
        self.herd.hush(self.herd.stations, 1e9)
        end = time.monotonic() + AGEING + SETTLES
        while True:
            ours = {s.name for s in self.herd.stations}
            left = {
                "nodes": len({r["mac"] for r in self.board.json("show", "nodes")} & ours)
                + sum(len({r["mac"] for r in h.json("show", "nodes")} & ours) for h in self.hosts),
                "machines": self.followed(),
                "locks": len(self.board.json("migration", "list", "--active")),
                "hold_bytes": sum(b["hold_bytes"] - b["hold_free_bytes"]
                                  for b in (h.json("show", "migrations")["budget"] for h in self.hosts)),
            }
            if not any(left.values()) or time.monotonic() > end:
                say(f"all are silent, and this is left of them: {left}")
                return left
            time.sleep(0.5)

    def held(self, host):
        return int(stopover._find(host.json("show", "fwd", "stats", "all"), "held"))

    def move_vm(self):
        """There and back, at every other arrival to a VM that takes nothing. What is left in a hold."""
        at, left = 0, 0
        vm = Vm(self.lab, self.sockets[at])
        vm.takes_frames()
        self.flow.on = True
        time.sleep(1)
        node = f"{VNI}/{text(X)}"
        for move in range(1, VM_MOVES + 1):
            silent = move % 2 == 1
            names = [h.name for h in self.hosts]
            self.call("begin", "--node", node, "--from", names[at], "--to", names[1 - at], "--lease", 60)
            time.sleep(0.2)
            vm.power_off()
            at = 1 - at
            vm = Vm(self.lab, self.sockets[at])
            self.vm_moves += 1
            arrived = time.monotonic()
            if not silent:
                vm.takes_frames()
            most = unaccounted = 0
            while time.monotonic() < arrived + (2 * HOLD_MS / 1e3 + 4 if silent else 4):
                time.sleep(0.2)
                unaccounted = max(unaccounted, self.hosts[at].unaccounted(patience=1))
                most = max(most, self.held(self.hosts[at]))
            self.flow.on = False
            time.sleep(1)
            held = self.held(self.hosts[at])
            where = {r["host"] for r in self.board.json("show", "nodes") if r["mac"] == text(X)}
            say(f"VM's move {move} to {names[at]}, {'where it takes nothing' if silent else 'where it takes frames'}: "
                f"at most {most} held, {held} at the end, at most {unaccounted} unaccounted for; the board has it at {where}")
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


def body(lab):
    say(f"building three hosts, two sites with {STATIONS} stations, and a VM's ports")
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
    # The first round makes room that later ones use again.
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
