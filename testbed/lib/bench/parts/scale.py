"""The same path with a thousand, a million and ten million nodes: cycles per frame when most lookups miss the caches,
memory per node, and the time in which a new appliance has all nodes.

Each size has a board, appliances and files of its own. All files have the same number of frames: a file that does not
fit into the caches has a cost of its own, which must be the same for all sizes.
"""

import re

from ...lab import Failure, info
from .. import charts, limits, result_files, sampling
from ..setup import NUMBERS, Bench

FRAMES = 1 << 17  # for random nodes; if there are more nodes than frames, each frame is for another node
SECONDS = 0.4
SIZES = {1_000: 100, 100_000: 100, 1_000_000: 100, 10_000_000: 10_000}  # nodes: hosts
SHORT = {1_000: "1e3", 100_000: "1e5", 1_000_000: "1e6", 10_000_000: "1e7"}
MOST = {"scale_1e6": 1.35, "scale_1e7": 1.6, "bytes_per_node": 64, "sync_1e6_ms": 2000}


def memory(pid):
    """The resident memory of a process in bytes, without hugepages, which have only ports and buffers."""
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+) kB", f.read())[1]) * 1024


def synchronised_ms(gateway):
    """The time from the connection to the board until all nodes were in force, by its log."""
    log = gateway.process.log.read_text(errors="replace")
    found = re.search(r"in step with the board at revision \d+: (\d+) nodes, (\d+) ms after", log)
    if not found or int(found[1]) < gateway.world.nodes:
        raise Failure(f"the log of {gateway.name} does not have the time at which it had {gateway.world.nodes} nodes")
    return int(found[2])


def body(lab, rounds, most):
    """`most` is the largest size to measure."""
    lab.hugepages(4096)
    sizes = [n for n in SIZES if n <= most]
    gateways = []
    try:
        for nodes in sizes:
            info(f"loading {nodes} nodes on {SIZES[nodes]} hosts")
            bench = Bench(lab, nodes, SIZES[nodes], FRAMES, tag=f"-{SHORT[nodes]}")
            gateways += [bench.gateway(d).start() for d in NUMBERS]
        info(f"measuring {len(gateways)} data paths in {rounds} rounds, {SECONDS} s each")
        turns = sampling.in_turns(gateways, SECONDS, rounds)
        used = {g.world.nodes: memory(g.process.pid) for g in gateways if g.direction == "encap"}
        synced = {g.world.nodes: synchronised_ms(g) for g in gateways if g.direction == "encap"}
    finally:
        for g in gateways:
            g.wake()
    table = {name: sampling.summary(t) for name, t in turns.items()}
    figures = {"lost": sum(s["lost"] for s in table.values())}
    base = sizes[0]
    for nodes in sizes[1:]:
        size = SHORT[nodes]
        for d in NUMBERS:
            cycles = [[t.cycles for t in turns[f"stopover-{d}-{SHORT[n]}"]] for n in (nodes, base)]
            sampling.put_ratio(figures, f"{d}_scale_{size}", *cycles)
        worse = max(NUMBERS, key=lambda d: figures[f"{d}_scale_{size}"])
        for end in ("", "_interval"):
            figures[f"scale_{size}{end}"] = figures[f"{worse}_scale_{size}{end}"]
        figures[f"bytes_per_node_{size}"] = round((used[nodes] - used[base]) / (nodes - base), 1)
        figures[f"sync_{size}_ms"] = synced[nodes]
    if "bytes_per_node_1e7" in figures:  # with fewer nodes it is less exact: tables grow in steps
        figures["bytes_per_node"] = figures["bytes_per_node_1e7"]
    limits.record(figures, limits.above(figures, MOST))
    series = {d: [(nodes, table[path]["cycles"], *table[path]["cycles_interval"]) for nodes in sizes
                  for path in [f"stopover-{d}-{SHORT[nodes]}"]] for d in NUMBERS}
    chart = charts.lines("Cycles per frame with more nodes", "frames of 64 bytes at random to all nodes, one worker; "
                         "median of turns with its interval", "nodes", "cycles per frame", series, log_x=True)
    info(result_files.write(table, figures, "scale", chart))
    return figures
