"""Measuring in turns, and the statistics of it.

DUTs take turns A B C, C B A, A B C, ... so that drift (of the clock, of the neighbours on the physical machine) affects
all alike. Each turn gives a figure. The result of a DUT is the median of its figures, with a nonparametric confidence
interval from order statistics; the ratio of two DUTs has an interval from a bootstrap. No distribution is assumed.
"""

import dataclasses
import math
import random
import statistics
import time

from ..lab import Failure
from .dut import TSC_HZ

WARM_S = 0.06
CONFIDENCE = 0.95
BOOTSTRAP = 2000
IN_FLIGHT = 4096  # frames that may pass between the readings of two counters


@dataclasses.dataclass
class Turn:
    """One turn on the worker's CPU."""

    frames: int
    busy_s: float
    clock_s: float
    dropped: int
    behind: tuple  # the frames by which the sink was behind the source, at both readings

    @property
    def mpps(self):
        return self.frames / self.busy_s / 1e6

    @property
    def cycles(self):
        return TSC_HZ * self.busy_s / self.frames


def turn(dut, seconds, during=None):
    """Lets a DUT work for a turn and counts. Busy time is the time by the clock less the time in which its threads
    waited for a CPU; a loop with more load than it can take is busy all the time that it runs. `during(seconds)`, if
    given, is called instead of a pause of that length."""
    dut.resume()
    try:
        time.sleep(WARM_S)
        a = dut.read()
        (during or time.sleep)(seconds)
        b = dut.read()
    finally:
        dut.pause()
    dut.process.check()
    frames, clock = b.sent - a.sent, b.at_s - a.at_s
    waited = (b.waited_s - a.waited_s) / dut.workers
    if frames <= 0 or waited >= clock:
        raise Failure(f"{dut.name} sent {frames} frames in {clock:.3f} s, of which it waited {waited:.3f} s for a CPU")
    return Turn(frames, clock - waited, clock, b.dropped - a.dropped, (a.received - a.sent, b.received - b.sent))


def lost(turns):
    """Frames that a DUT dropped by its own counters, and frames that it received and neither sent nor counted. Source
    and sink are not read at the same time, so a single reading has frames between them; a real loss makes all later
    readings differ from all earlier ones."""
    behind = [n for t in turns for n in t.behind]
    half = len(behind) // 2
    vanished = min(abs(b - a) for a in behind[:half] for b in behind[half:])
    return sum(t.dropped for t in turns) + (vanished if vanished > IN_FLIGHT else 0)


def in_turns(duts, seconds, rounds):
    """{name: [Turn]} of so many rounds, every second of them in reverse order."""
    turns = {c.name: [] for c in duts}
    for n in range(rounds):
        for c in duts if n % 2 == 0 else reversed(duts):
            turns[c.name].append(turn(c, seconds))
    return turns


def interval(values):
    """(low, high, confidence): the narrowest symmetric interval of order statistics that has the median with at least
    CONFIDENCE, or the whole range with its confidence."""
    ordered, n = sorted(values), len(values)
    outside, k = 0.0, 0
    while k < n // 2:
        more = outside + 2 * math.comb(n, k) / 2 ** n
        if 1 - more < CONFIDENCE and k > 0:
            break
        outside, k = more, k + 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k], 1 - outside


def ratio(above, below):
    """(ratio of the medians, low, high) of two lists."""
    dice = random.Random(1)

    def again(values):
        return statistics.median(dice.choices(values, k=len(values)))

    many = sorted(again(above) / again(below) for _ in range(BOOTSTRAP))
    edge = int(BOOTSTRAP * (1 - CONFIDENCE) / 2)
    return statistics.median(above) / statistics.median(below), many[edge], many[-1 - edge]


def put_ratio(figures, name, above, below, digits=3):
    """Adds the ratio of two lists' medians, and its interval, to figures."""
    value, low, high = ratio(above, below)
    figures[name], figures[f"{name}_interval"] = round(value, digits), [round(low, digits), round(high, digits)]


def summary(turns):
    """The turns of a DUT for a table: rate, cycles and their intervals."""
    rates, cycles = [t.mpps for t in turns], [t.cycles for t in turns]
    return {
        "mpps": statistics.median(rates), "mpps_interval": interval(rates)[:2],
        "cycles": statistics.median(cycles), "cycles_interval": interval(cycles)[:2],
        "confidence": interval(rates)[2], "turns": len(turns), "frames": sum(t.frames for t in turns),
        "lost": lost(turns),
        "kept_from_running_percent": 100 * (1 - sum(t.busy_s for t in turns) / sum(t.clock_s for t in turns)),
    }
