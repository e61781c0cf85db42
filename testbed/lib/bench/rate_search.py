"""The search for the highest rate at which a DUT keeps a goal: a generator that yields rates to try and receives the
tester's reports, so that the searches of several DUTs can go in step.

As in the MLRsearch draft of the IETF (draft-ietf-bmwg-mlrsearch), a goal is a loss ratio and the part of the trials at
a load that may exceed it: here half, so that one pause of the machine does not decide. A DUT keeps a load if it keeps
it in the first trial or in the second. With a loss ratio of 0 this is the throughput of RFC 2544 section 26.1, except
for the length of the trials.
"""

import dataclasses

KEEPS, LOSES, UNABLE = "keeps", "loses", "unable"  # unable: the tester could not offer the rate
TRIALS, VOID_AGAIN = 2, 2


@dataclasses.dataclass(frozen=True)
class Found:
    """The highest rate that kept the goal, the lowest that did not, and whether the tester was the limit."""

    pps: float
    above: float
    tester_limited: bool


def verdict(report, goal=0.0):
    """The result of a trial, or None if it is void: frames were lost while the tester had no CPU to take them."""
    if report["lost"] > goal * report["offered"]:
        return None if report["away"] else LOSES
    return UNABLE if report["limited"] else KEEPS


def judge(pps, goal=0.0):
    """Whether a load keeps the goal. Void trials are repeated a few times, then they count as losing.

    >>> def trials(*reports):  # (lost, whether the tester was away) of 1000 frames
    ...     return [{"offered": 1000, "lost": lost, "away": away, "limited": False} for lost, away in reports]
    >>> play(judge(1), trials((0, False)))
    'keeps'
    >>> play(judge(1), trials((5, False), (0, False)))
    'keeps'
    >>> play(judge(1), trials((5, True), (5, False), (5, False)))
    'loses'
    >>> play(judge(1), trials((5, True), (5, True), (5, True), (5, True)))
    'loses'
    >>> play(judge(1, goal=0.005), trials((5, False)))
    'keeps'
    """
    void, what = 0, LOSES
    for _ in range(TRIALS):
        while (what := verdict((yield pps), goal)) is None and void < VOID_AGAIN:
            void += 1
        if what == KEEPS:
            break
    return what or LOSES


def search(low, high, width=0.03, goal=0.0):
    """The highest rate that keeps the goal, to a relative width of `width`. It is expected between `low` and `high`;
    the search goes beyond them if needed. A DUT that keeps no rate has 0.

    >>> def device(capacity, tester=99e6):
    ...     def trial(pps):
    ...         offered = min(pps, tester)
    ...         lost = max(0, offered - capacity)
    ...         return {"offered": offered, "lost": lost, "away": False, "limited": offered < pps}
    ...     return trial
    >>> found = run(search(1e6, 16e6), device(4.2e6))
    >>> 4.07e6 < found.pps <= 4.2e6 < found.above < 4.33e6, found.tester_limited
    (True, False)
    >>> [round(run(search(1e6, 2e6), device(c)).pps / c, 1) for c in (0.2e6, 7e6)]
    [1.0, 1.0]
    >>> run(search(1e6, 16e6), device(9e6, tester=5e6)).tester_limited
    True
    >>> run(search(1e6, 16e6), device(0)).pps
    0.0"""
    least, below, above, why = low / 1024, 0.0, None, LOSES
    pps = low
    while above is None or (below < above / (1 + width) and above > least):
        what = yield from judge(pps, goal)
        if what == KEEPS:
            below = pps
        else:
            above, why = pps, what
        if above is None:
            pps = high if pps < high else 1.5 * pps
        elif below == 0:
            pps = above / 1.5
        else:
            pps = (below * above) ** 0.5
    return Found(below, above, why == UNABLE)


def in_step(searches):
    """Runs the searches of {name: (search, trial)}, a trial of each in turn, so that drift affects all alike. `trial`
    is a function of a rate. Returns {name: result}.

    >>> def echo(n):
    ...     return [(yield n), (yield n + 1)]
    >>> in_step({"a": (echo(1), lambda pps: pps), "b": (echo(5), lambda pps: -pps)})
    {'a': [1, 2], 'b': [-5, -6]}"""
    found, wanted = {}, {name: next(search) for name, (search, _) in searches.items()}
    while wanted:
        for name in list(wanted):
            search, trial = searches[name]
            try:
                wanted[name] = search.send(trial(wanted[name]))
            except StopIteration as end:
                found[name] = end.value
                del wanted[name]
    return found


def run(search, trial):
    """The result of one search."""
    return in_step({None: (search, trial)})[None]


def play(search, reports):
    """The same, with given reports."""
    reports = iter(reports)
    return run(search, lambda _: next(reports))
