"""Busy cycles per frame between vhost-user rings, beside Open vSwitch at the same rates: those of a VM's port and of an
underlay port that is one, too. testpmd io between the same rings shows what librte_vhost alone costs.

The rates are parts of the highest one that Open vSwitch and the appliance both pass without loss. Both poll, and count a
round of polling as busy, from its beginning to its end, if it received a frame. testpmd counts from a poll that received
one to the end of the sending.
"""

import re
import statistics

from ...lab import Failure, info
from ...traffic.frames import write_pcap
from .. import charts, limits, result_files, sampling, workload
from ..rate_search import in_step, search
from ..rings import DIRECTIONS, NUMBER, RingBench, RingGateway, RingOvs, RingTestpmd
from ..workload import VHOST_MAC
from .throughput import trials

SIZES = (64, 1500)
LOW_PPS, HIGH_PPS, SEARCHES = 1e6, 6e6, 3
SHARES, JUDGED = (0.1, 0.25, 0.5, 0.75), 0.5  # of the loss-free rate
ROUNDS = 4  # of rates that are not judged
SECONDS = 0.25
PACES = {"each when due": {}, "32 at a time": {"grouped": True}}
AGAIN = 3  # a turn in which the machine paused
MOST_BY_OVS = 0.5


class SizedBench(RingBench):
    """With files of frames of these sizes."""

    def write_flows(self):
        self.flows = {f"{d}-{size}": self.lab.dir / f"{d}-{size}.pcap" for d in DIRECTIONS for size in SIZES}
        for size in SIZES:
            known = self.world, NUMBER, self.frames, (size,)
            write_pcap(self.flows[f"encap-{size}"], (f for _, f in workload.encap_frames(*known)))
            write_pcap(self.flows[f"decap-{size}"], (f for _, f, _ in workload.decap_frames(*known, VHOST_MAC)))


class CountingTestpmd(RingTestpmd):
    """testpmd that counts its busy cycles. It begins at 0 in each turn."""

    counted = (0, 0)

    def argv(self):
        return [*super().argv(), "--record-core-cycles"]

    def pause(self):
        if self.working:
            found = re.search(r"total cycles=(\d+) / total \w+ packets=(\d+)", self.console.command("stop", "Done"))
            self.counted = tuple(a + int(b) for a, b in zip(self.counted, found.groups())) if found else self.counted
        self.working = False

    def busy(self):
        """(busy cycles, frames) of all turns."""
        return self.counted


def turn(rigs, flows, pps, **pace):
    """[report] of a trial of each rig. They are repeated a few times if one lost frames: the machine paused."""
    for _ in range(AGAIN):
        reports = [r.counted_trial(flows.split("-")[0], flows, pps, SECONDS, **pace) for r in rigs]
        if not any(one["lost"] for one in reports):
            break
    return reports


def in_turns(rigs, flows, pps, rounds, **pace):
    """{name: [report]}, every second turn in reverse order."""
    reports = {r.name: [] for r in rigs}
    for n in range(rounds):
        order = rigs if n % 2 == 0 else rigs[::-1]
        for rig, report in zip(order, turn(order, flows, pps, **pace)):
            reports[rig.name].append(report)
    return reports


def loss_free(rigs, flows):
    """The highest rate that all pass without loss: the lowest of the medians of their searches."""
    found = {r.name: [] for r in rigs}
    for n in range(SEARCHES):
        order = rigs if n % 2 == 0 else rigs[::-1]
        for name, one in in_step({r.name: (search(LOW_PPS, HIGH_PPS), trials(r, flows.split("-")[0], flows))
                                  for r in order}).items():
            found[name].append(one.pps)
    pps = min(statistics.median(rates) for rates in found.values())
    if not pps:
        raise Failure(f"no rate of {flows} passes without loss: {found}")
    info(f"{flows}: {pps / 1e6:.2f} Mpps pass without loss")
    return pps


def row(flows, share, pace, pps, reports):
    """A result: cycles with their intervals, and the ratio to those of Open vSwitch."""
    cycles = {name: [one["cycles"] for one in of] for name, of in reports.items()}
    return {"flows": flows, "share": share, "pace": pace, "mpps": pps / 1e6,
            "cycles": {name: (statistics.median(c), *sampling.interval(c)[:2]) for name, c in cycles.items()},
            "by_ovs": sampling.ratio(cycles["stopover"], cycles["ovs"]),
            "lost": {name: sum(one["lost"] for one in of) for name, of in reports.items()}}


def measure(rigs, flows, rounds):
    """[row] of a direction and size."""
    highest, rows = loss_free([r for r in rigs if r.name != "testpmd"], flows), []
    for pace, more in PACES.items():
        for share in SHARES if not more else (JUDGED,):
            pps, often = share * highest, rounds if share == JUDGED else ROUNDS
            rows.append(row(flows, share, pace, pps, in_turns(rigs, flows, pps, often, **more)))
            info(as_line(rows[-1]))
    return rows


def as_line(one):
    """A line of the table."""
    cells = ["{:.0f} ({:.0f} to {:.0f})".format(*one["cycles"][name]) for name in ("testpmd", "ovs", "stopover")]
    lost = ", ".join(str(one["lost"][name]) for name in ("ovs", "stopover"))
    return (f"| {one['flows'].replace('-', ', ')} | {one['pace']} | {one['mpps']:.2f} ({one['share']:.0%}) | "
            + " | ".join(cells) + " | {:.2f} ({:.2f} to {:.2f})".format(*one["by_ovs"]) + f" | {lost} |")


def body(lab, rounds):
    lab.hugepages(2048)
    bench = SizedBench(lab)
    rigs = [bench.connect(d) for d in (CountingTestpmd(lab, bench.ns), RingOvs(lab, bench.world),
                                       RingGateway(lab, bench.ns, bench.world, bench.board))]
    rows = [one for size in SIZES for d in DIRECTIONS for one in measure(rigs, f"{d}-{size}", rounds)]
    for rig in rigs:
        rig.quit()
    return report(rows)


def report(rows):
    """Writes the result files; returns the figures."""
    figures, groups = {"rings_lost": 0}, {}
    judged, grouped = PACES
    for one in (r for r in rows if r["share"] == JUDGED):
        direction, size = one["flows"].split("-")
        name = f"rings_{direction}" + f"_{size}" * (size != "64") + "_grouped" * (one["pace"] == grouped)
        value, low, high = one["by_ovs"]
        figures[f"{name}_vs_ovs"] = round(value, 3)
        figures[f"{name}_vs_ovs_interval"] = [round(low, 3), round(high, 3)]
        figures[f"{name}_mpps"] = round(one["mpps"], 2)
        if one["pace"] == judged and size == "64":
            figures["rings_lost"] += one["lost"]["ovs"] + one["lost"]["stopover"]
        groups[f"{direction}, {size} bytes, {one['pace']}"] = [(who, *c) for who, c in one["cycles"].items()]
    limits.record(figures, limits.above(figures, {"rings_lost": 0, **{f"rings_{d}_vs_ovs": MOST_BY_OVS
                                                                      for d in DIRECTIONS}}))
    lines = ["| Frames | sent | Mpps | testpmd io | Open vSwitch | Stopover | by Open vSwitch | lost |",
             "|---|---|---:|---:|---:|---:|---:|---:|", *map(as_line, rows)]
    chart = charts.bars("Between vhost-user rings, at a half of the rate that both pass",
                        "busy cycles per frame; median of turns, with its interval", groups)
    info(result_files.save("\n".join(lines), {"rows": rows, "figures": figures}, "rings", chart))
    return figures
