#!/usr/bin/python3
"""What the clients of a board see is checked against what it must have had, while it is disturbed in every way.

Eight operators and two hosts write, six observers and the two hosts watch, each by the protocol and with
acknowledgements as appliances send them. Meanwhile the board is killed (also while it starts, and half of the times on a
disk that forgets what was not made durable), its store is replaced by a backup, its clocks jump, connections are cut or
not read, and the history is too short for some watchers. Requests are repeated, at once and much later. After every
dozen of faults all watchers must be in step within 5 s.

`operations`: writes that were answered. `faults`: disturbances, without the `repeats` of requests. `compared`: tables of
watchers that were compared with the board's of the same revision; `not_compared`: those of a revision that was given up
by a restore before anybody was told what was in it. `too_many_unknown`: as far as they are more than one in ten.
`violations`: lost writes and events, doubled ones, another order, events from the future, wrong tables, changes that
nobody made, watchers not in step in time.

Options: --minutes 10 (hours are possible) --seed N
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.product.watch_check import watch_check


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=0.25 if scenario.SHORT else 10)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args()
    seed = [] if options.seed is None else ["--seed", options.seed]
    figures = watch_check(lab, options.minutes * 60, *seed)
    least = min(1, options.minutes / 10)
    return {**figures, "too_many_unknown": max(0, figures["not_compared"] - figures["compared"] // 10),
            "too_few": max(0, round(100_000 * least / (2 if scenario.SHORT else 1)) - figures["operations"])
                       + max(0, round(1000 * least / (2 if scenario.SHORT else 1)) - figures["faults"])}


scenario.main("watch-check", body, must_be_zero=["violations", "too_many_unknown"],
              must_be_positive=["operations", "faults", "compared"], must_be_zero_alone=["too_few"])
