"""Encapsulation and decapsulation of 64-byte frames, beside testpmd and OVS-DPDK: the figures by which the fast path is
judged."""

from ...lab import info
from .. import frame_check, limits, result_files, sampling
from ..dut import TSC_HZ
from ..setup import HOSTS, NODES, NUMBERS, Bench

SECONDS = 0.3
FLOORS = {"encap_vs_ovs": 3, "decap_vs_ovs": 3.5, "encap_vs_testpmd": 0.35, "decap_vs_testpmd": 0.3}


def chart(table):
    """A chart with the floors as marks."""
    mpps = {path: s["mpps"] for path, s in table.items()}
    floors = {(d, "stopover"): max(mpps[f"{peer}-{d}"] * FLOORS[f"{d}_vs_{name}"]
                                   for peer, name in (("ovs", "ovs"), ("io", "testpmd"))) for d in NUMBERS}
    return result_files.by_direction(table, f"VXLAN on one worker: frames of 64 bytes, {NODES} nodes on {HOSTS} hosts",
                                     below="Mpps, median of turns with its interval; dashed: the floor; "
                                     "io and macswap: testpmd on the same ports", wanted=floors)


def body(lab, rounds):
    lab.hugepages(2048)
    info(f"loading {NODES} nodes on {HOSTS} hosts; TSC at {TSC_HZ / 1e6:.0f} MHz")
    bench = Bench(lab)
    wrong = frame_check.both(bench)
    info(f"of {4 * frame_check.SAMPLE} frames decoded {wrong} are wrong")
    duts = [make(d) for d in NUMBERS for make in (bench.testpmd, bench.ovs, bench.gateway)]
    duts += [bench.testpmd(d, "macswap") for d in NUMBERS]
    try:
        for c in duts:
            c.start()
        info(f"measuring {len(duts)} data paths in {rounds} rounds, {SECONDS} s each")
        turns = sampling.in_turns(duts, SECONDS, rounds)
    finally:
        for c in duts:
            c.wake()
    table = {name: sampling.summary(t) for name, t in turns.items()}
    figures = {"wrong_frames": wrong, "lost": sum(s["lost"] for s in table.values())}
    for d in NUMBERS:
        ours = [t.mpps for t in turns[f"stopover-{d}"]]
        for peer, name in (("ovs", f"ovs-{d}"), ("testpmd", f"io-{d}")):
            sampling.put_ratio(figures, f"{d}_vs_{peer}", ours, [t.mpps for t in turns[name]])
    for d in NUMBERS:
        figures[f"{d}_cycles"] = round(table[f"stopover-{d}"]["cycles"], 1)
        figures[f"{d}_cycles_interval"] = [round(c, 1) for c in table[f"stopover-{d}"]["cycles_interval"]]
    figures["mpps"] = {name: round(s["mpps"], 2) for name, s in table.items()}
    limits.record(figures, [f"{k} is {figures[k]}, the floor is {v}" for k, v in FLOORS.items() if figures[k] < v])
    info(result_files.write(table, figures, chart=chart(table)))
    return figures
