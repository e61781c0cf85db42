"""The rate of each data path for frames of 64, 128, 512 and 1518 bytes and for IMIX. Bits are those of the tenants'
frames with FCS, without preamble and tunnel headers."""

import statistics

from ...lab import Failure, info
from .. import charts, result_files, sampling
from ..setup import FRAMES, HOSTS, NODES, NUMBERS, Bench
from ..workload import IMIX

SIZES = {"64": (64,), "128": (128,), "512": (512,), "1518": (1518,), "imix": IMIX}
SECONDS = 0.2
UNDERLAY_MTU = 1600  # for 1518 bytes and the tunnel headers


def measure(lab, name, rounds):
    """{data path: its turns} for frames of an entry of SIZES. Ends all processes."""
    bench = Bench(lab, NODES, HOSTS, FRAMES, SIZES[name], tag=f"-{name}")
    # Only the MTU of the sink matters: a pcap port has none.
    more = {"encap": {"mtu": UNDERLAY_MTU}, "decap": {}}
    duts = [c for d in NUMBERS for c in
                  (bench.testpmd(d), bench.ovs(d, **more[d]), bench.gateway(d, **more[d]))]
    try:
        for c in duts:
            c.start()
        turns = sampling.in_turns(duts, SECONDS, rounds)
    finally:
        for c in duts:
            c.wake()
    complaints = lab.stop()
    if complaints:
        raise Failure("; ".join(complaints))
    return {f"{c.name.split('-')[0]}-{c.direction}": turns[c.name] for c in duts}


def body(lab, rounds):
    lab.hugepages(2048)
    paths, lost, rates = {}, 0, {}
    lines = ["| Frames | Data path | Mpps | interval | Gb/s | ours by it |", "|---|---|---:|---|---:|---:|"]
    for name, sizes in SIZES.items():
        info(f"measuring frames of {name} bytes in {rounds} rounds, {SECONDS} s each")
        found = measure(lab, name, rounds)
        for path, turns in found.items():
            s = sampling.summary(turns)
            ours = [t.mpps for t in found[f"stopover-{path.split('-')[1]}"]]
            times, _, _ = sampling.ratio(ours, [t.mpps for t in turns])
            gbps = s["mpps"] * statistics.mean(sizes) * 8 / 1000
            low, high = s["mpps_interval"]
            lines.append(f"| {name} | {path} | {s['mpps']:.2f} | {low:.2f} to {high:.2f} | {gbps:.1f} | {times:.2f} |")
            paths[f"{path}-{name}"] = {**s, "gbps": gbps, "ours_by_it": times}
            rates[f"{path}-{name}"] = [round(s["mpps"], 2), round(gbps, 1)]
            lost += s["lost"]
    figures = {"lost": lost, "floors_missed": 0, "sizes_mpps_gbps": rates}
    series = {f"{peer} {d}": [(name, s["mpps"], *s["mpps_interval"]) for name in SIZES
                              for s in [paths[f"{peer}-{d}-{name}"]]]
              for d in NUMBERS for peer in ("io", "stopover", "ovs")}
    chart = charts.lines("Frames per second of one worker, by frame size", "Mpps, median of turns with its interval; io: "
                         "testpmd on the same ports", "bytes with FCS", "Mpps", series)
    info(result_files.save("\n".join(lines), {"paths": paths, "figures": figures}, "sizes", chart))
    return figures
