"""The cost of the whole path while the tables change: cycles per frame while nodes move to other hosts, a thousand, a
hundred thousand and a million times per second, relative to none.

A board cannot commit a million durable changes per second, certainly not on a CPU that it shares. So the appliances are
the tool `table-churn`: the real appliance, whose control thread gets the moves as from a board, and applies and
publishes them as usual. After that the real board makes as many changes as it can: nodes are added and deleted.
"""

import contextlib
import pathlib
import socket
import statistics
import time

from ...lab import info
from ...product import stopover
from ...traffic.frames import mac_text
from .. import charts, frame_check, limits, result_files, sampling, workload
from ..cpu_load import CpuLoad
from ..dut import Gateway
from ..setup import NUMBERS, Bench
from ..workload import VNI

HOSTS = 100
SIZES = {"1e3": (1_000, 1 << 10), "1e6": (1_000_000, 1 << 16)}  # nodes, frames in the file
RATES = {"idle": None, "0": 0, "1e3": 1_000, "1e5": 100_000, "1e6": 1_000_000}  # None: the other CPU is idle, too
SECONDS = 0.4
REACHED = 0.95  # the least part of a rate that must be reached
MOST = {"update_1e5_cost": 1.05, "update_1e6_cost": 1.15}
ROWS = 100_000  # nodes that are added to the real board and deleted at a time


class Moved(Gateway):
    """An appliance that is measured while nodes move. The other CPU is busy, even if no nodes move."""

    load = None  # a CpuLoad for the other CPU; None leaves it idle

    def resume(self):
        if self.load:
            self.load.resume()
        super().resume()

    def pause(self):
        super().pause()
        if self.load:
            self.load.pause()


class TableChurn(Moved):
    """One whose nodes move `rate` times per second during its turns."""

    rate = current_rate = 0

    def launch(self):
        self.appliance.start(stopover.program("table-churn", "tools"), pipes=True)

    def resume(self):
        if self.current_rate != self.rate:
            self.process.popen.stdin.write(f"{self.rate}\n")
            self.process.popen.stdin.flush()
            self.current_rate = self.rate
        super().resume()

    def moved(self):
        """(time, number of moves in force on all lcores)."""
        began = time.monotonic()
        moves = self.request("/v1/board")["acknowledged"]
        return (began + time.monotonic()) / 2, moves

    def turn(self, rate, load):
        """(a turn at this rate, the rate that was reached)."""
        self.rate, self.load = rate or 0, load if rate is not None else None
        readings = []

        def during(seconds):
            readings.append(self.moved())
            time.sleep(seconds)
            readings.append(self.moved())

        turn = sampling.turn(self, SECONDS, during)
        (a, before), (b, after) = readings
        return turn, (after - before) / (b - a)


def make(bench, kind, direction, name, **more):
    return kind(bench.lab, bench.ns, name, direction, NUMBERS[direction], bench.world, bench.board,
                bench.flows[direction], bench.frames, **more)


def check(bench):
    """How many of the frames that come out while a million nodes move per second are wrong."""
    wrong, path = 0, pathlib.Path(f"/dev/shm/so{bench.lab.pid}-sink.pcap")
    encap = {f: n for n, f in workload.encap_frames(bench.world, NUMBERS["encap"], bench.frames)}
    decap = {i for _, _, i in workload.decap_frames(bench.world, NUMBERS["decap"], bench.frames)}
    try:
        for d, expected in (("encap", encap), ("decap", decap)):
            churn = make(bench, TableChurn, d, f"churn-{d}-check", sink=frame_check.sink(path))
            churn.rate = max(filter(None, RATES.values()))
            wrong += frame_check.check(churn, path, bench.world, expected, moving=True)
    finally:
        path.unlink(missing_ok=True)
    return wrong


def by_table_churn(benches, load, rounds):
    """({path: its turns}, {path: the reached rates}) of the paths DIRECTION-NODES-RATE."""
    turns, reached = {}, {}
    kept = [make(b, TableChurn, d, f"churn-{d}{b.tag}") for b in benches for d in NUMBERS]
    try:
        for s in kept:
            s.start()
        info(f"measuring {len(kept)} data paths at {len(RATES)} rates in {rounds} rounds, {SECONDS} s each")
        for n in range(rounds):
            for s in kept if n % 2 == 0 else reversed(kept):
                for name, rate in RATES.items() if n % 2 == 0 else reversed(RATES.items()):
                    turn, got = s.turn(rate, load)
                    path = f"{s.name.removeprefix('churn-')}-{name}"
                    turns.setdefault(path, []).append(turn)
                    reached.setdefault(path, []).append(got)
    finally:
        for s in kept:
            s.wake()
    for s in kept:
        s.quit()
    return turns, reached


def write_guests(bench):
    """Writes a file of ROWS more nodes, all on one host."""
    path = bench.lab.dir / "guests.csv"
    with open(path, "w") as f:
        f.write("vni,mac,host,ips\n")
        for n in range(ROWS):
            mac, ip = bytes([2, 3]) + n.to_bytes(4, "big"), (0x0D000001 + n).to_bytes(4, "big")
            f.write(f"{VNI},{mac_text(mac)},hotel,{socket.inet_ntoa(ip)}\n")
    return path


def by_board(bench, load, rounds):
    """With the real board, where ROWS more nodes of a host are added and deleted: ({path: its turns}, changes per
    second). No frame is for these nodes, but all tables have them."""
    board, guests = bench.board, write_guests(bench)
    turns, rates = {}, []

    def add_and_delete(_):
        began = time.monotonic()
        board.add_host("hotel", ["10.0.255.1"])
        board.cli("node", "load", guests)
        board.cli("host", "delete", "hotel", "--cascade")
        rates.append(2 * ROWS / (time.monotonic() - began))

    kept = [make(bench, Moved, d, f"board-{d}{bench.tag}") for d in NUMBERS]
    for g in kept:
        g.load = load
    with contextlib.ExitStack() as stack:
        for g in kept:
            g.start()
            stack.callback(g.wake)
        for n in range(rounds):
            for g in kept if n % 2 == 0 else reversed(kept):
                for name, during in [("0", None), ("board", add_and_delete)][::1 if n % 2 == 0 else -1]:
                    turns.setdefault(f"{g.direction}{bench.tag}-{name}", []).append(
                        sampling.turn(g, SECONDS, during))
    return turns, rates


def cost(turns, path, by):
    """(ratio of the cycles of two paths, low, high), rounded."""
    return [round(v, 3) for v in sampling.ratio(*([t.cycles for t in turns[p]] for p in (path, by)))]


def costs(turns):
    """The costs for each number of nodes and each rate: of each direction, and of the worse one."""
    figures = {}
    for size in SIZES:
        for name in (n for n in RATES if n != "0"):
            found = {d: cost(turns, f"{d}-{size}-{name}", f"{d}-{size}-0") for d in NUMBERS}
            for what, (value, low, high) in [*found.items(), ("update", max(found.values()))]:
                key = f"{what}_{name}_cost" + ("" if size == "1e3" else f"_of_{size}_nodes")
                figures[key], figures[f"{key}_interval"] = value, [low, high]
    return figures


def table(turns, reached):
    lines = ["| Nodes | Moves/s | reached | encap cycles | by 0 | decap cycles | by 0 |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for size in SIZES:
        for name in RATES:
            row, got = [], []
            for d in NUMBERS:
                path = f"{d}-{size}-{name}"
                s = sampling.summary(turns[path])
                low, high = s["cycles_interval"]
                times, few, many = cost(turns, path, f"{d}-{size}-0")
                got += reached[path]
                row += [f"{s['cycles']:.0f} ({low:.0f} to {high:.0f})", f"{times:.2f} ({few:.2f} to {many:.2f})"]
            least = f"{min(got):,.0f} to {max(got):,.0f}" if RATES[name] else ""
            lines.append(f"| {size} | {name} | {least} | {' | '.join(row)} |")
    return "\n".join(lines)


def draw(turns):
    series = {f"{d}, {size} nodes": [(name, s["cycles"], *s["cycles_interval"]) for name in RATES
                                     for s in [sampling.summary(turns[f"{d}-{size}-{name}"])]]
              for size in SIZES for d in NUMBERS}
    return charts.lines("Cycles per frame while nodes move", "frames of 64 bytes, one worker; idle: the other CPU is "
                        "idle as well; median of turns with its interval", "moves per second", "cycles per frame",
                        series)


def judge(figures, reached):
    """The missed limits, in words."""
    missed = limits.above(figures, MOST)
    for path, got in reached.items():
        wanted, made = RATES[path.split("-")[-1]] or 0, statistics.median(got)
        if made < REACHED * wanted:
            missed.append(f"{path}: the median turn had {made:.0f} of {wanted} moves per second")
    return missed


def body(lab, rounds):
    lab.hugepages(3072)
    load = CpuLoad(lab)
    try:
        return measure(lab, load, rounds)
    finally:
        load.resume()  # so that it can be ended


def measure(lab, load, rounds):
    info("loading nodes")
    benches = [Bench(lab, nodes, HOSTS, frames, tag=f"-{size}") for size, (nodes, frames) in SIZES.items()]
    wrong = check(benches[0])
    info(f"of {2 * frame_check.SAMPLE} frames decoded while nodes moved {wrong} are wrong")
    turns, reached = by_table_churn(benches, load, rounds)
    info("\n" + table(turns, reached))
    real, rates = by_board(benches[-1], load, max(rounds // 3, 2))
    lost = sum(sampling.lost(t) for t in [*turns.values(), *real.values()])
    figures = {"wrong_frames": wrong, "lost": lost, **costs(turns), "board_changes_per_s": [round(min(rates)),
                                                                                            round(max(rates))]}
    tag = benches[-1].tag
    for d in NUMBERS:
        value, *interval = cost(real, f"{d}{tag}-board", f"{d}{tag}-0")
        figures[f"{d}_board_cost"], figures[f"{d}_board_cost_interval"] = value, interval
    limits.record(figures, judge(figures, reached))
    info(f"with the real board, {figures['board_changes_per_s']} changes per second: "
         + ", ".join(f"{d} costs {figures[f'{d}_board_cost']}" for d in NUMBERS))
    paths = {path: sampling.summary(t) for path, t in turns.items()}
    paths |= {f"{path}-real": sampling.summary(t) for path, t in real.items()}
    result_files.save(table(turns, reached), {"paths": paths, "reached": reached, "figures": figures}, "updates",
                      draw(turns))
    return figures
