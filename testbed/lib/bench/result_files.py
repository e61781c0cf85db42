"""The files of the bench in target/bench/: for each part all figures as JSON, a table in Markdown and a chart as SVG;
and a summary of all parts.

The summary has the last run of each part, with its time and the measured program, so parts can be run one by one. It
names what was never measured.
"""

import json
import time

from ..lab import REPO, sh
from ..product import stopover
from . import charts
from .dut import TSC_HZ

OUTPUT = REPO / "target" / "bench"
# (figure, its part, what is wanted of it): first those by which the fast path is judged.
FIGURES = [
    ("encap_vs_ovs", "quick", "≥ 3"), ("decap_vs_ovs", "quick", "≥ 3.5"), ("encap_vs_testpmd", "quick", "≥ 0.35"),
    ("decap_vs_testpmd", "quick", "≥ 0.3"), ("encap_cycles", "quick", ""), ("decap_cycles", "quick", ""),
    ("scale_1e6", "scale", "≤ 1.35"), ("scale_1e7", "scale", "≤ 1.6"), ("update_1e5_cost", "updates", "≤ 1.05"),
    ("update_1e6_cost", "updates", "≤ 1.15"), ("workers2", "workers", "≥ 1.8"), ("bytes_per_node", "scale", "≤ 64"),
    ("converge_ms_p99", "converge", "≤ 10"), ("sync_1e6_ms", "scale", "≤ 2000"),
    ("watchers_ms_p99", "converge", "≤ 100"), ("holding_100_cost", "holding", "≤ 1.5"),
    ("kinds_encap_cost", "kinds", "≤ 1.5"), ("kinds_decap_cost", "kinds", "≤ 1.5"),
    ("kinds_encap_vs_ovs", "kinds", "≥ 2.5"), ("kinds_decap_vs_ovs", "kinds", "≥ 2.5"),
    ("rings_encap_vs_ovs", "rings", "≤ 0.5"), ("rings_decap_vs_ovs", "rings", "≤ 0.5"),
    ("encap_vs_kernel", "kernel", ""), ("decap_vs_kernel", "kernel", ""),
    ("loss_free_encap_mpps", "throughput", ""), ("loss_free_decap_mpps", "throughput", ""),
    ("loss_free_encap_vs_ovs", "throughput", ""), ("loss_free_decap_vs_ovs", "throughput", ""),
    ("latency_us_p99", "latency", ""), ("chain_latency_us_p99", "latency", ""), ("idle_latency_us_p99", "latency", ""),
]


def save(text, data, name, chart=None):
    """Writes a table, its figures and its chart (see `charts`) to files of this name; returns the table."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.md").write_text(text + "\n")
    (OUTPUT / f"{name}.json").write_text(json.dumps({"tsc_hz": TSC_HZ, **data}, indent=1) + "\n")
    if chart:
        (OUTPUT / f"{name}.svg").write_text(chart)
    return "\n" + text


def write(table, figures, name="quick", chart=None):
    """The same, for `table`: a summary of `sampling` for each data path."""
    lines = ["| Data path | Mpps | interval | cycles/frame | interval | turns | kept from running |",
             "|---|---:|---|---:|---|---:|---:|"]
    for path, s in table.items():
        low, high = s["mpps_interval"]
        few, many = s["cycles_interval"]
        lines.append(f"| {path} | {s['mpps']:.2f} | {low:.2f} to {high:.2f} | {s['cycles']:.0f} "
                     f"| {few:.0f} to {many:.0f} | {s['turns']} | {s['kept_from_running_percent']:.1f} % |")
    return save("\n".join(lines), {"paths": table, "figures": figures}, name,
                chart or by_direction(table, f"Part {name}: frames per second of one worker"))


def by_direction(table, title, key="mpps", below=None, wanted=None):
    """A chart of such a table: a bar for each data path, grouped by encap and decap. `wanted`: limits by (direction,
    name without it)."""
    groups = {}
    for path, s in table.items():
        words = path.split("-")
        direction = next((w for w in words if w in ("encap", "decap")), "")
        name = "-".join(w for w in words if w != direction)
        groups.setdefault(direction, []).append((name, s[key], *s[f"{key}_interval"]))
    unit = {"mpps": "Mpps", "cycles": "cycles per frame"}[key]
    return charts.bars(title, below or f"{unit}; median of turns, with its interval", groups, wanted)


def summarise(part, figures):
    """Puts the figures of a part into the summary, instead of those of its run before."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / "summary.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    version = sh(stopover.program("stopover-appliance"), "--version").strip()
    known[part] = {"measured": time.strftime("%Y-%m-%d %H:%M"), "program": version, "figures": figures}
    path.write_text(json.dumps(known, indent=1) + "\n")
    (OUTPUT / "summary.md").write_text(_summary(known))


def missing(figures):
    """The FIGURES that a run did not have."""
    return [name for name, _, _ in FIGURES if name not in figures]


def _summary(known):
    lines = ["| Figure | | Interval | Wanted | By `testbed/run bench --only` | Measured |",
             "|---|---:|---|---:|---|---|"]
    absent = []
    for name, part, wanted in FIGURES:
        run = known.get(part, {"figures": {}})
        value = run["figures"].get(name)
        if value is None:
            absent.append(f"`{name}` (`{part}`)")
            continue
        low, high = run["figures"].get(f"{name}_interval", (None, None))
        interval = "" if low is None else f"{low:g} to {high:g}"
        lines.append(f"| `{name}` | {value:g} | {interval} | {wanted} | `{part}` | {run['measured']} |")
    programs = sorted({run["program"] for run in known.values()})
    lines += ["", f"Measured program: {' and '.join(programs)}."]
    if absent:
        lines.append(f"Not measured: {', '.join(absent)}.")
    return "\n".join(lines) + "\n"
