#!/usr/bin/python3
"""The board is killed at random moments, and has everything that it acknowledged when it is back.

Eight operators and two hosts write all the time, eight clients watch; two of them take a snapshot of the whole large
table at each start. The board is killed with SIGKILL, one time in five while it starts. Half of the boards have a disk
that forgets what was not made durable: for them a kill is a power cut, after which any part of the rest is on the disk.

`restarts`: kills, each followed by a start without help. `acked`: writes that were acknowledged. `lost_acks`: starts
after which one of them was not there. `in_step_s_max`: the longest time from the start of the board's process until each
client had the revision that the board had when it first answered. `violations`: whatever else `watch-check` finds.

Options: --restarts 240 --nodes 100000 --seed N
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.product.watch_check import watch_check

MINUTES = 14
WITHIN_S = 5


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=12 if scenario.SHORT else 200)
    parser.add_argument("--nodes", type=int, default=20_000 if scenario.SHORT else 100_000)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    seed = [] if options.seed is None else ["--seed", options.seed]
    found = watch_check(lab, MINUTES * 60, "--mix", "kills", "--faults", options.restarts, "--part",
                        min(options.restarts, 25), "--burst", 1, "--bulk", options.nodes, *seed)
    return {"restarts": found["kills"], "acked": found["operations"], "lost_acks": found["lost_acks"],
            "in_step_s_max": found["in_step_s_max"], "compared": found["compared"], "violations": found["violations"],
            "too_few": max(0, options.restarts - found["kills"]),
            "late": int(found["in_step_s_max"] > WITHIN_S)}


scenario.main("board-crash", body, must_be_zero=["lost_acks", "violations", "too_few"],
              must_be_positive=["restarts", "acked", "compared"], must_be_zero_alone=["late"])
