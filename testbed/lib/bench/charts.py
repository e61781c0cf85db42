"""Charts of figures: bars with intervals, and lines. Small SVGs without a library. They follow the light or dark colour
scheme of the viewer.

The title says what is measured, the line below it the unit and the conditions. A data path has the same colour in all
charts.
"""

import html
import math

WIDTH, LEFT, RIGHT, TOP = 760, 190, 90, 64
ROW, GAP, HEADING = 20, 14, 20  # of bars
HEIGHT, LINES_LEFT, FOOT = 280, 70, 54  # of lines
COLOURS = {"stopover": ("#0b6bcb", "#5aa9f8"), "ovs": ("#c2571a", "#f0975c"), "io": ("#7b8794", "#9aa5b1"),
           "macswap": ("#9aa5b1", "#7b8794"), "kernel": ("#7a4fb0", "#b794e8"), "bare": ("#9aa5b1", "#7b8794"),
           "bridged": ("#7b8794", "#9aa5b1"),
           "encap": ("#0b6bcb", "#5aa9f8"), "decap": ("#c2571a", "#f0975c")}
OTHERS = [("#0b6bcb", "#5aa9f8"), ("#c2571a", "#f0975c"), ("#2f8f5b", "#6cc795"), ("#7a4fb0", "#b794e8"),
          ("#7b8794", "#9aa5b1"), ("#b0305c", "#f083a7")]
INK, PAPER, GRID, QUIET = ("#1f2933", "#e4e7eb"), ("#ffffff", "#14181d"), ("#e4e7eb", "#323f4b"), ("#616e7c", "#9aa5b1")


def _colour(name, number):
    """(light, dark) for a series: by the first word of its name, else by its number."""
    return COLOURS.get(name.split("-")[0].split(" ")[0], OTHERS[number % len(OTHERS)])


def _style(names):
    """The style sheet, with classes s0, s1, ... for the series of these names."""
    pairs = [(".paper{fill:%s}", PAPER), (".ink{fill:%s}", INK), (".quiet{fill:%s}", QUIET),
             (".grid{stroke:%s}", GRID), (".whisker{stroke:%s;fill:none}", INK), (".wanted{stroke:%s}", INK)]
    for n, name in enumerate(names):
        pairs += [(f".s{n}{{fill:%s}}", _colour(name, n)), (f".l{n}{{stroke:%s;fill:none}}", _colour(name, n))]
    light, dark = ("".join(rule % pair[i] for rule, pair in pairs) for i in (0, 1))
    return f"<style>{light}@media(prefers-color-scheme:dark){{{dark}}}</style>"


def _text(x, y, words, size=12, anchor="start", kind="ink", more=""):
    return (f'<text class="{kind}" x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"{more}>'
            f"{html.escape(str(words))}</text>")


def _number(value):
    """A number in short form."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}".rstrip("0").rstrip(".")


def step(span, about=5):
    """A round number that fits some `about` times into a span.

    >>> [step(span) for span in (6, 11, 30, 160)]
    [2, 5, 10, 50]
    """
    raw = span / about
    return next(s for e in [10 ** math.floor(math.log10(raw))] for s in (e, 2 * e, 5 * e, 10 * e) if s >= raw)


def _ticks(high):
    """Round numbers from 0 to `high`."""
    size = step(high)
    return [n * size for n in range(math.floor(high / size + 1e-9) + 1)]


def _page(height, title, below, names, body):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" role="img">', f"<title>{html.escape(title)}</title>", _style(names),
        '<rect class="paper" width="100%" height="100%"/>', _text(16, 24, title, 15, more=' font-weight="600"'),
        _text(16, 42, below, kind="quiet"), *body, "</svg>"]) + "\n"


def bars(title, below, groups, wanted=None):
    """A horizontal bar for each (name, value, low, high) of {heading: [...]}; low and high may be None. `wanted` has
    limits by (heading, name), drawn as dashed marks."""
    rows = [row for group in groups.values() for row in group]
    names = list(dict.fromkeys(name for name, *_ in rows))
    wanted = wanted or {}
    most = 1.02 * max([max(v, high or v) for _, v, _, high in rows] + list(wanted.values()))
    scale = (WIDTH - LEFT - RIGHT) / most
    height = TOP + sum(HEADING + len(g) * ROW + GAP for g in groups.values()) + 26
    out = []
    for tick in _ticks(most):
        x = LEFT + tick * scale
        out.append(f'<path class="grid" d="M{x:g} {TOP - 4}V{height - 30}"/>')
        out.append(_text(x, height - 14, _number(tick), 11, "middle", "quiet"))
    y = TOP
    for heading, group in groups.items():
        out.append(_text(16, y + 13, heading, more=' font-weight="600"'))
        y += HEADING
        for name, value, low, high in group:
            out.append(_text(LEFT - 8, y + 14, name, anchor="end"))
            out.append(f'<rect class="s{names.index(name)}" x="{LEFT}" y="{y + 3}" width="{max(value * scale, 1):.1f}" '
                       f'height="{ROW - 6}"/>')
            end = value
            if low is not None and high is not None:
                end = max(value, high)
                a, b = LEFT + low * scale, LEFT + high * scale
                out.append(f'<path class="whisker" d="M{a:.1f} {y + 7}v6M{a:.1f} {y + 10}H{b:.1f}M{b:.1f} {y + 7}v6"/>')
            if (limit := wanted.get((heading, name))) is not None:
                x = LEFT + limit * scale
                out.append(f'<path class="wanted" d="M{x:.1f} {y}v{ROW}" stroke-width="2" stroke-dasharray="3 2"/>')
                end = max(end, limit)
            out.append(_text(LEFT + end * scale + 6, y + 14, _number(value)))
            y += ROW
        y += GAP
    return _page(height, title, below, names, out)


class _Axis:
    """Maps values to positions: words evenly, numbers by value or by logarithm."""

    def __init__(self, values, start, end, log=False, from_zero=False):
        self.words = next((list(dict.fromkeys(values)) for v in values if isinstance(v, str)), None)
        self.start, self.end, self.log = start, end, log
        if self.words:
            self.ticks = self.words
        elif log:
            positive = [v for v in values if v > 0]
            self.low, self.high = min(positive), max(positive)
            if from_zero:  # whole decades
                self.low, self.high = (10.0 ** f(math.log10(v))
                                       for f, v in ((math.floor, self.low), (math.ceil, self.high)))
            self.high = max(self.high, self.low * 10)
            decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            self.ticks = [10.0 ** e for e in decades]
        else:
            self.low, self.high = (0, 1.05 * max(values)) if from_zero else (min(values), max(values))
            self.high = max(self.high, self.low + 1e-9)
            self.ticks = [t for t in _ticks(self.high) if t >= self.low]

    def __call__(self, value):
        if self.words:
            part = (self.words.index(value) + 0.5) / len(self.words)
        elif self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)


def lines(title, below, x_title, y_title, series, log_x=False, log_y=False, wanted=None):
    """A line for each {name: [(x, y, low, high)]}; low and high may be None, x may be words. A line is dashed if one
    before it has the same colour. `wanted` has limits by name."""
    names, points = list(series), [p for s in series.values() for p in s]
    wanted = wanted or {}
    bottom, right = TOP + 22 + HEIGHT, WIDTH - 30
    pad = 0 if any(isinstance(p[0], str) for p in points) else 24
    x = _Axis([p[0] for p in points], LINES_LEFT + pad, right - pad, log_x)
    heights = [v for p in points for v in (p[1], p[2], p[3]) if v is not None] + list(wanted.values())
    y = _Axis(heights, bottom, TOP + 22, log_y, from_zero=True)
    colours = [_colour(name, n) for n, name in enumerate(names)]
    dashes = [' stroke-dasharray="6 4"' if colours.index(c) < n else "" for n, c in enumerate(colours)]
    out, at = [], LINES_LEFT
    for n, name in enumerate(names):
        out.append(f'<path class="l{n}" d="M{at} {TOP}h22" stroke-width="2"{dashes[n]}/>')
        out.append(_text(at + 28, TOP + 4, name))
        at += 50 + 6.5 * len(name)
    for tick in y.ticks:
        out.append(f'<path class="grid" d="M{LINES_LEFT} {y(tick):.1f}H{right}"/>')
        out.append(_text(LINES_LEFT - 8, y(tick) + 4, _number(tick), 11, "end", "quiet"))
    for tick in x.ticks:
        out.append(f'<path class="grid" d="M{x(tick):.1f} {bottom}v5"/>')
        out.append(_text(x(tick), bottom + 18, tick if isinstance(tick, str) else _number(tick), 11, "middle", "quiet"))
    out.append(_text((LINES_LEFT + right) / 2, bottom + 38, x_title, anchor="middle"))
    out.append(_text(0, 0, y_title, anchor="middle",
                     more=f' transform="translate(18 {(TOP + 22 + bottom) / 2:g}) rotate(-90)"'))
    for words, limit in wanted.items():
        out.append(f'<path class="wanted" d="M{LINES_LEFT} {y(limit):.1f}H{right}" stroke-dasharray="5 3"/>')
        out.append(_text(right, y(limit) - 5, words, 11, "end"))
    for n, dots in enumerate(series.values()):
        way = "L".join(f"{x(p[0]):.1f} {y(p[1]):.1f}" for p in dots)
        out.append(f'<path class="l{n}" d="M{way}" stroke-width="2"{dashes[n]}/>')
        for px, py, low, high in dots:
            if low is not None and high is not None:
                out.append(f'<path class="l{n}" d="M{x(px):.1f} {y(low):.1f}V{y(high):.1f}"/>')
            out.append(f'<circle class="s{n}" cx="{x(px):.1f}" cy="{y(py):.1f}" r="4"/>')
    return _page(bottom + FOOT, title, below, names, out)
