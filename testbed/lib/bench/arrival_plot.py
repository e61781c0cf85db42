"""A plot of the frames of a numbered stream that a guest received around its migration. Writes a small SVG with a panel
for each run, all on the same scale, without a library.

The x axis is time in milliseconds, the y axis is the sequence number, so an undisturbed stream is a straight line. A
pause is a shaded band. A step at its end means that frames were lost; a steep line means that they arrived late.
"""

import dataclasses
import html
import math
import statistics

from .charts import step

PANEL, HEIGHT, LEFT, TOP, BOTTOM, GUTTER = 380, 300, 64, 74, 86, 34
INK, GRID, SEEN, MISSING, PAUSE = "#1f2933", "#e4e7eb", "#0b6bcb", "#d64545", "#f6e7c1"
CELL = 0.5  # pixels: marks closer than this are drawn once


@dataclasses.dataclass
class Run:
    """A measurement. `arrivals` are (milliseconds, sequence number) in order of arrival: all of the stream around the
    migration, or every n-th of it. `caption` is the line below the title, `gap_ms` the longest time without a frame."""

    title: str
    caption: str
    gap_ms: float
    arrivals: list

    def gap(self, start, end):
        """The longest time without a frame in a window, as (from, to) in ms; (0, 0) if fewer than two arrived."""
        times = [t for t, _ in self.arrivals if start <= t <= end]
        return max(zip(times, times[1:]), key=lambda p: p[1] - p[0], default=(0, 0))

    def missing(self):
        """The lost frames between the first and the last number, as lines (ms, first, ms, last)."""
        first_seen = {}
        for t, n in self.arrivals:
            first_seen.setdefault(n, t)
        numbers = sorted(first_seen)
        pairs = list(zip(numbers, numbers[1:]))
        step = statistics.mode([b - a for a, b in pairs] or [1])
        return [(first_seen[a], a + 1, first_seen[b], b - 1) for a, b in pairs if b - a > step]


def _steps(low, high):
    """Round whole numbers within a range."""
    size = max(step(max(high - low, 1)), 1)
    return [n * size for n in range(math.ceil(low / size), math.floor(high / size) + 1)]


def _text(x, y, words, size=12, anchor="start", colour=INK, more=""):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{more}>'
            f"{html.escape(words)}</text>")


def _panel(run, x0, start, end, low, high, labelled):
    """The marks of a run. `low` and `high` bound the sequence numbers, relative to the first in the panel."""
    shown = [(t, n) for t, n in run.arrivals if start <= t <= end]
    base = min((n for _, n in shown), default=0)

    def x(t):
        return round((x0 + (t - start) / (end - start) * PANEL) / CELL) * CELL

    def y(n):
        return round((TOP + HEIGHT - (n - base - low) / (high - low) * HEIGHT) / CELL) * CELL

    out = [_text(x0, TOP - 34, run.title, 15, more=' font-weight="600"'), _text(x0, TOP - 14, run.caption)]
    gap_from, gap_to = run.gap(start, end)
    out.append(f'<rect x="{x(gap_from):g}" y="{TOP}" width="{max(x(gap_to) - x(gap_from), CELL):g}" '
               f'height="{HEIGHT}" fill="{PAUSE}"/>')
    for t in _steps(start, end):
        out.append(f'<path d="M{x(t):g} {TOP}v{HEIGHT}" stroke="{GRID}"/>')
        out.append(_text(x(t), TOP + HEIGHT + 18, f"{t:g}", anchor="middle"))
    for n in _steps(low, high):
        out.append(f'<path d="M{x0} {y(n + base):g}h{PANEL}" stroke="{GRID}"/>')
        if labelled:
            out.append(_text(x0 - 8, y(n + base) + 4, f"{n:,}", anchor="end"))
    out.append(_text(x0 + PANEL / 2, TOP + HEIGHT + 38, "ms since the last frame before the pause", anchor="middle"))
    for t1, n1, t2, n2 in run.missing():
        if start <= t1 and t2 <= end:
            out.append(f'<path d="M{x(t1):g} {y(n1):g}L{x(t2):g} {y(n2):g}" stroke="{MISSING}" stroke-width="3" '
                       'stroke-linecap="round"/>')
    marks = sorted({(x(t), y(n)) for t, n in shown})
    out.append(f'<path d="{"".join(f"M{a:g} {b:g}h0" for a, b in marks)}" stroke="{SEEN}" stroke-width="2" '
               'stroke-linecap="round"/>')
    middle = min(max((x(gap_from) + x(gap_to)) / 2, x0 + 50), x0 + PANEL - 50)
    out.append(_text(middle, TOP + 16, f"{run.gap_ms:.0f} ms", anchor="middle"))
    out.append(f'<rect x="{x0}" y="{TOP}" width="{PANEL}" height="{HEIGHT}" fill="none" stroke="{INK}"/>')
    return out


def write(path, title, runs, start, end):
    """Writes the plot of `runs`, from `start` to `end` in ms, to a file."""
    spans = []
    for r in runs:
        numbers = [n for t, n in r.arrivals if start <= t <= end]
        spans.append(max(numbers) - min(numbers) if numbers else 1)
    width = LEFT + len(runs) * PANEL + (len(runs) - 1) * GUTTER + 20
    height = TOP + HEIGHT + BOTTOM
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}" font-family="sans-serif" role="img">',
           f"<title>{html.escape(title)}</title>", '<rect width="100%" height="100%" fill="#ffffff"/>']
    for i, r in enumerate(runs):
        out += _panel(r, LEFT + i * (PANEL + GUTTER), start, end, 0, max(spans) * 1.04, i == 0)
    out.append(_text(0, 0, "sequence number", anchor="middle",
                     more=f' transform="translate(14 {TOP + HEIGHT / 2:g}) rotate(-90)"'))
    x, y = LEFT, height - 20
    legend = ((SEEN, "received", 100), (MISSING, "lost", 70), (PAUSE, "longest time without a frame", 0))
    for colour, words, wide in legend:
        out.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        out.append(_text(x + 18, y, words))
        x += wide
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(out) + "\n</svg>\n")
