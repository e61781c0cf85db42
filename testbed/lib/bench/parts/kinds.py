"""Every ordinary kind of traffic, encapsulation and decapsulation, beside the most frequent one (IPv4 from a vif over an
untagged IPv4 underlay) and beside Open vSwitch with the same frames.

The frames have the shortest length of their kind: 64 bytes, 66 over IPv6 (all with FCS), 4 more with a tag. The DUTs of a
kind and the baseline take turns, so that drift affects all alike. At the end: frames with unfinished checksums.
"""

from ...lab import Failure, info
from .. import charts, checksums, frame_check, limits, result_files, sampling
from ..setup import FRAMES, HOSTS, NODES, NUMBERS, Bench
from ..workload import Kind

SECONDS = 0.2
KINDS = (
    Kind("ipv6", tenants=6),
    Kind("underlay-ipv6", underlay=6),
    Kind("underlay-vlan", underlay_vlan=30),
    Kind("underlay-vlan-ipv6", tenants=6, underlay=6, underlay_vlan=30),
    Kind("segment", port="segment"),
    Kind("segment-ipv6", port="segment", tenants=6),
    Kind("trunk", port="segment", trunk=10),
)
MOST_BY_BASELINE = 1.5
LEAST_BY_OVS = 2.5


def measure(lab, kind, rounds):
    """(wrong frames, {DUT: its turns}) of a kind and of the baseline. Ends all processes."""
    base = Bench(lab, NODES, HOSTS, FRAMES, tag="-base")
    bench = Bench(lab, NODES, HOSTS, FRAMES, tag=f"-{kind.name}", kind=kind)
    wrong = frame_check.both(bench)
    duts = {}
    for d in NUMBERS:
        duts.update({f"base-{d}": base.gateway(d), f"stopover-{d}": bench.gateway(d), f"ovs-{d}": bench.ovs(d)})
    try:
        for dut in duts.values():
            dut.start()
        turns = sampling.in_turns(list(duts.values()), SECONDS, rounds)
    finally:
        for dut in duts.values():
            dut.wake()
    complaints = lab.restart()
    if complaints:
        raise Failure("; ".join(complaints))
    return wrong, {name: turns[dut.name] for name, dut in duts.items()}


def body(lab, rounds):
    lab.hugepages(2048)
    figures, missed, paths, groups = {"wrong_frames": 0, "lost": 0}, [], {}, {d: [] for d in NUMBERS}
    lines = ["| Kind | | cycles/frame | interval | by the baseline | interval | Mpps | by Open vSwitch | interval |",
             "|---|---|---:|---|---:|---|---:|---:|---|"]
    for kind in KINDS:
        info(f"measuring {kind.name} in {rounds} rounds, {SECONDS} s each")
        wrong, turns = measure(lab, kind, rounds)
        figures["wrong_frames"] += wrong
        for d in NUMBERS:
            of = {name: turns[f"{name}-{d}"] for name in ("base", "stopover", "ovs")}
            s = paths[f"{kind.name}-{d}"] = {name: sampling.summary(t) for name, t in of.items()}
            figures["lost"] += sum(one["lost"] for one in s.values())
            key, ours = f"{kind.name.replace('-', '_')}_{d}", s["stopover"]
            sampling.put_ratio(figures, f"{key}_cost", [t.cycles for t in of["stopover"]], [t.cycles for t in of["base"]])
            sampling.put_ratio(figures, f"{key}_vs_ovs", [t.mpps for t in of["stopover"]], [t.mpps for t in of["ovs"]])
            cells = [f"{ours['cycles']:.0f}", "{:.0f} to {:.0f}".format(*ours["cycles_interval"])]
            for name, before in (("cost", ""), ("vs_ovs", f"{ours['mpps']:.1f}")):
                low, high = figures[f"{key}_{name}_interval"]
                cells += [before] * bool(before) + [f"{figures[f'{key}_{name}']:.2f}", f"{low:.2f} to {high:.2f}"]
            lines.append(f"| {kind.name} | {d} | {' | '.join(cells)} |")
            info(lines[-1])
            groups[d].append((kind.name, ours["cycles"], *ours["cycles_interval"]))
            missed += limits.above(figures, {f"{key}_cost": MOST_BY_BASELINE})
            if figures[f"{key}_vs_ovs"] < LEAST_BY_OVS:
                missed.append(f"{key}_vs_ovs is {figures[f'{key}_vs_ovs']}, the floor is {LEAST_BY_OVS}")
    for d in NUMBERS:
        figures[f"kinds_{d}_cost"] = max(figures[f"{k.name.replace('-', '_')}_{d}_cost"] for k in KINDS)
        figures[f"kinds_{d}_vs_ovs"] = min(figures[f"{k.name.replace('-', '_')}_{d}_vs_ovs"] for k in KINDS)
    more, table = checksums.measure(lab, rounds)
    figures.update(more)
    missed += limits.above(figures, {f"unfinished_{size}_per_byte": checksums.MOST_CYCLES_PER_BYTE
                                     for size in checksums.SIZES})
    lines += ["", "Busy cycles per frame between vhost-user rings, by what the guest leaves to its NIC:", "", *table]
    limits.record(figures, missed)
    chart = charts.bars("Ordinary kinds of traffic on one worker", "cycles per frame; median of turns, with its interval",
                        groups)
    info(result_files.save("\n".join(lines), {"paths": paths, "figures": figures}, "kinds", chart))
    return figures
