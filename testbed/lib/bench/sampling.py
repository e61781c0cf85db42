"""Measuring in turns, and what may be concluded from it.

Contenders take turns A B C, C B A, A B C, ... so that whatever drifts (the clock, the neighbours on the physical
machine) meets all alike. Each turn gives one figure; the median of a contender's figures is its result, with a
nonparametric confidence interval from order statistics, and the ratio of two contenders has one from a bootstrap.
Nothing is assumed of the distribution.
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
IN_FLIGHT = 4096  # frames that may lie between two counters which are not read in quite the same instant


@dataclasses.dataclass
class Turn:
    """One turn on the worker's CPU."""

    frames: int
    busy_s: float
    clock_s: float
    dropped: int
    behind: tuple  # by how many frames the sink was behind the source since the start, at both readings

    @property
    def mpps(self):
        return self.frames / self.busy_s / 1e6

    @property
    def cycles(self):
        return TSC_HZ * self.busy_s / self.frames


def turn(contender, seconds, during=None):
    """Lets a contender work and counts. Busy time is what the clock says less what its threads had to wait for the CPU
    while others had it; a loop under more load than it can take is busy all the time that it runs. `during(seconds)`,
    if given, is what to do meanwhile."""
    contender.resume()
    try:
        time.sleep(WARM_S)
        a = contender.read()
        (during or time.sleep)(seconds)
        b = contender.read()
    finally:
        contender.pause()
    contender.process.check()
    frames, clock = b.sent - a.sent, b.at_s - a.at_s
    waited = (b.waited_s - a.waited_s) / contender.workers
    if frames <= 0 or waited >= clock:
        raise Failure(f"{contender.name} sent {frames} frames in {clock:.3f} s, of which it waited {waited:.3f} s")
    return Turn(frames, clock - waited, clock, b.dropped - a.dropped, (a.received - a.sent, b.received - b.sent))


def lost(turns):
    """Frames that a contender dropped by its own counters, and those that went in and did not come out without being
    counted. Source and sink are not read in one instant, so single readings are apart by what came between; what is
    really lost sets all later readings apart from all earlier ones."""
    behind = [n for t in turns for n in t.behind]
    half = len(behind) // 2
    vanished = min(abs(b - a) for a in behind[:half] for b in behind[half:])
    return sum(t.dropped for t in turns) + (vanished if vanished > IN_FLIGHT else 0)


def in_turns(contenders, seconds, rounds):
    """{name: [Turn]} of so many rounds, every second of them backwards."""
    turns = {c.name: [] for c in contenders}
    for n in range(rounds):
        for c in contenders if n % 2 == 0 else reversed(contenders):
            turns[c.name].append(turn(c, seconds))
    return turns


def interval(values):
    """(low, high, confidence): the narrowest symmetric interval of order statistics that holds the median with at
    least CONFIDENCE, or the whole range with the confidence that it has."""
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
    """(ratio of medians, low, high) of two lists."""
    dice = random.Random(1)

    def again(values):
        return statistics.median(dice.choices(values, k=len(values)))

    many = sorted(again(above) / again(below) for _ in range(BOOTSTRAP))
    edge = int(BOOTSTRAP * (1 - CONFIDENCE) / 2)
    return statistics.median(above) / statistics.median(below), many[edge], many[-1 - edge]


def summary(turns):
    """What a table has of a contender's turns: rate, cycles and their intervals."""
    rates, cycles = [t.mpps for t in turns], [t.cycles for t in turns]
    return {
        "mpps": statistics.median(rates), "mpps_interval": interval(rates)[:2],
        "cycles": statistics.median(cycles), "cycles_interval": interval(cycles)[:2],
        "confidence": interval(rates)[2], "turns": len(turns), "frames": sum(t.frames for t in turns),
        "lost": lost(turns),
        "kept_from_running_percent": 100 * (1 - sum(t.busy_s for t in turns) / sum(t.clock_s for t in turns)),
    }
