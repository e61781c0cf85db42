"""The gain of a second worker: the rate of two workers relative to one, of the appliance and, as a measure of the
machine, of testpmd on the same ports.

The source serves two files on two receive queues, and the sink has two transmit queues. One worker serves both; two
workers have one each. The second worker is on CPU 0, with the control thread, the board and this script, so rates are
by the time in which the workers had a CPU.
"""

from ...lab import info
from ...traffic.frames import write_pcap
from .. import limits, result_files, sampling, workload
from ..cpu_load import CpuLoad
from ..dut import Gateway, Testpmd
from ..setup import FRAMES, HOSTS, NODES, NUMBERS, Bench

QUEUES = 2
SECONDS = 0.3
FLOOR = 1.8  # judged only if testpmd reaches it
KINDS = {"stopover": "workers2", "io": "testpmd_workers2"}


def number(direction, workers):
    """The number of the appliance for this direction with so many workers."""
    return NUMBERS[direction] + len(NUMBERS) * (workers - 1)


def write_flows(bench, direction, workers):
    """Writes the frames for this appliance, in a file for each queue."""
    made = {"encap": workload.encap_frames, "decap": workload.decap_frames}[direction]
    frames = [row[1] for row in made(bench.world, number(direction, workers), bench.frames)]
    paths = [bench.lab.dir / f"{direction}-{workers}-{q}.pcap" for q in range(QUEUES)]
    for q, path in enumerate(paths):
        write_pcap(path, frames[q::QUEUES])
    return paths


def dut(bench, kind, direction, workers):
    name, flows = f"{kind}-{direction}-{workers}", write_flows(bench, direction, workers)
    if kind == "io":
        return Testpmd(bench.lab, bench.ns, name, direction, flows, bench.frames, workers=workers)
    return Gateway(bench.lab, bench.ns, name, direction, number(direction, workers), bench.world, bench.board, flows,
                   bench.frames, workers=workers)


def measure(duts, load, rounds):
    """{path: its turns}; paths with one worker twice, with the other CPU idle and (-busy) loaded."""
    turns = {}
    plan = [(c, with_it) for c in duts for with_it in ([False, True] if c.workers == 1 else [False])]
    for n in range(rounds):
        for c, with_it in plan if n % 2 == 0 else reversed(plan):
            if with_it:
                load.resume()
            try:
                turn = sampling.turn(c, SECONDS)
            finally:
                load.pause()
            turns.setdefault(c.name + ("-busy" if with_it else ""), []).append(turn)
    return turns


def ratios(turns):
    """The ratios of two workers to one: of each direction, and for each kind the worse one."""
    figures = {}
    for kind, key in KINDS.items():
        for suffix, base in (("", "1"), ("_busy_sibling", "1-busy")):
            found = {d: [round(v, 3) for v in sampling.ratio(
                *([t.mpps for t in turns[f"{kind}-{d}-{n}"]] for n in ("2", base)))] for d in NUMBERS}
            worse = min(found.values())
            for what, (value, low, high) in [(f"{key}{suffix}", worse),
                                             *((f"{d}_{key}{suffix}", found[d]) for d in NUMBERS)]:
                figures[what], figures[f"{what}_interval"] = value, [low, high]
    return figures


def judge(figures):
    """The missed limits, in words; prints what the figures mean."""
    ours, machine = figures["workers2"], figures["testpmd_workers2"]
    if ours >= FLOOR:
        return []
    if machine >= FLOOR:
        return [f"workers2 is {ours}, the floor is {FLOOR}, and testpmd reaches {machine}"]
    info(f"this machine has no two free cores: two workers of testpmd have only {machine} times the rate of one, ours "
         f"{ours}; relative to one whose other CPU is busy it is {figures['testpmd_workers2_busy_sibling']} and "
         f"{figures['workers2_busy_sibling']}")
    return []


def body(lab, rounds):
    lab.hugepages(2048)
    load = CpuLoad(lab)
    duts = []
    try:
        bench = Bench(lab, NODES, HOSTS, FRAMES, tag="-workers")
        duts = [dut(bench, kind, d, n) for d in NUMBERS for kind in KINDS for n in (1, 2)]
        for c in duts:
            c.start()
        info(f"measuring {len(duts)} data paths in {rounds} rounds, {SECONDS} s each")
        turns = measure(duts, load, rounds)
    finally:
        load.resume()  # so that it can be ended
        for c in duts:
            c.wake()
    table = {name: sampling.summary(t) for name, t in turns.items()}
    figures = {"lost": sum(s["lost"] for s in table.values()), **ratios(turns)}
    limits.record(figures, judge(figures))
    chart = result_files.by_direction(
        table, "Frames per second of one worker and of two", below="Mpps, median of turns with its interval; busy: the "
        "other CPU computes; io: testpmd on the same ports")
    info(result_files.write(table, figures, "workers", chart))
    return figures
