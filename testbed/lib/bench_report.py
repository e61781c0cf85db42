"""What the bench leaves in target/bench/: all figures as JSON, and a table in Markdown."""

import json

from .bench_contenders import TSC_HZ
from .lab import REPO

OUTPUT = REPO / "target" / "bench"


def write(table, figures, name="quick"):
    """Writes both, returns the table. `table` has a summary of bench_stats for each data path; `name` is that of the
    files."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    lines = ["| Data path | Mpps | interval | cycles/frame | interval | turns | kept from running |",
             "|---|---:|---|---:|---|---:|---:|"]
    for name, s in table.items():
        low, high = s["mpps_interval"]
        few, many = s["cycles_interval"]
        lines.append(f"| {name} | {s['mpps']:.2f} | {low:.2f} to {high:.2f} | {s['cycles']:.0f} "
                     f"| {few:.0f} to {many:.0f} | {s['turns']} | {s['kept_from_running_percent']:.1f} % |")
    text = "\n".join(lines)
    (OUTPUT / f"{name}.md").write_text(text + "\n")
    (OUTPUT / f"{name}.json").write_text(
        json.dumps({"tsc_hz": TSC_HZ, "paths": table, "figures": figures}, indent=1) + "\n")
    return "\n" + text
