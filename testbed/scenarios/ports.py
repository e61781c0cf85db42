#!/usr/bin/python3
"""Guests come and go on vhost-user ports a thousand times while a million frames per second flow between others: no
other frame is lost, and nothing is left behind.

One appliance with one forwarding lcore has the ports of 16 vifs that stay, and of a few whose guests come and go. One
process (testbed/front-ends) has a virtio driver for each, with sockets, memory and rings of its own. The staying vifs
send to each other all the time, and each also to one of the others, so that guests end in the middle of bursts: in turn
as a VM that is shut down, which stops its rings, and as a VMM that crashes.

The figures: frames lost between the vifs that stay; buffers, open files and mappings of guests' memory that the
appliance has more than before; the time from a guest's start until the appliance takes its first frame.

Cycles run in batches. A batch with a loss is void, and is repeated, if the front ends had no CPU for so long that a
receive ring may have overflown.

STOPOVER_CYCLES: number of cycles.
"""

import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.bench.dut import WORKER_CPU, pin_this_process
from lib.lab import Failure, info, wait
from lib.lab.netns import Namespace
from lib.product import ron, stopover
from lib.traffic import front_ends
from lib.traffic.front_ends import FrontEnds

CYCLES = int(os.environ.get("STOPOVER_CYCLES", 200 if scenario.SHORT else 1000))
BATCH = 50
RATE = 1e6
TO_OTHERS = 16  # one frame in so many is for a guest that comes and goes
STAYING, GUESTS = 16, 4
RING = 1024  # of the vifs that stay: 16 ms at their part of the rate
BURST = 32
BACKLOG = 8192 // BURST  # of frames that were due while the front ends had no CPU: half of the rings' room
NICE = -10  # of the front ends, which share a CPU with all but the forwarding lcore
MBUFS, MEMORY_MIB = 65536, 320
METRICS = "127.0.0.1:9481"
LINK_MS = 500
MOST_VOID = 10


class Gateway(stopover.Appliance):
    """The appliance, with the ports of all vifs."""

    def __init__(self, lab, ns, board):
        super().__init__(lab, "gw", ns, board, memory=MEMORY_MIB)
        self.config["eal"][-1] = f"0@0,1@{WORKER_CPU}"
        self.config |= {"mbufs": MBUFS, "metrics": METRICS}
        del self.config["idle"]
        self.port("ul0", "net_null0,no-rx=1", ron.tagged("underlay", addresses=["10.0.0.1/24"]))  # a host needs a VTEP
        self.staying = [self.vif(n, ring=RING) for n in range(STAYING)]
        self.guests = [self.vif(STAYING + n) for n in range(GUESTS)]

    def vif(self, n, **more):
        """Adds the port of front end n, which it returns."""
        socket = self.lab.dir / f"{front_ends.name(n)}.vhost"
        self.vhost(front_ends.name(n), socket, ron.tagged(
            "vif", vni=front_ends.VNI, mac=front_ends.mac(n), addresses=[front_ends.ip(n)]))
        return front_ends.front_end(n, socket, **more)

    def holds(self):
        """What it has now: buffers, open files, and mappings of guests' memory."""
        page = self.ns.run("curl", "-sS", f"http://{METRICS}/metrics")
        home = pathlib.Path(f"/proc/{self.process.pid}")
        return {
            "mbufs": int(re.search(r"^stopover_mbufs_in_use (\d+)", page, re.M)[1]),
            "fds": len(list((home / "fd").iterdir())),
            "mappings": (home / "maps").read_text().count("memfd:v"),
        }


class Run:
    """The appliance, its front ends, and what has been counted."""

    def __init__(self, lab):
        ns = Namespace(lab, "host")
        board = stopover.Board(lab, ns)
        # Frames for a guest that is not there are for nobody else.
        board.cli("network", "add", front_ends.VNI, "--flood", "to-segments")
        self.gw = Gateway(lab, ns, board)
        lab.hugepages(MEMORY_MIB + STAYING * front_ends.memory_mib(ring=RING) + GUESTS * front_ends.memory_mib() + 64)
        self.gw.start()
        self.ends = FrontEnds(lab, ns, cpu=0)
        os.setpriority(os.PRIO_PROCESS, self.ends.process.pid, NICE)
        self.ends.add([*self.gw.staying, *self.gw.guests])
        stopover.wait_nodes([self.gw], STAYING + GUESTS)
        self.names = [f["name"] for f in self.gw.staying]
        self.links_ms, self.void = [], 0
        self.elsewhere = dict.fromkeys(("received", "lost", "duplicated", "reordered", "astray", "damaged"), 0)

    def flows(self):
        """Each vif that stays sends to the next one and, less, to a guest."""
        kept = [(name, self.names[(n + 1) % STAYING]) for n, name in enumerate(self.names)]
        others = [(name, self.gw.guests[n % GUESTS]["name"]) for n, name in enumerate(self.names)]
        flows = []
        for turn in range(TO_OTHERS - 1):
            flows += kept
            flows += [others[turn % STAYING]] * (STAYING // (TO_OTHERS - 1) + 1)
        return flows

    def staying(self):
        """The counters of the vifs that stay."""
        rows = [row for row in self.ends.stats()["front_ends"] if row["name"] in self.names]
        return {key: sum(row[key] for row in rows) for key in self.elsewhere}

    def cycle(self, n):
        """A guest ends, and starts again."""
        guest = self.gw.guests[n % GUESTS]
        self.ends.remove(guest["name"], abrupt=n // GUESTS % 2 == 1)
        answer, = self.ends.add([guest])
        self.links_ms.append(answer["link_ms"])

    def batch(self, first):
        """A batch of cycles while frames flow. Returns whether it is void."""
        before, links = self.staying(), len(self.links_ms)
        self.ends.start(self.flows(), RATE, burst=BURST, backlog=BACKLOG)
        for n in range(first, first + BATCH):
            self.cycle(n)
        report = self.ends.stop()
        counts = {key: n - before[key] for key, n in self.staying().items()}
        longest, pps = report["longest_round_us"], report["pps"]
        info(f"cycles {first} to {first + BATCH - 1}: {report['seconds']:.2f} s, {pps / 1e6:.3f} Mpps, "
             f"links after {max(self.links_ms[links:]):.1f} ms at most, longest round {longest:.0f} us, elsewhere "
             + ", ".join(f"{k} {v}" for k, v in counts.items() if v))
        if counts["lost"] > 0 and longest * 1e-6 * RATE / STAYING > RING / 2:
            return True
        for key, n in counts.items():
            self.elsewhere[key] += n
        return False

    def cycles(self):
        """All cycles."""
        done = 0
        while done < CYCLES:
            if not self.batch(done):
                done += BATCH
                continue
            self.void += 1
            if self.void > MOST_VOID:
                raise Failure(f"{self.void} batches were void: the front ends have too little CPU")
        return done


def body(lab):
    pin_this_process()
    info(f"building an appliance with {STAYING} vifs that stay, and {GUESTS} whose guests come and go")
    run = Run(lab)
    for n in range(2 * GUESTS):  # what is made once is made now
        run.cycle(n)
    run.links_ms = []
    before = run.gw.holds()
    info(f"before: {before}")
    cycles = run.cycles()
    after = {}

    def quiet():
        after.update(run.gw.holds())
        return all(after[k] <= before[k] for k in before)

    try:
        wait.until("the appliance has no more than before", quiet, timeout=5, every=0.2)
    except Failure as e:
        info(str(e))
    info(f"after: {after}")
    links = sorted(run.links_ms)
    p99 = links[len(links) * 99 // 100]
    return {
        "cycles": cycles, **{f"{key}_elsewhere": n for key, n in run.elsewhere.items()},
        **{f"leaked_{key}": max(0, after[key] - before[key]) for key in before},
        "add_to_link_ms_p50": round(links[len(links) // 2], 1), "add_to_link_ms_p99": round(p99, 1),
        "late_links": int(p99 > LINK_MS), "void_batches": run.void,
        **stopover.accounting([run.gw]),
    }


scenario.main("ports", body,
              must_be_zero=["lost_elsewhere", "duplicated_elsewhere", "reordered_elsewhere", "astray_elsewhere",
                            "damaged_elsewhere", "leaked_mbufs", "leaked_fds", "leaked_mappings", "unaccounted", "faulty_drops"],
              must_be_zero_alone=["late_links"], must_be_positive=["cycles", "received_elsewhere"])
