"""The paths of the quick bench with two builds of the appliance: instructions and cycles per frame, now and before.

Each build is started five times, in the order A B B A and so on. A start gives a figure of each kind and direction.
Cycles are the median of some turns, in which the appliances of both builds alternate. Instructions are counted by
valgrind: it runs the same appliance with the same ports and frames and counts what its worker executes, with the
driver. Valgrind has no AVX-512, so the C library and DPDK choose their AVX2 variants there, in both builds.
"""

import pathlib
import statistics
import time

from ...lab import Failure, info, sh
from ...lab.process import Process
from ...product import stopover
from .. import callgrind, limits, result_files, sampling
from ..dut import TSC_HZ, Gateway
from ..setup import NUMBERS, Bench, Board
from .quick import SECONDS

STARTS, TURNS = 5, 6  # of each build; of each start
COUNTED_S = 1.0
LIMITS = {"instructions": 1.02, "cycles": 1.05}
NAMES = {"A": "now", "B": "before"}
NAME = "stopover-appliance"


def other_build(folder):
    """The appliance of another build: in the folder, or in `target/release` of a checkout. Its `stopover` is beside it.
    """
    places = [pathlib.Path(folder).resolve() / place / NAME for place in (".", "target/release")]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        raise Failure(f"--against: there is no {' and no '.join(map(str, places))}; build it there with `make build`")
    return found


class Counted(Gateway):
    """An appliance under valgrind. It has no hugepages: valgrind has no address space for them."""

    def launch(self):
        a = self.appliance
        eal = a.config["eal"]
        at = eal.index("--in-memory")
        eal[at:at + 1] = ["--no-huge", "--no-shconf"]
        self.profile = a.lab.dir / f"{self.name}.profile"
        argv = ["valgrind", "--tool=callgrind", "--separate-threads=yes", "--fair-sched=yes", "--instr-atstart=no",
                f"--callgrind-out-file={self.profile}", self.binary or stopover.program(NAME), a.write()]
        a.process = Process(a.lab, a.name, argv, ns=a.ns)
        a.process.wait_socket(a.socket, timeout=60)

    def control(self, *words):
        sh("callgrind_control", *words, self.process.pid)

    def instructions(self):
        """Instructions per frame of its worker."""
        self.resume()
        self.control("-i", "on")
        time.sleep(COUNTED_S)
        self.control("-i", "off")
        self.control("-d")
        dump = sorted(self.profile.parent.glob(f"{self.profile.name}.1-*"))
        value = callgrind.per_frame(p.read_text().splitlines() for p in dump)
        if value is None:
            raise Failure(f"{self.name}: {len(dump)} profiles have no frame for the null driver")
        return value

    def quit(self):
        super().quit()
        for path in self.profile.parent.glob(f"{self.profile.name}*"):
            path.unlink()


class Build:
    """One of the two builds: its program, and a board of its own, since both serve the same station."""

    def __init__(self, bench, letter, binary):
        self.bench, self.letter, self.binary = bench, letter, binary
        self.board = bench.board
        if letter != "A":
            self.board = Board(bench.lab, bench.ns, f"-{letter}")
            bench.world.load(bench.lab.dir, self.board)

    def gateway(self, kind, direction):
        b = self.bench
        return kind(b.lab, b.ns, f"{NAMES[self.letter]}-{direction}", direction, NUMBERS[direction], b.world, self.board,
                    b.flows[direction], b.frames, binary=self.binary)


def count(builds, letters, got):
    """One start of each build and direction under valgrind."""
    for letter in letters:
        for direction in NUMBERS:
            gateway = builds[letter].gateway(Counted, direction)
            try:
                gateway.start()
                got[f"{direction}_instructions", letter].append(gateway.instructions())
            finally:
                gateway.wake()
            gateway.quit()


def measure(builds, letters, got):
    """One start of each build and direction, all at once, and their turns. Returns how many frames were lost."""
    gateways = [(d, letter, builds[letter].gateway(Gateway, d)) for d in NUMBERS for letter in letters]
    try:
        for _, _, gateway in gateways:
            gateway.start()
        turns = sampling.in_turns([g for _, _, g in gateways], SECONDS, TURNS)
    finally:
        for _, _, gateway in gateways:
            gateway.wake()
    for direction, letter, gateway in gateways:
        got[f"{direction}_cycles", letter].append(statistics.median(t.cycles for t in turns[gateway.name]))
        gateway.quit()
    return sum(sampling.lost(t) for t in turns.values())


def body(lab, folder):
    lab.hugepages(2048)
    other = other_build(folder)
    info(f"now {stopover.program(NAME)}, before {other}; TSC at {TSC_HZ / 1e6:.0f} MHz")
    bench = Bench(lab)
    builds = {"A": Build(bench, "A", None), "B": Build(bench, "B", other)}
    got = {(f"{d}_{what}", letter): [] for d in NUMBERS for what in LIMITS for letter in builds}
    lost = 0
    for number, letters in enumerate(callgrind.order(STARTS), 1):
        lost += measure(builds, letters, got)
        count(builds, letters, got)
        info(f"start {number} of {STARTS}: " + ", ".join(f"{k} {NAMES[x]} {v[-1]:.1f}" for (k, x), v in got.items()))
    figures = {"lost": lost}
    lines = ["| | now | interval | before | interval | now by before | interval |", "|---|---:|---|---:|---|---:|---|"]
    for d in NUMBERS:
        for what in LIMITS:
            key = f"{d}_{what}"
            now, before = got[key, "A"], got[key, "B"]
            row = [f"{d}, {what} per frame"]
            for name, values in ((key, now), (f"{key}_before", before)):
                low, high, _ = sampling.interval(values)
                figures[name] = round(statistics.median(values), 1)
                figures[f"{name}_interval"] = [round(low, 1), round(high, 1)]
                row += [f"{figures[name]:.1f}", f"{low:.1f} to {high:.1f}"]
            sampling.put_ratio(figures, f"{key}_ratio", now, before, digits=4)
            low, high = figures[f"{key}_ratio_interval"]
            lines.append(f"| {' | '.join(row)} | {figures[f'{key}_ratio']:.3f} | {low:.3f} to {high:.3f} |")
    limits.record(figures, limits.above(figures, {f"{d}_{what}_ratio": most for what, most in LIMITS.items()
                                                  for d in NUMBERS}))
    info(result_files.save("\n".join(lines), {"figures": figures}, "against"))
    return figures
