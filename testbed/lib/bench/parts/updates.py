"""What the whole path costs while the tables change: cycles per frame with nodes that move to other hosts, a thousand,
a hundred thousand and a million times a second, by those with none.

A board does not commit a million durable changes a second, least of all on the CPU that it shares with the rest. So the
appliances are the tool `table-churn`: the real one, whose control thread is told of moves as if by the board, and applies
and publishes them as always. The real board, as fast as it goes, comes after it: at that, nodes come and go.
"""

import contextlib
import pathlib
import socket
import statistics
import time

from ...lab import say
from ...product import stopover
from .. import charts, frame_check, result_files, sampling, workload
from ..cpu_load import Companion
from ..dut import Gateway
from ..setup import NUMBERS, Bench
from ..workload import VNI, text

HOSTS = 100
SIZES = {"1e3": (1_000, 1 << 10), "1e6": (1_000_000, 1 << 16)}  # nodes, frames in the file
RATES = {"idle": None, "0": 0, "1e3": 1_000, "1e5": 100_000, "1e6": 1_000_000}  # None: the other CPU idles as well
SECONDS = 0.4
REACHED = 0.95  # of a rate, at least
MOST = {"update_1e5_cost": 1.05, "update_1e6_cost": 1.15}
ROWS = 100_000  # nodes that come to the real board and go, at a time


class Moved(Gateway):
    """An appliance that is measured while nodes move; the other CPU is busy meanwhile, with that or without."""

    companion = None  # whoever keeps it busy; None leaves it idle

    def resume(self):
        if self.companion:
            self.companion.resume()
        super().resume()

    def pause(self):
        super().pause()
        if self.companion:
            self.companion.pause()


class TableChurn(Moved):
    """One whose nodes move `rate` times a second while it works."""

    rate = told = 0

    def launch(self):
        self.appliance.start(stopover.program("table-churn", "tools"), pipes=True)

    def resume(self):
        if self.told != self.rate:
            self.process.popen.stdin.write(f"{self.rate}\n")
            self.process.popen.stdin.flush()
            self.told = self.rate
        super().resume()

    def moved(self):
        """(when, how many moves have come into force on all lcores)."""
        began = time.monotonic()
        moves = self.ask("/v1/board")["acknowledged"]
        return (began + time.monotonic()) / 2, moves

    def turn(self, rate, companion):
        """(a turn of `sampling` at this rate, the rate that was reached)."""
        self.rate, self.companion = rate or 0, companion if rate is not None else None
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
    """How many of the frames are wrong that come out while a million nodes move each second."""
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


def by_table_churn(benches, companion, rounds):
    """({path: its turns}, {path: the rates that were reached}) for paths called DIRECTION-NODES-RATE."""
    turns, reached = {}, {}
    kept = [make(b, TableChurn, d, f"churn-{d}{b.tag}") for b in benches for d in NUMBERS]
    try:
        for s in kept:
            s.start()
        say(f"measuring {len(kept)} data paths at {len(RATES)} rates in {rounds} rounds, to and fro, {SECONDS} s each")
        for n in range(rounds):
            for s in kept if n % 2 == 0 else reversed(kept):
                for name, rate in RATES.items() if n % 2 == 0 else reversed(RATES.items()):
                    turn, got = s.turn(rate, companion)
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
    """A file of ROWS nodes more, all on one host, for the board."""
    path = bench.lab.dir / "guests.csv"
    with open(path, "w") as f:
        f.write("vni,mac,host,ips\n")
        for n in range(ROWS):
            mac, ip = bytes([2, 3]) + n.to_bytes(4, "big"), (0x0D000001 + n).to_bytes(4, "big")
            f.write(f"{VNI},{text(mac)},hotel,{socket.inet_ntoa(ip)}\n")
    return path


def by_board(bench, companion, rounds):
    """Under the real board, at which ROWS nodes more come to a host and go with it: ({path: its turns}, changes a
    second). No frame is for them, but all tables must have them."""
    board, guests = bench.board, write_guests(bench)
    turns, rates = {}, []

    def come_and_go(_):
        began = time.monotonic()
        board.add_host("hotel", ["10.0.255.1"])
        board.cli("node", "load", guests)
        board.cli("host", "delete", "hotel", "--cascade")
        rates.append(2 * ROWS / (time.monotonic() - began))

    kept = [make(bench, Moved, d, f"board-{d}{bench.tag}") for d in NUMBERS]
    for g in kept:
        g.companion = companion
    with contextlib.ExitStack() as stack:
        for g in kept:
            g.start()
            stack.callback(g.wake)
        for n in range(rounds):
            for g in kept if n % 2 == 0 else reversed(kept):
                for name, during in [("0", None), ("board", come_and_go)][::1 if n % 2 == 0 else -1]:
                    turns.setdefault(f"{g.direction}{bench.tag}-{name}", []).append(
                        sampling.turn(g, SECONDS, during))
    return turns, rates


def cost(turns, path, by):
    """(cycles of one path by those of another, low, high), rounded."""
    return [round(v, 3) for v in sampling.ratio(*([t.cycles for t in turns[p]] for p in (path, by)))]


def costs(turns):
    """For each number of nodes and each rate: of both directions, and the worse of them."""
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
    """What is missed, in words."""
    missed = [f"{k} is {figures[k]}, at most {v} is wanted" for k, v in MOST.items() if figures[k] > v]
    for path, got in reached.items():
        wanted, made = RATES[path.split("-")[-1]] or 0, statistics.median(got)
        if made < REACHED * wanted:
            missed.append(f"{path}: of {wanted} moves a second {made:.0f} were made in the median turn")
    return missed


def body(lab, rounds):
    lab.hugepages(3072)
    companion = Companion(lab)
    try:
        return measure(lab, companion, rounds)
    finally:
        companion.resume()  # so that it hears that it is to end


def measure(lab, companion, rounds):
    say("loading nodes")
    benches = [Bench(lab, nodes, HOSTS, frames, tag=f"-{size}") for size, (nodes, frames) in SIZES.items()]
    wrong = check(benches[0])
    say(f"of {2 * frame_check.SAMPLE} frames decoded while nodes moved {wrong} are wrong")
    turns, reached = by_table_churn(benches, companion, rounds)
    say("\n" + table(turns, reached))
    real, rates = by_board(benches[-1], companion, max(rounds // 3, 2))
    lost = sum(sampling.lost(t) for t in [*turns.values(), *real.values()])
    figures = {"wrong_frames": wrong, "lost": lost, **costs(turns), "board_changes_per_s": [round(min(rates)),
                                                                                            round(max(rates))]}
    tag = benches[-1].tag
    for d in NUMBERS:
        value, *interval = cost(real, f"{d}{tag}-board", f"{d}{tag}-0")
        figures[f"{d}_board_cost"], figures[f"{d}_board_cost_interval"] = value, interval
    missed = judge(figures, reached)
    for why in missed:
        say(why)
    figures["floors_missed"] = len(missed)
    say(f"under the real board, {figures['board_changes_per_s']} changes a second: "
        + ", ".join(f"{d} costs {figures[f'{d}_board_cost']}" for d in NUMBERS))
    paths = {path: sampling.summary(t) for path, t in turns.items()}
    paths |= {f"{path}-real": sampling.summary(t) for path, t in real.items()}
    result_files.save(table(turns, reached), {"paths": paths, "reached": reached, "figures": figures}, "updates",
                      draw(turns))
    return figures
