#!/usr/bin/python3
"""Packets per second and cycles per frame of the appliance, beside testpmd and OVS-DPDK on the same ports, flows and
core, and beside the kernel; also with more nodes, during changes, with larger frames, with a second worker, and during
migrations.

    testbed/run bench --quick           64-byte frames, a thousand nodes; takes less than a minute
    testbed/run bench --quick --against DIR
                                        the same paths with two builds: instructions and cycles per frame of five starts
                                        each; takes three minutes. DIR has the binaries of the other build, or is a
                                        checkout with target/release; only its stopover-appliance and stopover are used.
                                        Fails if a frame takes more than 1.02 times the instructions or 1.05 times the
                                        cycles
    testbed/run bench                   all parts, the first with more rounds; takes some twenty minutes and 12 GiB
    testbed/run bench --only A,B        these parts: quick, scale, converge, sizes, updates, workers, kinds, rings,
                                        kernel, holding, throughput, latency
    testbed/run bench --rounds N        with so many rounds of turns
    testbed/run bench --most 1000000    without the ten million nodes of `scale`

docs/performance.md describes the method. Results are in target/bench/: for each part a table, a chart and all figures,
and summary.md of the last run of every part. The bench needs the machine for itself.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.bench import result_files
from lib.bench.parts import (against, converge, holding, kernel, kinds, latency, quick, rings, scale, sizes, throughput,
                             updates, workers)
from lib.lab import Failure, info

PARTS = {
    "quick": lambda lab: quick.body(lab, chosen.rounds or (6 if chosen.quick else 30)),
    "scale": lambda lab: scale.body(lab, chosen.rounds or 10, chosen.most),
    "converge": converge.body,
    "sizes": lambda lab: sizes.body(lab, chosen.rounds or 6),
    "updates": lambda lab: updates.body(lab, chosen.rounds or 8),
    "workers": lambda lab: workers.body(lab, chosen.rounds or 10),
    "kinds": lambda lab: kinds.body(lab, chosen.rounds or 10),
    "rings": lambda lab: rings.body(lab, chosen.rounds or 10),
    "kernel": lambda lab: kernel.body(lab, chosen.rounds or 10),
    "holding": lambda lab: holding.body(lab, chosen.rounds or 10),
    "throughput": throughput.body,
    "latency": latency.body,
}
SUMMED = ("wrong_frames", "lost", "floors_missed")

o = argparse.ArgumentParser(prog="testbed/run bench")
o.add_argument("--quick", action="store_true")
o.add_argument("--against", metavar="DIR", help="the binaries of another build, or a checkout with target/release")
o.add_argument("--only", default=",".join(PARTS))
o.add_argument("--rounds", type=int)
o.add_argument("--most", type=int, default=max(scale.SIZES))
chosen = o.parse_args()
if chosen.against:
    if not chosen.quick:
        o.error("--against needs --quick; hint: --quick --against DIR")
    PARTS = {"against": lambda lab: against.body(lab, chosen.against)}
parts = list(PARTS) if chosen.against else ["quick"] if chosen.quick else chosen.only.split(",")
if unknown := [p for p in parts if p not in PARTS]:
    o.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
checks = {"quick", "kernel", "kinds", "updates"} & set(parts)  # the parts that check the frames
complete = not chosen.against and set(parts) == set(PARTS) and chosen.most == max(scale.SIZES)


def body(lab):
    """Runs the parts one after another, each in a clean lab."""
    figures = dict.fromkeys(SUMMED, 0)
    for part in parts:
        info(f"part {part}")
        more = PARTS[part](lab)
        complaints = lab.restart()
        if complaints:
            raise Failure("; ".join(complaints))
        result_files.summarise(part, more)
        for k in SUMMED:
            more[k] = figures[k] + more.get(k, 0)
        figures.update(more)
    if not checks:
        del figures["wrong_frames"]
    if complete:
        missing = result_files.missing(figures)
        if missing:
            info(f"no part gave {', '.join(missing)}")
        figures["figures_missing"] = len(missing)
    return figures


not_known = {"wrong_frames": not checks, "figures_missing": not complete}
scenario.main("bench", body, must_be_zero=[k for k in (*SUMMED, "figures_missing") if not not_known.get(k)])
