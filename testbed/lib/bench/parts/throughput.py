"""Loss-free throughput on vhost-user ports (RFC 2544 section 26.1 and the MLRsearch draft): the highest rate without a
lost frame. testpmd io between the same ports is the upper bound.

The searches of the DUTs go in step, a trial of each in turn, so that drift affects all alike; each DUT has several. The
median of a DUT's searches is then confirmed by longer trials, and lowered until more than half of them lose nothing.
"""

import statistics

from ...lab import info
from .. import charts, result_files, sampling
from ..rate_search import KEEPS, in_step, search, verdict
from ..rings import DIRECTIONS, SIZES, RingBench
from ..tester import DESCRIPTORS

SECONDS = 0.1  # of a trial in a search
ROUNDS = {"64": 7, "imix": 3}
LOW_PPS, HIGH_PPS = 3e6, 9e6  # of the first search
NEAR = 1.1  # later searches begin within this factor of the median of those before
CONFIRM_SECONDS, CONFIRM_TRIALS = 0.4, 5
STEP = 0.95
FEW = 1e-5  # a loss ratio of 0.001 %


def trials(rig, direction, flows, seconds=SECONDS):
    """A function of a rate that runs a trial, for a search."""
    return lambda pps: rig.trial(direction, flows, pps, seconds)


def middle(found):
    """The median result of searches."""
    return statistics.median(f.pps for f in found)


def confirm(rigs, direction, flows, rates):
    """{name: (rate, its trials)}: lowers `rates` in steps until most of CONFIRM_TRIALS lose nothing."""
    done, rates = {}, dict(rates)
    while len(done) < len(rigs):
        open_ = [r for r in rigs if r.name not in done]
        reports_of = {r.name: [] for r in open_}
        for _ in range(CONFIRM_TRIALS):
            for r in open_:
                reports_of[r.name].append(r.trial(direction, flows, rates[r.name], CONFIRM_SECONDS))
        for name, reports in reports_of.items():
            if 2 * sum(verdict(r) == KEEPS for r in reports) > CONFIRM_TRIALS or rates[name] < LOW_PPS / 100:
                done[name] = rates[name], reports
            else:
                rates[name] *= STEP
    return done


def measure(rigs, direction, size):
    """{name: result} of all DUTs for a direction and frame size."""
    flows, found = f"{direction}-{size}", {r.name: [] for r in rigs}
    for n in range(ROUNDS[size]):
        edges = {name: (middle(f) / NEAR, middle(f) * NEAR) if f else (LOW_PPS, HIGH_PPS) for name, f in found.items()}
        turn = in_step({r.name: (search(*edges[r.name]), trials(r, direction, flows))
                        for r in (rigs if n % 2 == 0 else reversed(rigs))})
        for name, one in turn.items():
            found[name].append(one)
    few = in_step({r.name: (search(middle(found[r.name]), middle(found[r.name]) * NEAR, goal=FEW),
                            trials(r, direction, flows)) for r in rigs}) if size == "64" else {}
    results = {}
    for name, (pps, done) in confirm(rigs, direction, flows, {n: middle(f) for n, f in found.items()}).items():
        results[name] = r = {
            "mpps": pps / 1e6, "searched": sorted(round(f.pps / 1e6, 3) for f in found[name]),
            "tester_limited": 2 * sum(f.tester_limited for f in found[name]) > len(found[name]),
            "at_0.001_percent_mpps": few[name].pps / 1e6 if name in few else None,
            "lost_confirming": [r["lost"] for r in done], "offered_confirming": [r["offered"] for r in done],
            "spare_percent": statistics.median(r["spare_percent"] for r in done),
            "duplicated": sum(r["duplicated"] for r in done), "reordered": sum(r["reordered"] for r in done),
        }
        info(f"{name} {flows}: {r['mpps']:.2f} Mpps, of searches {r['searched']}, lost {r['lost_confirming']}"
             + (", limited by the tester" if r["tester_limited"] else ""))
    return results


def body(lab):
    lab.hugepages(2048)
    bench = RingBench(lab)
    rigs = bench.rigs()
    info(f"searching for the loss-free rates of {', '.join(r.name for r in rigs)}; rings of {DESCRIPTORS}")
    results = {f"{d}-{size}": measure(rigs, d, size) for size in SIZES for d in DIRECTIONS}
    for rig in rigs:
        rig.quit()
    figures = {"floors_missed": 0}
    lines = ["| Frames | Device | Loss-free Mpps | searches | at 0.001 % loss | ours by it | lost, confirming |",
             "|---|---|---:|---:|---:|---:|---|"]
    for what, of in results.items():
        direction, size = what.split("-")
        for name, r in of.items():
            bound = "at least " if r["tester_limited"] else ""
            few = f"{r['at_0.001_percent_mpps']:.2f}" if r["at_0.001_percent_mpps"] else ""
            ratio, low, high = sampling.ratio(of["stopover"]["searched"], r["searched"])
            lines.append(f"| {what} | {name} | {bound}{r['mpps']:.2f} | {min(r['searched']):.2f} to "
                         f"{max(r['searched']):.2f} | {few} | {ratio:.2f} ({low:.2f} to {high:.2f}) "
                         f"| {', '.join(map(str, r['lost_confirming']))} of {max(r['offered_confirming'])} |")
            if size == "64" and name != "stopover":
                figures[f"loss_free_{direction}_vs_{name}"] = round(ratio, 2)
                figures[f"loss_free_{direction}_vs_{name}_interval"] = [round(low, 2), round(high, 2)]
        if size == "64":
            figures[f"loss_free_{direction}_mpps"] = round(of["stopover"]["mpps"], 2)
    groups = {what: [(name, r["mpps"], min(r["searched"]), max(r["searched"])) for name, r in of.items()]
              for what, of in results.items()}
    chart = charts.bars("Loss-free throughput between vhost-user rings, one worker",
                        f"Mpps, confirmed; range of the searches; rings of {DESCRIPTORS} descriptors", groups)
    data = {"descriptors": DESCRIPTORS, "results": results, "figures": figures}
    info(result_files.save("\n".join(lines), data, "throughput", chart))
    return figures
