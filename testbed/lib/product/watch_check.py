"""The tool `watch-check` (testbed/board-faults): disturbs a board, records what its clients see, and checks it."""

import json

from ..lab import Failure, info
from ..lab.process import Process
from .stopover import program


def watch_check(lab, seconds, *options):
    """Runs it for so many seconds. Returns its figures. Violations are in its log, and printed."""
    tool = Process(lab, "watch-check", [
        program("watch-check"), "--bbs", program("stopover-bbs"), "--faulty", program("faulty-board"), "--dir",
        lab.dir / "boards", "--minutes", seconds / 60, *options], env={"RUST_LOG": "warn"})
    # The last part is finished and checked.
    status = tool.wait_end(seconds + 120)
    lines = tool.log.read_text(errors="replace").splitlines()
    for line in lines[:-1]:
        info(line)
    if status != 0:
        raise Failure(f"watch-check ended with status {status}: {tool.tail(3)}")
    return json.loads(lines[-1])
