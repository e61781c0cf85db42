"""The latency of frames through one appliance and through two, at parts of the loss-free rate, beside testpmd and Open
vSwitch at the same rates; and the cost and gain of sleep on an idle lcore.

One appliance has CPU 1 and the tester CPU 0, as in `throughput`. In the chain of tester, appliance A and appliance B
all three poll, and two share a CPU: the tester yields to A when it is not late, and goes on when A sleeps. The
latencies of the chain include these turns, which hosts with CPUs of their own do not have.
"""

import socket
import statistics

from ...lab import info
from ...product import ron
from ...traffic.frames import udp_frame, write_pcap
from .. import charts, result_files
from ..dut import WORKER_CPU, Dut
from ..rate_search import run, search
from ..rings import DIRECTIONS, NUMBER, RingBench, RingGateway
from ..tester import CPU
from ..workload import own
from .throughput import HIGH_PPS, LOW_PPS, trials

PARTS = (0.1, 0.5, 0.9)
SECONDS, TRIALS = 0.3, 5
SEARCHES = 5
SLOW = {10: (0.85, 7), 1000: (0.4, 3)}  # frames per second: (seconds of a trial, number of trials)
QUANTILES = ("p50", "p99", "p99_9", "max")
CHAIN_LOW_PPS, CHAIN_HIGH_PPS = 0.2e6, 2e6
FAR = 2  # the number of the second appliance of a chain
POLL = ron.word("poll")
FIGURES = {"latency": ("stopover", "50%"), "chain_latency": ("chain", "50%"), "idle_latency": ("stopover", "1000/s")}


class Chain(Dut):
    """Two appliances, between a station at one and a station at the other."""

    options = {"give_way": True}

    def __init__(self, lab, bench):
        super().__init__(lab, bench.ns, "chain", "both")
        known = lab, bench.ns, bench.world, bench.board
        self.near = RingGateway(*known, "chain-a", cpu=CPU)
        self.far = RingGateway(*known, "chain-b", number=FAR, cpu=WORKER_CPU, underlay=self.near.underlay)
        self.both = (self.near, self.far)
        self.vm, self.underlay = self.near.vm, self.far.vm

    def flows(self):
        """Frames of each station for the other, of as many UDP flows as elsewhere."""
        paths = {}
        for direction, (src, dst) in zip(DIRECTIONS, ((NUMBER, FAR), (FAR, NUMBER))):
            (mac, ip, _), (to_mac, to_ip, _) = own(src), own(dst)
            ips = socket.inet_aton(to_ip), socket.inet_aton(ip)
            paths[f"{direction}-64"] = self.lab.dir / f"chain-{direction}.pcap"
            write_pcap(paths[f"{direction}-64"], (udp_frame(to_mac, mac, *ips, 1024 + i, 64) for i in range(1024)))
        return paths

    def start(self):
        for gateway in self.both:
            gateway.start()
            gateway.resume()
        self.process, self.tasks = self.far.process, self.near.tasks + self.far.tasks
        return self

    def resume(self):
        for gateway in self.both:
            gateway.resume()

    def pause(self):
        for gateway in self.both:
            gateway.pause()

    def quit(self):
        for gateway in reversed(self.both):
            gateway.quit()


def measure(rig, pps, seconds=SECONDS, count=TRIALS):
    """The median of each quantile over some trials, in microseconds; losses; how much of its CPU the DUT had."""
    done = [rig.trial("encap", "encap-64", pps, seconds, latency=True) for _ in range(count)]
    return {q: statistics.median(r["latency_us"][q] for r in done) for q in QUANTILES} | {
        "pps": pps, "frames": sum(r["latency_us"]["frames"] for r in done), "offered": sum(r["offered"] for r in done),
        "lost": sum(r["lost"] for r in done), "cpu_percent": statistics.mean(r["cpu_percent"] for r in done)}


def best(rig, low, high):
    """The loss-free rate: the median of some searches."""
    return statistics.median(run(search(low, high), trials(rig, "encap", "encap-64")).pps for _ in range(SEARCHES))


def levels(rigs, pps, name):
    """{(name, level): measurement} at parts of a rate and at the slow rates."""
    found = {}
    for part in PARTS:
        for rig in rigs:
            found[rig.name, f"{part:.0%}"] = measure(rig, pps * part)
    for slow, (seconds, count) in SLOW.items():
        for rig in rigs:
            found[rig.name, f"{slow}/s"] = measure(rig, slow, seconds, count)
    for (who, level), m in found.items():
        info(f"{name}: {who} at {level}, {m['pps'] / 1e6:.3g} Mpps: " + ", ".join(f"{q} {m[q]:.1f}" for q in QUANTILES)
             + f" us, lost {m['lost']} of {m['offered']}, {m['cpu_percent']:.0f} % of its CPU")
    return found


def body(lab):
    lab.hugepages(2048)
    bench = RingBench(lab)
    rigs = bench.rigs()
    ours = rigs[-1]
    highest = best(ours, LOW_PPS, HIGH_PPS)
    info(f"the loss-free rate of one appliance is {highest / 1e6:.2f} Mpps")
    polling = RingGateway(lab, bench.ns, bench.world, bench.board, "polling-rings", POLL, number=FAR + 1)
    rigs.append(bench.connect(polling, bench.flows_of(FAR + 1)))
    found = levels(rigs, highest, "one")
    for rig in rigs:
        rig.quit()
    chain = Chain(lab, bench)
    rig = bench.connect(chain, chain.flows())
    through = best(rig, CHAIN_LOW_PPS, CHAIN_HIGH_PPS)
    info(f"the loss-free rate of a chain of two is {through / 1e6:.2f} Mpps")
    found |= levels([rig], through, "chain")
    rig.quit()
    return report(found, highest, through)


def report(found, highest, through):
    """Writes the result files; returns the figures."""
    lines = ["| Path | Rate | Mpps | p50 us | p99 us | p99.9 us | max us | lost | of its CPU |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    figures = {"latency_mpps": round(highest / 1e6, 2), "chain_mpps": round(through / 1e6, 2), "floors_missed": 0}
    for (who, level), m in found.items():
        lines.append(f"| {who} | {level} | {m['pps'] / 1e6:.3g} | " + " | ".join(f"{m[q]:.1f}" for q in QUANTILES)
                     + f" | {m['lost']} of {m['offered']} | {m['cpu_percent']:.0f} % |")
    for name, (who, level) in FIGURES.items():
        for q in ("p50", "p99"):
            figures[f"{name}_us_{q}"] = round(found[who, level][q], 1)
    for who in ("stopover", "polling"):
        figures[f"idle_cpu_percent_{who}"] = round(found[who, "10/s"]["cpu_percent"])
    series = {}
    for (who, level), m in found.items():
        series.setdefault(who, []).append((level, m["p99"], m["p50"], m["p99_9"]))
    chart = charts.lines("Latency by rate", "us: p99, from p50 to p99.9; rates are parts of the loss-free rate",
                         "rate", "us", series, log_y=True)
    data = {"measured": {f"{who} {level}": m for (who, level), m in found.items()}, "figures": figures}
    info(result_files.save("\n".join(lines), data, "latency", chart))
    return figures
