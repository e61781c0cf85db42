#!/usr/bin/python3
"""256 vhost-user vifs on one appliance, all with a live front end: busy cycles per frame with all of them loaded,
beside those with four of them loaded at the same rate.

All vifs are of one network. One process (testbed/front-ends) has a virtio driver with a socket, memory and rings of its
own for each. In a turn it sends 60-byte frames at a constant rate, in bursts of 32, from every loaded vif to the next
one; flows take turns. The appliance has one forwarding lcore on CPU 1, which polls all vifs all the time; the rest is
on CPU 0. Turns with all vifs and turns with four alternate. A turn gives the lcore's busy cycles (`show lcores`) by the
frames that it received; `cycles_vs_4` is the ratio of the medians. A second appliance has only four vifs and is stopped
while it is not its turn; `cycles_vs_4_vifs` is the ratio to its cycles, which includes the cost of polling vifs that
have no frames.

The last vifs are of other kinds than the rest: packed rings, no mergeable buffers, checksums left to the appliance, a
port that connects to its guest, two queue pairs of which the guest enables one or both. After the turns, those that may
leave checksums to the appliance do so.

A frame is lost if it was put into a ring and did not arrive. A turn is void, and is repeated, if the rate was not
offered or if the front ends had no CPU for so long that a receive ring may have overflown.

STOPOVER_VIFS: number of vifs. STOPOVER_ROUNDS: number of rounds. STOPOVER_RATE: frames per second.
"""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.bench import sampling
from lib.bench.dut import WORKER_CPU, pin_this_process
from lib.bench.setup import Board
from lib.bench.tester import preferred
from lib.lab import Failure, info
from lib.lab.netns import Namespace
from lib.product import ron, stopover
from lib.traffic import front_ends
from lib.traffic.front_ends import FrontEnds

VIFS = int(os.environ.get("STOPOVER_VIFS", 256))
ROUNDS = int(os.environ.get("STOPOVER_ROUNDS", 2 if scenario.SHORT else 9))
RATE = float(os.environ.get("STOPOVER_RATE", 5e5 if scenario.SHORT else 2e6))
FEW = 4
BURST = 32
SECONDS, REST_S = 0.4, 0.1  # see `preferred`
MOST_REPEATS = 40
LINKS_S = 60
MBUFS = 65536  # each of 256 guests announces itself to all others
MOST_RATIO = 1.2
CHECKED_PPS = 1e5  # of frames whose checksums are left to the appliance

# What the front end asks for, and arguments of its port.
KINDS = [
    ({"features": ["mrg_rxbuf", "packed"]}, ""),
    ({"features": []}, ""),
    ({"features": ["mrg_rxbuf", "csum"]}, ""),
    ({"features": ["csum", "packed"]}, ""),
    ({"listen": True}, ",client=1"),
    ({"pairs": 2, "enabled": 1}, ",queues=2"),
    ({"pairs": 2, "enabled": 2}, ",queues=2"),
]


class Gateway:
    """An appliance with so many vifs: those from number `first` on, in network `vni`. The last are of KINDS, if there
    are enough."""

    def __init__(self, lab, ns, board, name, number, vifs, first=0):
        self.vni, self.first, self.vifs = front_ends.VNI + number, first, vifs
        self.appliance = a = stopover.Appliance(lab, name, ns, board)
        self.memory = 96 + MBUFS * 2600 // 2 ** 20
        a.config["mbufs"] = MBUFS
        a.config["eal"][-3:] = [str(self.memory), "--lcores", f"0@0,1@{WORKER_CPU}"]
        del a.config["idle"]
        # A host needs a VTEP.
        a.port("ul0", "net_null0,no-rx=1", ron.tagged("underlay", addresses=[f"10.0.0.{1 + number}/24"]))
        kinds = [({}, "")] * (vifs - len(KINDS)) + KINDS if vifs >= FEW + len(KINDS) else [({}, "")] * vifs
        self.front_ends = [self.vif(n, *kind) for n, kind in enumerate(kinds, first)]

    def vif(self, n, asks, arguments):
        """Adds the port of a front end, which it returns."""
        path = self.appliance.lab.dir / f"{front_ends.name(n)}.vhost"
        role = ron.tagged("vif", vni=self.vni, mac=front_ends.mac(n), addresses=[front_ends.ip(n)])
        pairs = asks.get("pairs", 1)
        self.appliance.port(front_ends.name(n), f"net_vhost{n},iface={path}{arguments}", role,
                            **({"rxq": pairs} if pairs > 1 else {}))
        return front_ends.front_end(n, path, timeout_ms=LINKS_S * 1000, **asks)

    def memory_mib(self):
        """Hugepages of the appliance and its front ends."""
        return self.memory + sum(front_ends.memory_mib(f.get("pairs", 1)) for f in self.front_ends)

    def start(self):
        """Starts it, and finds the thread that forwards."""
        self.appliance.start()
        home = pathlib.Path(f"/proc/{self.appliance.process.pid}/task")
        self.worker, = [int(t.name) for t in home.iterdir() if (t / "comm").read_text().strip() == "stopover-1"]

    def connect(self, ends):
        """Adds its front ends; returns the time that each link took, in milliseconds."""
        links = [a["link_ms"] for a in ends.add(self.front_ends, LINKS_S)]
        stopover.wait_nodes([self.appliance], self.vifs)
        return links

    def pause(self):
        """Stops it as a whole."""
        os.kill(self.appliance.process.pid, signal.SIGSTOP)

    def resume(self):
        """Lets it run again."""
        os.kill(self.appliance.process.pid, signal.SIGCONT)

    def busy(self):
        """(busy cycles, frames received) of the forwarding lcore."""
        c = http.client.HTTPConnection("stopover", timeout=30)
        c.sock = socket.socket(socket.AF_UNIX)
        c.sock.connect(str(self.appliance.socket))
        with contextlib.closing(c):
            c.request("GET", "/v1/lcores")
            lcore, = json.loads(c.getresponse().read())
        return lcore["busy_cycles"], lcore["frames"]

    def ring_of(self, count):
        """Flows from each of its first `count` vifs to the next one."""
        return [(front_ends.name(self.first + n), front_ends.name(self.first + (n + 1) % count)) for n in range(count)]


def turn(gateway, ends, flows):
    """Sends for a turn; returns its report, with the busy cycles per frame."""
    gateway.resume()
    try:
        with preferred([ends.process.pid, gateway.worker]):
            before = gateway.busy()
            report = ends.send(flows, RATE, SECONDS, burst=BURST)
            after = gateway.busy()
    finally:
        gateway.pause()
    time.sleep(REST_S)
    report["cycles"] = (after[0] - before[0]) / max(1, after[1] - before[1])
    return report


def is_void(report, flows):
    """Whether the rate was not offered, or a receive ring may have overflown while the front ends had no CPU."""
    overflown = report["longest_round_us"] * 1e-6 * RATE / len(flows) > front_ends.RING / 2
    return overflown or report["skipped"] > 0 or report["refused"] > 0


def measure(many, few, ends):
    """({kind of turn: reports}, number of void turns)."""
    plan = {"all": (many, many.vifs), "four": (many, FEW), "only four": (few, FEW)}
    reports, void = {what: [] for what in plan}, 0
    for n in range(-1, ROUNDS):  # the first warms up
        for what in plan if n % 2 == 0 else reversed(plan):
            gateway, count = plan[what]
            flows = gateway.ring_of(count)
            while is_void(report := turn(gateway, ends, flows), flows):
                void += 1
                if void > MOST_REPEATS:
                    raise Failure(f"{void} turns were void: the front ends have too little CPU; the last: {report}")
            info(f"{what} of {gateway.vifs}: {report['cycles']:.0f} cycles per frame, {report['pps'] / 1e6:.3f} Mpps, "
                 + "".join(f"{k} {report[k]}, " for k in ("lost", "duplicated", "reordered", "refused") if report[k])
                 + f"longest round {report['longest_round_us']:.0f} us, spare {report['spare_percent']:.0f} %")
            if n >= 0:
                reports[what].append(report)
    return reports, void


def unfinished(gateway, ends):
    """Sends frames whose checksums are left to the appliance, to front ends that finish them and others that do not.
    Returns the reports."""
    senders = [f["name"] for f in gateway.front_ends if "csum" in f.get("features", [])]
    others = [f["name"] for f in gateway.front_ends[:FEW]]
    flows = [(a, b) for a in senders for b in [*senders, *others] if a != b]
    with preferred([ends.process.pid, gateway.worker]):
        reports = [ends.send(flows, CHECKED_PPS, SECONDS / 2, burst=4, size=size, unfinished=True)
                   for size in (60, 1514) if flows]
    info(f"{sum(r['received'] for r in reports)} frames without checksum from {', '.join(senders)}")
    return reports


def body(lab):
    pin_this_process()
    info(f"building an appliance with {VIFS} vifs, and one with {FEW}")
    ns = Namespace(lab, "host")
    board = Board(lab, ns)
    many, few = Gateway(lab, ns, board, "many", 0, VIFS), Gateway(lab, ns, board, "few", 1, FEW, first=VIFS)
    both = [many, few]
    lab.hugepages(sum(g.memory_mib() for g in both) + 64)
    ends, links = FrontEnds(lab, ns, cpu=0), []
    for gateway in both:
        gateway.start()
        links += gateway.connect(ends)
        gateway.pause()
    info(f"{len(links)} links are up; the last after {max(links):.0f} ms")
    try:
        reports, void = measure(many, few, ends)
    finally:
        for gateway in both:
            gateway.resume()
    checked = unfinished(many, ends)
    rows = ends.stats()["front_ends"][:VIFS]
    valid = [*(r for of in reports.values() for r in of), *checked]
    cycles = {what: [r["cycles"] for r in of] for what, of in reports.items()}
    figures = {"vifs": sum(row["up"] and row["received"] > 0 for row in rows)}
    sampling.put_ratio(figures, "cycles_vs_4", cycles["all"], cycles["four"])
    sampling.put_ratio(figures, "cycles_vs_4_vifs", cycles["all"], cycles["only four"])
    return {
        **figures,
        "too_few": int(figures["vifs"] < VIFS), "too_slow": int(figures["cycles_vs_4"] > MOST_RATIO),
        **stopover.accounting([g.appliance for g in both]),
        **{k: sum(r[k] for r in valid) for k in ("sent", "lost", "duplicated", "reordered", "astray", "damaged")},
        "checked": sum(r["received"] for r in checked),
        "void_turns": void,
        **{f"cycles_{what.replace(' ', '_')}": round(statistics.median(of)) for what, of in cycles.items()},
        "mpps": round(min(r["pps"] for of in reports.values() for r in of) / 1e6, 3),
        "last_link_ms": round(max(links)),
    }


scenario.main("many-vifs", body,
              must_be_zero=["too_few", "unaccounted", "faulty_drops", "lost", "duplicated", "reordered", "astray",
                            "damaged"],
              must_be_zero_alone=["too_slow"], must_be_positive=["vifs", "sent"])
