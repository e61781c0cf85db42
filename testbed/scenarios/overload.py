#!/usr/bin/python3
"""Bad clients of every kind call the board, one kind after the other, beside good hosts, which must not notice.

The good hosts send heartbeats and claims, ten rounds a second each, and check every answer. The bad ones flood the board
with requests, connections, half-open connections, resets, watches, lists that are not read, endless loads, keys, claims,
hosts, calls that are denied, giant messages and malformed ones. The log of the board goes into a pipe that nobody reads.

`lost_good`: answers to good hosts that were wrong or late, and acknowledged claims that the board does not list.
`good_p99_ms`: of the kind that disturbs most. `rss_growth_mib`: of the board, at its most. `limit_counters_missing`:
limits without a counter, or that were provoked and did not count.

Options: --seconds 10 (for each kind)
"""

import argparse
import json
import os
import pathlib
import re
import sys
import threading
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import REPO, Failure, info, sh
from lib.lab.process import Process, free_port
from lib.product import ron
from lib.product.stopover import program

# What the bad clients of this scenario must meet. With the defaults a few seconds would not be enough.
LIMITS = {"hosts": 100, "nodes_per_host": 500, "connections_per_peer": 200, "requests_per_s": 300, "queued_per_caller": 32,
          "watches_per_caller": 16, "lists_per_caller": 4, "loads": 2, "load_rows": 100_000}
PROVOKED = set(LIMITS) - {"queued_per_caller"}


class Board:
    """A board on TCP and on a socket that every user reaches. Nobody reads its log."""

    def __init__(self, lab):
        self.socket = lab.dir / "bbs.sock"
        self.address, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        config, fifo = lab.dir / "bbs.ron", lab.dir / "log.fifo"
        config.write_text(ron.dumps({
            "listen": [f"http://{self.address}", f"unix:{self.socket}"], "store": f"{lab.dir}/bbs.redb",
            "metrics": self.metrics, "insecure": True, "limits": LIMITS}) + "\n")
        sh(program("stopover-bbs"), "init", config)
        os.mkfifo(fifo)
        self.unread = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.process = Process(lab, "bbs", ["/bin/sh", "-c", 'exec "$1" "$2" 2>"$3"', "sh", program("stopover-bbs"), config,
                                            fifo])
        self.process.wait_socket(self.socket)
        self.socket.chmod(0o666)
        lab.dir.chmod(0o755)

    def rss_mib(self):
        """Its memory now."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def counters(self):
        """Of each limit how often it was met, and how many lines of the log were dropped."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        limited = {name: int(n) for name, n in re.findall(r'stopover_bbs_limited_total{limit="(\w+)"} (\d+)', page)}
        return limited, int(re.search(r"stopover_log_lines_dropped_total (\d+)", page)[1])


def documented():
    """The limits of docs/configuration.md."""
    text = (REPO / "docs/configuration.md").read_text()
    table = text.split("| Key of `limits` |")[1].split("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=1 if scenario.SHORT else 10)
    seconds = parser.parse_args().seconds
    board = Board(lab)
    before, most, ended = board.rss_mib(), [0], threading.Event()

    def watch_memory():
        while not ended.wait(0.2):
            most[0] = max(most[0], board.rss_mib())

    watching = threading.Thread(target=watch_memory, daemon=True)
    watching.start()
    tool = Process(lab, "overload", [program("overload"), "--board", f"http://{board.address}", "--unix", board.socket,
                                     "--seconds", seconds], env={"RUST_LOG": "off"})
    status = tool.wait_end(30 * (seconds + 10))
    ended.set()
    watching.join()
    lines = tool.log.read_text(errors="replace").splitlines()
    for line in lines[:-1]:
        info(line)
    if status != 0:
        raise Failure(f"overload ended with status {status}: {tool.tail(3)}")
    limited, dropped = board.counters()
    info(f"limits met: {limited}; {dropped} lines of the log dropped")
    os.close(board.unread)
    figures = json.loads(lines[-1])
    growth = round(most[0] - before)
    silent = documented() - set(limited) | {name for name in PROVOKED if not limited.get(name)}
    info(f"without a counter: {sorted(silent)}")
    return {**figures, "rss_growth_mib": growth, "limit_counters_missing": len(silent), "limits": len(documented()),
            "too_few_kinds": max(0, 10 - figures["bad_kinds"]),
            "too_few_good": max(0, 50 * seconds - figures["good_calls"]),
            "too_large": max(0, growth - 256), "too_slow": max(0, figures["good_p99_ms"] - 50)}


scenario.main("overload", body,
              must_be_zero=["lost_good", "limit_counters_missing", "too_few_kinds", "too_few_good", "too_large"],
              must_be_positive=["good_calls", "bad_kinds", "bad_calls", "limits"], must_be_zero_alone=["too_slow"])
