#!/usr/bin/python3
"""Guests enable fewer queue pairs than their vhost-user ports have, and change their number while frames flow: they
receive every frame.

One appliance has three forwarding lcores and vifs with one to four queue pairs. One process (testbed/front-ends) has a
virtio driver for each. All send to all: first with fixed numbers of pairs, without a frame that is lost, duplicated or
reordered; then while one guest after another changes its number, as `ethtool -L` does, without one that is lost or
duplicated. (A flow that changes to another ring is reordered by the guest.) A guest disables a pair when the appliance
has taken the frames in it.

A part with a loss is void, and is repeated, if the front ends had no CPU for so long that a receive ring may have
overflown.

STOPOVER_CHANGES: number of changes.
"""

import os
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, info
from lib.lab.netns import Namespace
from lib.product import ron, stopover
from lib.traffic import front_ends
from lib.traffic.front_ends import FrontEnds

CHANGES = int(os.environ.get("STOPOVER_CHANGES", 60 if scenario.SHORT else 300))
LCORES = 4  # one of them does not forward
PAIRS = {0: (2, 1), 1: (2, 2), 2: (4, 3), 3: (4, 1), 4: (1, 1)}  # by vif: what the port has, what the guest enables first
SECONDS = 2
RATE = 1e5
RING = 1024  # 50 ms at a vif's part of the rate
BURST, BACKLOG = 8, 1024
NICE = -10
MBUFS, MEMORY_MIB = 32768, 192
MOST_VOID = 5
BETWEEN_S = 0.002
COUNTED = ("sent", "received", "lost", "duplicated", "reordered", "astray", "damaged")


class Run:
    """The appliance and its front ends."""

    def __init__(self, lab):
        ns = Namespace(lab, "host")
        self.gw = gw = stopover.Appliance(lab, "gw", ns, stopover.Board(lab, ns), memory=MEMORY_MIB, lcores=LCORES)
        gw.config["mbufs"] = MBUFS
        gw.port("ul0", "net_null0,no-rx=1", ron.tagged("underlay", addresses=["10.0.0.1/24"]))  # a host needs a VTEP
        ends = [self.vif(n, *PAIRS[n]) for n in PAIRS]
        lab.hugepages(MEMORY_MIB + sum(front_ends.memory_mib(pairs, RING) for pairs, _ in PAIRS.values()) + 64)
        gw.start()
        self.ends = FrontEnds(lab, ns, cpu=0)
        os.setpriority(os.PRIO_PROCESS, self.ends.process.pid, NICE)
        self.ends.add(ends)
        stopover.wait_nodes([gw], len(PAIRS))
        names = [f["name"] for f in ends]
        self.flows = [(a, b) for a in names for b in names if a != b]
        self.void = 0

    def vif(self, n, pairs, enabled):
        """Adds the port of a front end, which it returns."""
        socket = self.gw.lab.dir / f"{front_ends.name(n)}.vhost"
        role = ron.tagged("vif", vni=front_ends.VNI, mac=front_ends.mac(n), addresses=[front_ends.ip(n)])
        self.gw.port(front_ends.name(n), f"net_vhost{n},iface={socket},queues={pairs}", role, rxq=pairs)
        return front_ends.front_end(n, socket, ring=RING, pairs=pairs, enabled=enabled)

    def part(self, name, what):
        """Calls `what()` while frames flow; returns the counters."""
        while True:
            self.ends.start(self.flows, RATE, burst=BURST, backlog=BACKLOG)
            what()
            report = self.ends.stop()
            longest = report["longest_round_us"]
            info(f"part {name}: {report['seconds']:.2f} s, {report['pps'] / 1e3:.0f} kpps, longest round {longest:.0f} us, "
                 + ", ".join(f"{key} {report[key]}" for key in COUNTED if report[key]))
            if report["lost"] == 0 or longest * 1e-6 * RATE / len(PAIRS) < RING / 2:
                return {f"{name}_{key}": report[key] for key in COUNTED}
            self.void += 1
            if self.void > MOST_VOID:
                raise Failure(f"{self.void} parts were void: the front ends have too little CPU")

    def changes(self):
        """Changes the number of pairs of guests that have several, one after another."""
        dice = random.Random(1)
        several = [n for n, (pairs, _) in PAIRS.items() if pairs > 1]
        for change in range(CHANGES):
            n = several[change % len(several)]
            self.ends.enable(front_ends.name(n), dice.randint(1, PAIRS[n][0]))
            time.sleep(BETWEEN_S)


def body(lab):
    info(f"building an appliance with {LCORES - 1} forwarding lcores, and vifs with queue pairs {list(PAIRS.values())}")
    run = Run(lab)
    figures = run.part("fixed", lambda: time.sleep(SECONDS)) | run.part("changing", run.changes)
    return {"changes": CHANGES, **figures, "void_parts": run.void, **stopover.accounting([run.gw])}


scenario.main("queues", body,
              must_be_zero=[*(f"{part}_{key}" for part in ("fixed", "changing") for key in COUNTED[2:]
                              if (part, key) != ("changing", "reordered")), "unaccounted", "faulty_drops"],
              must_be_positive=["fixed_received", "changing_received"])
