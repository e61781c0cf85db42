"""Reads the Markdown files: code blocks and their kinds, commands in blocks and in prose, links. It does not know what
the commands do.

A block is indented by four spaces or fenced. Its kind follows from its text, or from a comment before it: `<!-- docs:
sample NAME -->`, `<!-- docs: text -->`. A block of no known kind is a Failure.
"""

import itertools
import pathlib
import re
import shlex
from dataclasses import dataclass, field

from ..lab import REPO, Failure

PROGRAMS = ("stopover", "stopover-bbs", "stopover-appliance", "make", "testbed/run", ".ci/run", "cargo", "curl", "ip",
            "qemu-system-x86_64", "install", "git", "scp")
HINT = re.compile(r"^\s*<!-- docs: (.*?) -->$")
DRAWING = re.compile("[─│┌┐└┘├┤▶◀▼▲]")
# Words that a reader replaces, with a fitting value.
PLACEHOLDERS = {"ID": "7", "N": "7", "TEXT": "why", "NAME": "vm1", "FILE.csv": "nodes.csv", "NUMBER": "7", "DIR": "/tmp",
                "PATH": "/run/stopover/hv-a.sock", "URL": "http://192.0.2.10:7480", "FILE": "hv-a.ron",
                "FRAME": "ffffffffffff5254000000000188b5"}


@dataclass
class Block:
    """A code block. `first` is the number of its first line, from 1; `indent` the text before each line."""
    path: pathlib.Path
    first: int
    lines: list
    language: str = ""
    hint: str = ""
    indent: str = ""
    kind: str = field(init=False)

    def __post_init__(self):
        self.kind = self._kind()

    @property
    def place(self):
        return f"{self.path.relative_to(REPO)}:{self.first}"

    def _kind(self):
        if self.hint:
            return self.hint.split()[0]
        if self.language == "ron":
            return "ron"
        text = "\n".join(self.lines)
        if DRAWING.search(text):
            return "drawing"
        if all(is_command(line) for line in joined(self.lines)):
            return "commands"
        raise Failure(f"{self.place}: a block of unknown kind; expected commands, ```ron, a drawing, or a comment "
                      "before it; hint: <!-- docs: sample NAME --> or <!-- docs: text -->")


def files():
    """All Markdown files of the repository."""
    return [p for p in sorted([*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("examples/**/*.md")])]


def blocks(path):
    """The code blocks of a file."""
    lines, found, at = path.read_text().splitlines(), [], 0
    while at < len(lines):
        before = lines[at - 1] if at else ""
        hint = m[1] if (m := HINT.match(before)) else ""
        if lines[at].startswith("```"):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].startswith("```"))
            found.append(Block(path, at + 2, lines[at + 1:end], lines[at][3:].strip(), hint))
            at = end + 1
        elif lines[at].startswith("    ") and (not before.strip() or before.startswith("#") or hint):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or (not lines[end].strip() and any(
                    x.startswith("    ") for x in itertools.islice(filter(str.strip, lines[end:]), 1)))):
                end += 1
            found.append(Block(path, at + 1, [x[4:] for x in lines[at:end]], "", hint, "    "))
            at = end
        else:
            at += 1
    return found


def rewrite(block, text):
    """Replaces the lines of a block."""
    lines = block.path.read_text().splitlines()
    new = [f"{block.indent}{line}".rstrip() for line in text.rstrip("\n").split("\n")]
    lines[block.first - 1:block.first - 1 + len(block.lines)] = new
    block.path.write_text("\n".join(lines) + "\n")


def joined(lines):
    """Lines joined with their continuations, without comment lines."""
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines)).split("\n")
    return [line.strip() for line in whole if line.strip() and not line.strip().startswith("#")]


def is_command(line):
    return line.split()[0] in PROGRAMS


def without_fences(path):
    """The lines of a file, with those of blocks empty."""
    lines = path.read_text().splitlines()
    for block in blocks(path):
        for n in range(block.first - 1, block.first - 1 + len(block.lines)):
            lines[n] = ""
    return lines


def commands(path):
    """(place, command) of every command in the blocks and code spans of a file. A line may have several."""
    for block in blocks(path):
        lines = block.lines
        if block.kind == "sample":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        elif block.kind != "commands":
            continue
        for line in joined(lines):
            for part in re.split(r"\s{2,}(?=stopover )", re.sub(r"\s+# .*", "", line)):
                yield block.place, re.split(r"\s{2,}", part.strip())[0] if part.split()[0] in ("make", "testbed/run") \
                    else part.strip()
    for n, line in enumerate(without_fences(path), 1):
        for span in re.findall(r"`([^`]+)`", line):
            span = span.replace("\\|", "|").strip()
            if re.match(r"(show|clear) [a-z]", span) and path.name == "cli.md":
                span = f"stopover {span}"
            if is_command(span) and " " in span:
                yield f"{path.relative_to(REPO)}:{n}", span


def metrics(path):
    """(name, type) of every metric that a table of metrics in a file has: `| `NAME{label}` | TYPE: text |`."""
    for line in path.read_text().splitlines():
        if m := re.match(r"\| `(stopover_\w+)(?:\{[^}]*\})?` \| (counter|gauge|histogram): ", line):
            yield m[1], m[2]


def spelled_out(command):
    """The words of the commands that a line with [optional parts], alternatives a|b and placeholders stands for: with
    all options and with none, and each alternative once."""
    full = re.sub(r"\[([^\[\]]*)\]", r"\1", re.sub(r"\[[^\[\]]*…[^\[\]]*\]", "", command))
    bare = re.sub(r"\[[^\[\]]*\]", "", command)
    out = []
    for text in dict.fromkeys((full, bare)):
        words = [PLACEHOLDERS.get(w, w) for w in shlex.split(text)]
        # In `complete ID|--node X` the second alternative has a value of its own.
        texts = [[]]
        for word in words:
            options = word.split("|") if "|" in word and "/" not in word else [word]
            texts = [t + [PLACEHOLDERS.get(o, o)] for t in texts for o in options]
        out += texts
    return [_without_stray(t) for t in {tuple(t): t for t in out}.values()]


def _without_stray(words):
    """Removes the value of `--node` from `complete 7 100/MAC`, which the alternative `ID|--node NODE` leaves there."""
    if words[1:3] in (["migration", "complete"], ["migration", "abort"]) and len(words) > 4 and words[3].isdigit() \
            and "/" in words[4]:
        return words[:4] + words[5:]
    return words


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(path):
    return {slug(m[1]) for line in without_fences(path) if (m := re.match(r"#+ (.*)", line))}


def broken_links(path):
    """The broken links of a file to other files and headings, in words."""
    wrong = []
    for n, line in enumerate(without_fences(path), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            to = (path.parent / name).resolve() if name else path
            if not to.exists():
                wrong.append(f"{path.relative_to(REPO)}:{n}: `{target}`: no such file")
            elif anchor and to.suffix == ".md" and anchor not in anchors(to):
                wrong.append(f"{path.relative_to(REPO)}:{n}: `{target}`: no such heading")
    return wrong
