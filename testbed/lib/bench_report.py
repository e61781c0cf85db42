"""What the bench leaves in target/bench/: all figures as JSON, and a table in Markdown."""

import json

from .bench_contenders import TSC_HZ
from .lab import REPO

OUTPUT = REPO / "target" / "bench"


def save(text, data, name):
    """Writes a table and its figures to files of this name, returns the table."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.md").write_text(text + "\n")
    (OUTPUT / f"{name}.json").write_text(json.dumps({"tsc_hz": TSC_HZ, **data}, indent=1) + "\n")
    return "\n" + text


def write(table, figures, name="quick"):
    """The same from `table`, which has a summary of bench_stats for each data path."""
    lines = ["| Data path | Mpps | interval | cycles/frame | interval | turns | kept from running |",
             "|---|---:|---|---:|---|---:|---:|"]
    for path, s in table.items():
        low, high = s["mpps_interval"]
        few, many = s["cycles_interval"]
        lines.append(f"| {path} | {s['mpps']:.2f} | {low:.2f} to {high:.2f} | {s['cycles']:.0f} "
                     f"| {few:.0f} to {many:.0f} | {s['turns']} | {s['kept_from_running_percent']:.1f} % |")
    return save("\n".join(lines), {"paths": table, "figures": figures}, name)
