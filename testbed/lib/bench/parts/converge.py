"""How soon a change at the board is in force: until every lcore of three appliances with a million nodes forwards by
it, and until a thousand watchers have it. The tool `change-latency` declares the nodes and measures.

The ports of the appliances are null ports, so their lcores are idle and sleep between polls (`idle: adaptive`).
"""

import json
import os
import re
import resource

from ...lab import Failure, info, sh
from ...lab.netns import Namespace
from ...product import ron, stopover
from .. import charts, limits, result_files
from ..setup import Board
from ..workload import VNI, World, own

NODES, HOSTS = 1_000_000, 100
APPLIANCES = {"gw-a": 1, "gw-b": 2, "gw-c": 3}
WATCHERS, WATCHED_VNI = 1000, 200
SYNCHRONISED_S = 60
MOST = {"converge_ms_p99": 10, "watchers_ms_p99": 100}


def change_latency(board, **options):
    """Runs the tool with these options; returns its figures."""
    path = stopover.program("change-latency", "tools")
    words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", v)]
    return json.loads(sh(path, "--board", board.endpoint, *words, timeout=90).splitlines()[-1])


def appliance(lab, ns, board, name):
    """An appliance that follows the network of the million nodes, and has nothing to forward."""
    _, _, vtep = own(APPLIANCES[name])
    a = stopover.Appliance(lab, name, ns, board)
    a.port("ul0", "net_null0,no-rx=1", ron.tagged("underlay", addresses=[f"{vtep}/16"]))
    a.port("seg0", "net_null1,no-rx=1", ron.tagged("segment", vni=VNI))
    return a.start()


def body(lab):
    os.sched_setaffinity(0, range(os.cpu_count()))  # a part before this one may have restricted it
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # each watcher has a connection, at both ends
    lab.hugepages(len(APPLIANCES) * stopover.MEMORY_MIB)
    ns = Namespace(lab, "converge")
    board = Board(lab, ns, "-converge")
    info(f"loading {NODES} nodes on {HOSTS} hosts")
    World(NODES, HOSTS).load(lab.dir, board)
    appliances = [appliance(lab, ns, board, name) for name in APPLIANCES]
    line = r"in step with the board at revision \d+: (\d{7,}) nodes, (\d+) ms after"
    for a in appliances:
        a.process.wait_line(line, SYNCHRONISED_S)
    together = max(int(re.search(line, a.process.log.read_text(errors="replace"))[2]) for a in appliances)
    info(f"{len(appliances)} appliances, started one after another, had all nodes within {together} ms")
    options = {"vni": VNI, "updates": 300, "every_ms": 30, "appliances": ",".join(APPLIANCES)}
    force = change_latency(board, **options)["in_force"]
    info(f"in force on all lcores of all appliances: {force}")
    for a in appliances:
        why = a.process.stop()
        if why:
            raise Failure(why)
    watch = change_latency(board, vni=WATCHED_VNI, watchers=WATCHERS, updates=100, every_ms=50)["watch"]
    info(f"at {WATCHERS} watchers: {watch}")
    figures = {"converge_ms_p50": force["p50"], "converge_ms_p99": force["p99"], "converge_ms_max": force["max"],
               "watchers_ms_p50": watch["p50"], "watchers_ms_p99": watch["p99"], "watchers_ms_max": watch["max"]}
    limits.record(figures, limits.above(figures, MOST))
    lines = ["| Change known to | times | p50 ms | p99 ms | max ms |", "|---|---:|---:|---:|---:|"]
    lines += [f"| {who} | {f['count']} | {f['p50']:.1f} | {f['p99']:.1f} | {f['max']:.1f} |" for who, f in
              ((f"every lcore of {len(APPLIANCES)} appliances", force), (f"{WATCHERS} watchers, each pair", watch))]
    series = {who: [(k, f[k], None, None) for k in ("p50", "p99", "max")] for who, f in
              ((f"every lcore of {len(APPLIANCES)} appliances", force), (f"{WATCHERS} watchers", watch))}
    chart = charts.lines("From a change at the board until it is known", f"ms; {NODES:,} nodes at the appliances",
                         "", "ms", series, log_y=True, wanted={f"wanted of p99: {v} ms": v for v in MOST.values()})
    info(result_files.save("\n".join(lines), {"in_force": force, "watch": watch, "figures": figures}, "converge", chart))
    return figures
