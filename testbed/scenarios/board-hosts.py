#!/usr/bin/python3
"""A thousand hosts with a hundred thousand nodes are connected to one board by TLS, and claim a thousand times a second.

Each host has a certificate of its own, a connection, and a watch of its network, whose every revision it acknowledges. Ten
hosts share a network. In the time that is measured, hosts claim nodes whose address changes, so that each claim is a durable
change that ten watches see; there are as many heartbeats; and ten times a second a host connects and registers again, as
after a lost connection. The hosts are one process of the same machine: its own delays are in the times, too.

`registration_p99_ms`, `claim_p99_ms`, `heartbeat_p99_ms`: from the call to the answer. `connection_p99_ms`: of a new
connection with its handshake; not judged. `lost`: calls without the answer that is expected, and watches that ended.

Options: --hosts 1000 --seconds 60
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, info, sh
from lib.lab.process import Process, free_port
from lib.product import ron
from lib.product.stopover import program

LIMIT_MS = 10
NODES_OF_HOST = 100


def start_board(lab, endpoint):
    """A board with a certificate of a new authority. Returns its process and the authority's folder."""
    ca, tls, config, local = lab.dir / "ca", lab.dir / "tls", lab.dir / "bbs.ron", lab.dir / "bbs.sock"
    sh(program("stopover"), "pki", "init", "--ca", ca)
    sh(program("stopover"), "pki", "issue", "board", "bbs", "--ca", ca, "--out", tls)
    config.write_text(ron.dumps({"listen": [endpoint, f"unix:{local}"], "store": f"{lab.dir}/bbs.redb", "tls": str(tls)}) + "\n")
    sh(program("stopover-bbs"), "init", config)
    board = Process(lab, "bbs", [program("stopover-bbs"), config])
    board.wait_socket(local)
    return ca


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, default=100 if scenario.SHORT else 1000)
    parser.add_argument("--seconds", type=int, default=5 if scenario.SHORT else 60)
    read = parser.parse_args()
    endpoint = f"https://127.0.0.1:{free_port()}"
    ca = start_board(lab, endpoint)
    tool = Process(lab, "many-hosts", [program("many-hosts"), "--board", endpoint, "--ca", ca, "--out", lab.dir / "hosts",
                                       "--hosts", read.hosts, "--nodes", NODES_OF_HOST * read.hosts, "--claims", read.hosts,
                                       "--registrations", 10, "--seconds", read.seconds])
    status = tool.wait_end(300 + 2 * read.seconds)
    lines = tool.log.read_text(errors="replace").splitlines()
    for line in lines[-12:-1]:
        info(line)
    if status != 0:
        raise Failure(f"many-hosts ended with status {status}: {tool.tail(3)}")
    figures = json.loads(lines[-1])
    late = [key for key in ("registration", "claim", "heartbeat") if figures[f"{key}_p99_ms"] > LIMIT_MS]
    least = read.hosts * read.seconds // 2 if scenario.SHORT else read.hosts * read.seconds * 95 // 100
    return {**figures, "too_few": max(0, least - figures["claims"]), "too_slow": len(late)}


scenario.main("board-hosts", body,
              must_be_zero=["lost"], must_be_zero_alone=["too_few", "too_slow"],
              must_be_positive=["hosts", "nodes", "registrations", "claims", "heartbeats", "changes_seen"])
