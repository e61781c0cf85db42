"""Encapsulation and decapsulation of 64-byte frames beside testpmd and OVS-DPDK: the figures by which the fast path is
judged."""

import pathlib

from . import bench_check, bench_flows, bench_report, bench_stats, ron, stopover
from .bench_contenders import TSC_HZ, Gateway, Ovs, Testpmd, pin_this_process
from .lab import say, sh
from .net import Namespace

NODES, HOSTS, FRAMES = 1000, 100, 1024
SECONDS = 0.3
FLOORS = {"encap_vs_ovs": 3, "decap_vs_ovs": 3.5, "encap_vs_testpmd": 0.35, "decap_vs_testpmd": 0.3}
NUMBERS = {"encap": 1, "decap": 2}


class Board(stopover.Board):
    """A board whose appliances may stand still for minutes, and whose tables may take long to load. `tag` tells
    several apart."""

    def __init__(self, lab, ns, tag=""):
        self.tag = tag
        super().__init__(lab, ns)

    def _configure(self, lab):
        name = f"bbs{self.tag}"
        self.socket, self.config = lab.dir / f"{name}.sock", lab.dir / f"{name}.ron"
        self.endpoint = f"unix:{self.socket}"
        self.config.write_text(ron.dumps({"listen": [self.endpoint], "store": f"{lab.dir}/{name}.redb",
                                          "host_timeout_ms": 600_000}) + "\n")

    def cli(self, *argv, timeout=60):
        return sh(stopover.program("stopover"), "--board", self.endpoint, *argv, timeout=timeout)


class Bench:
    """What all parts share: the namespace, the board, a world loaded into it, the files of flows. `tag` tells several
    worlds of one run apart."""

    def __init__(self, lab, nodes=NODES, hosts=HOSTS, frames=FRAMES, sizes=(64,), tag=""):
        pin_this_process()
        self.lab, self.frames, self.sizes, self.tag = lab, frames, sizes, tag
        self.ns = Namespace(lab, f"bench{tag}")
        self.board = Board(lab, self.ns, tag)
        self.world = bench_flows.World(nodes, hosts)
        self.world.load(lab.dir, self.board)
        self.write_flows()

    def write_flows(self):
        self.flows = {d: self.lab.dir / f"{d}{self.tag}.pcap" for d in NUMBERS}
        bench_flows.write_pcap(self.flows["encap"], (f for _, f in bench_flows.encap_frames(
            self.world, NUMBERS["encap"], self.frames, self.sizes)))
        bench_flows.write_pcap(self.flows["decap"], (f for _, f, _ in bench_flows.decap_frames(
            self.world, NUMBERS["decap"], self.frames, self.sizes)))

    def testpmd(self, direction, mode="io"):
        return Testpmd(self.lab, self.ns, f"{mode}-{direction}", direction, self.flows[direction], self.frames, mode)

    def ovs(self, direction, tag="", **more):
        return Ovs(self.lab, f"ovs-{direction}{tag}", direction, NUMBERS[direction], self.world,
                   self.flows[direction], self.frames, **more)

    def gateway(self, direction, tag="", **more):
        return Gateway(self.lab, self.ns, f"stopover-{direction}{self.tag}{tag}", direction, NUMBERS[direction], self.world,
                       self.board, self.flows[direction], self.frames, **more)

    def check(self):
        """How many wrong frames come out of ours and of Open vSwitch."""
        wrong, path = 0, pathlib.Path(f"/dev/shm/so{self.lab.pid}-sink.pcap")
        encap = {f: n for n, f in bench_flows.encap_frames(self.world, NUMBERS["encap"], self.frames, self.sizes)}
        decap = {i for _, _, i in bench_flows.decap_frames(self.world, NUMBERS["decap"], self.frames, self.sizes)}
        try:
            for direction, expected in (("encap", encap), ("decap", decap)):
                for make in (self.gateway, self.ovs):
                    contender = make(direction, "-check", sink=bench_check.sink(path))
                    wrong += bench_check.check(contender, path, self.world, expected)
        finally:
            path.unlink(missing_ok=True)
        return wrong


def chart(table):
    """Its marks are the floors."""
    mpps = {path: s["mpps"] for path, s in table.items()}
    floors = {(d, "stopover"): max(mpps[f"{peer}-{d}"] * FLOORS[f"{d}_vs_{name}"]
                                   for peer, name in (("ovs", "ovs"), ("io", "testpmd"))) for d in NUMBERS}
    return bench_report.by_direction(table, f"VXLAN on one worker: frames of 64 bytes, {NODES} nodes on {HOSTS} hosts",
                                     below="Mpps, median of turns with its interval; dashed: the floor; "
                                     "io and macswap: testpmd on the same ports", wanted=floors)


def body(lab, rounds):
    lab.hugepages(2048)
    say(f"loading {NODES} nodes on {HOSTS} hosts; TSC at {TSC_HZ / 1e6:.0f} MHz")
    bench = Bench(lab)
    wrong = bench.check()
    say(f"of {4 * bench_check.SAMPLE} frames decoded {wrong} are wrong")
    contenders = [make(d) for d in NUMBERS for make in (bench.testpmd, bench.ovs, bench.gateway)]
    contenders += [bench.testpmd(d, "macswap") for d in NUMBERS]
    try:
        for c in contenders:
            c.start()
        say(f"measuring {len(contenders)} data paths in {rounds} rounds, to and fro, {SECONDS} s each")
        turns = bench_stats.in_turns(contenders, SECONDS, rounds)
    finally:
        for c in contenders:
            c.wake()
    table = {name: bench_stats.summary(t) for name, t in turns.items()}
    figures = {"wrong_frames": wrong, "lost": sum(s["lost"] for s in table.values())}
    for d in NUMBERS:
        ours = [t.mpps for t in turns[f"stopover-{d}"]]
        for peer, name in (("ovs", f"ovs-{d}"), ("testpmd", f"io-{d}")):
            value, low, high = bench_stats.ratio(ours, [t.mpps for t in turns[name]])
            figures[f"{d}_vs_{peer}"] = round(value, 3)
            figures[f"{d}_vs_{peer}_interval"] = [round(low, 3), round(high, 3)]
    for d in NUMBERS:
        figures[f"{d}_cycles"] = round(table[f"stopover-{d}"]["cycles"], 1)
        figures[f"{d}_cycles_interval"] = [round(c, 1) for c in table[f"stopover-{d}"]["cycles_interval"]]
    figures["mpps"] = {name: round(s["mpps"], 2) for name, s in table.items()}
    missed = [f"{k} is {figures[k]}, the floor is {v}" for k, v in FLOORS.items() if figures[k] < v]
    for why in missed:
        say(why)
    figures["floors_missed"] = len(missed)
    say(bench_report.write(table, figures, chart=chart(table)))
    return figures
