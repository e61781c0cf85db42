"""What a second worker adds: the rate of two by that of one, of the appliance and, for what the machine itself gives to
two, of testpmd on the same ports.

The source serves two files by two receive queues, and the sink has two transmit queues; one worker serves both of them,
two have one each. The second worker is on CPU 0, with the control thread, the board and this script: rates are by the
time that workers had their CPU.
"""

from ...lab import say
from .. import result_files, sampling, workload
from ..cpu_load import Companion
from ..dut import Gateway, Testpmd
from ..setup import FRAMES, HOSTS, NODES, NUMBERS, Bench

QUEUES = 2
SECONDS = 0.3
FLOOR = 1.8  # where testpmd reaches it as well
KINDS = {"stopover": "workers2", "io": "testpmd_workers2"}


def number(direction, workers):
    """That of the appliance which takes this direction with so many workers."""
    return NUMBERS[direction] + len(NUMBERS) * (workers - 1)


def write_flows(bench, direction, workers):
    """Frames for this appliance, dealt to a file for each queue."""
    made = {"encap": workload.encap_frames, "decap": workload.decap_frames}[direction]
    frames = [row[1] for row in made(bench.world, number(direction, workers), bench.frames)]
    paths = [bench.lab.dir / f"{direction}-{workers}-{q}.pcap" for q in range(QUEUES)]
    for q, path in enumerate(paths):
        workload.write_pcap(path, frames[q::QUEUES])
    return paths


def contender(bench, kind, direction, workers):
    name, flows = f"{kind}-{direction}-{workers}", write_flows(bench, direction, workers)
    if kind == "io":
        return Testpmd(bench.lab, bench.ns, name, direction, flows, bench.frames, workers=workers)
    return Gateway(bench.lab, bench.ns, name, direction, number(direction, workers), bench.world, bench.board, flows,
                   bench.frames, workers=workers)


def measure(contenders, companion, rounds):
    """{path: its turns}; those of one worker twice, with the other CPU idle and (-busy) with the companion on it."""
    turns = {}
    plan = [(c, with_it) for c in contenders for with_it in ([False, True] if c.workers == 1 else [False])]
    for n in range(rounds):
        for c, with_it in plan if n % 2 == 0 else reversed(plan):
            if with_it:
                companion.resume()
            try:
                turn = sampling.turn(c, SECONDS)
            finally:
                companion.pause()
            turns.setdefault(c.name + ("-busy" if with_it else ""), []).append(turn)
    return turns


def ratios(turns):
    """Two workers by one, for each kind the worse of both directions, and each direction."""
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
    """What is missed, in words; says what the figures mean."""
    ours, machine = figures["workers2"], figures["testpmd_workers2"]
    if ours >= FLOOR:
        return []
    if machine >= FLOOR:
        return [f"workers2 is {ours}, the floor is {FLOOR}, and testpmd reaches {machine}"]
    say(f"this machine has no two free cores: two workers of testpmd, too, make only {machine} times one, ours {ours}; "
        f"and {figures['testpmd_workers2_busy_sibling']} and {figures['workers2_busy_sibling']} times one whose other "
        "CPU is busy")
    return []


def body(lab, rounds):
    lab.hugepages(2048)
    companion = Companion(lab)
    contenders = []
    try:
        bench = Bench(lab, NODES, HOSTS, FRAMES, tag="-workers")
        contenders = [contender(bench, kind, d, n) for d in NUMBERS for kind in KINDS for n in (1, 2)]
        for c in contenders:
            c.start()
        say(f"measuring {len(contenders)} data paths in {rounds} rounds, to and fro, {SECONDS} s each")
        turns = measure(contenders, companion, rounds)
    finally:
        companion.resume()  # so that it hears that it is to end
        for c in contenders:
            c.wake()
    table = {name: sampling.summary(t) for name, t in turns.items()}
    figures = {"lost": sum(s["lost"] for s in table.values()), **ratios(turns)}
    missed = judge(figures)
    for why in missed:
        say(why)
    figures["floors_missed"] = len(missed)
    chart = result_files.by_direction(
        table, "Frames per second of one worker and of two", below="Mpps, median of turns with its interval; busy: the "
        "other CPU computes; io: testpmd on the same ports")
    say(result_files.write(table, figures, "workers", chart))
    return figures
