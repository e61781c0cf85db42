#!/usr/bin/python3
"""The board is away, and appliances are restarted meanwhile: they start with their checkpoints and forward.

Three hosts; stations on all of them, in a network that drops what it does not know. UDP streams with sequence numbers run
between a station of gw-b and one of gw-c all the time, and pings between a station of gw-a and one of gw-b. In each round the
board is killed, or stopped; gw-a is stopped, or killed, and started again while the board is away; then streams run between
stations of all hosts; then the board is started. In every third round gw-a is down first, and nodes that the operator declared are
moved, added and deleted before the board goes away: gw-a starts with a checkpoint that is out of date, and must be in step
once the board is back.

`lost`: datagrams lost between stations whose appliances were not being restarted, and after gw-a forwarded again. `sent`:
datagrams sent. `restart_ms`: from the start of gw-a's process until the first ping comes back, without a board.
`return_ms`: from the start of the board's process until all appliances have confirmed their state and acknowledge the
board's revision. `recover_ms_p99`: of both together. `stale_after`: appliances that still call their state stale then, and
nodes in which one differs from the board.

Options: --rounds 20
"""

import argparse
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, fabric, info, until
from lib.lab.frame_loss import Cables
from lib.lab.process import Process
from lib.product import stopover
from lib.traffic import mesh

RED = 100
RATE = 300
PING_S = 0.01
WITHIN_MS = 1000
FAR = ["10.0.9.1", "10.0.9.2"]  # VTEPs that nobody has: their nodes are only looked at


def far_mac(n):
    return f"06:00:00:00:00:{n:02x}"


class Run:
    """The hosts and stations, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        self.board, self.net, self.hosts = fabric.three_hosts(lab)
        self.board.cli("network", "add", RED, "--flood", "drop")
        for n, vtep in enumerate(FAR):
            self.board.add_host(f"far-{n}", [vtep])
        for n in range(20):
            self.board.add_node(RED, far_mac(n), "far-0", [])
        self.a, self.b, self.c = self.hosts
        for host in self.hosts:
            host.config["checkpoint_s"] = 1
        self.stations = [fabric.Tenant.numbered(lab, f"vm{n}", RED, n).plug_vif(host)
                         for n, host in enumerate((self.a, self.b, self.c, self.b, self.c), 1)]
        # A station has one stream at a time: the last two have theirs all the time, the others at the end of a restart.
        self.some, self.steady = self.stations[:3], self.stations[3:]
        self.figures = mesh.Tally(lost=0, sent=0, duplicated=0, cables_lost=0, unaccounted=0, stale_after=0, rounds=0)
        self.restart_ms, self.return_ms = [], []
        self.moved = 0

    def start(self):
        for host in self.hosts:
            host.start()
        here = {s.mac for s in self.stations} | {far_mac(n) for n in range(20)}
        for host in self.hosts:
            until(f"{host.name} has {len(here)} nodes", lambda: set(self.nodes(host)) == here)
        for one in self.stations:
            for other in self.stations:
                if one is not other:
                    until(f"{one.name} reaches {other.name}",
                          lambda: not mesh.ping(one.ns, other.ips[0], count=1, wait=1)["lost"])

    @staticmethod
    def nodes(asked):
        """Host and addresses by MAC, at an appliance or the board."""
        return {r["mac"]: (r["host"], tuple(sorted(r["ips"]))) for r in asked.json("show", "nodes", "--vni", RED)}

    def count(self, streams):
        udp = streams.finish()
        info(f"UDP streams: {dict(udp)}")
        self.figures.add({k: udp[k] for k in ("sent", "duplicated")})
        self.figures["lost"] += udp["lost"] + udp["damaged"] + udp["astray"]

    def end(self, process, kindly):
        if not kindly:
            process.kill()
        elif why := process.stop():
            raise Failure(why)

    def has_checkpoint(self):
        """Waits until gw-a's checkpoint is as new as its state: a kill must not lose what was before it."""
        def is_new():
            state = self.a.json("show", "board")
            return state["checkpoint"] and state["checkpoint"]["revision"] >= self.changed_at
        until("gw-a has a new checkpoint", is_new)

    def change_far_nodes(self):
        """Moves a node of the operator, deletes one, and adds one."""
        n = self.moved = self.moved + 1
        self.board.cli("node", "delete", RED, far_mac(n))
        self.board.add_node(RED, far_mac(n), "far-1", [f"192.168.0.{100 + n}"])
        if n == 1:
            self.board.cli("node", "delete", RED, far_mac(0))
        self.board.add_node(RED, far_mac(100 + n), "far-0", [])

    def round(self, number):
        """One outage of the board with a restart of gw-a."""
        kindly, out_of_date = number % 2 == 0, number % 3 == 2
        info(f"round {number}: gw-a is {'stopped' if kindly else 'killed'}{', then nodes move' * out_of_date}")
        self.changed_at = self.board.json("show", "board")["revision"]
        self.has_checkpoint()
        self.a.process.check()
        self.figures["unaccounted"] += self.a.unaccounted()
        others = mesh.Streams(self.lab, self.steady, count=5 * RATE // 2, rate=RATE, broadcast=False, multicast=False)
        pinger = self.pinger()
        time.sleep(0.3)
        if out_of_date:
            self.end(self.a.process, kindly)
            self.change_far_nodes()
        self.end(self.board.process, kindly=number % 4 < 2)
        if not out_of_date:
            self.end(self.a.process, kindly)
        began = time.time()
        self.a.start()
        state = self.a.json("show", "board")
        if not (state["forwarding"] and state["stale"] and not state["connected"]):
            raise Failure(f"gw-a without a board: {state}")
        self.restart_ms.append(self.first_answer(pinger, began))
        self.all_reach_all()
        self.come_back()
        pinger.stop()
        self.count(others)
        self.figures["rounds"] += 1

    def pinger(self):
        one, other = self.stations[:2]
        argv = ["ping", "-n", "-D", "-i", PING_S, "-I", "eth0", other.ips[0]]
        return Process(self.lab, f"ping-{self.figures['rounds']}", argv, ns=one.ns)

    def first_answer(self, pinger, began):
        """Milliseconds until the first answer after `began`."""
        def times():
            stamps = re.findall(r"^\[([0-9.]+)\] \d+ bytes", pinger.log.read_text(), re.M)
            return [float(t) for t in stamps if float(t) > began]
        until("a ping is answered", lambda: times(), timeout=30)
        took = (times()[0] - began) * 1000
        info(f"gw-a forwards {took:.0f} ms after the start of its process, without a board")
        return took

    def all_reach_all(self):
        """Streams between stations of all hosts: nothing may be lost any more."""
        self.count(mesh.Streams(self.lab, self.some, count=RATE // 4, rate=RATE, broadcast=False, multicast=False))

    def come_back(self):
        """The board returns; all must be in step."""
        began = time.monotonic()
        self.board.start()

        def confirmed(host):
            state = host.json("show", "board")
            return state["connected"] and not state["stale"] and state["acknowledged"] == state["revision"] > 0
        for host in self.hosts:
            until(f"{host.name} is in step", lambda: confirmed(host), every=0.01)
        took = (time.monotonic() - began) * 1000
        self.return_ms.append(took)
        info(f"all in step {took:.0f} ms after the start of the board's process")
        here = {s.mac for s in self.stations}
        until("the board has all stations", lambda: here <= set(self.nodes(self.board)))
        revision = self.board.json("show", "board")["revision"]
        for host in self.hosts:
            until(f"{host.name} has revision {revision}", lambda: host.json("show", "board")["revision"] >= revision)
            truth, table = self.nodes(self.board), self.nodes(host)
            wrong = [m for m in truth.keys() | table.keys() if truth.get(m) != table.get(m)]
            if wrong:
                info(f"{host.name} differs from the board: {[(m, table.get(m), truth.get(m)) for m in wrong[:3]]}")
            self.figures["stale_after"] += len(wrong) + host.json("show", "board")["stale"]


def percentile(values, share):
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


def body(lab):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3 if scenario.SHORT else 24)
    options = parser.parse_args()
    run = Run(lab)
    run.start()
    cables = Cables([h.ns for h in run.hosts] + [run.net.switch] + [s.ns for s in run.stations])
    for number in range(options.rounds):
        run.round(number)
    lost = cables.lost()
    if lost:
        info(f"cables: {lost}")
    run.figures["cables_lost"] = sum(lost.values())
    figures = stopover.accounting(run.hosts)
    figures["unaccounted"] += run.figures.pop("unaccounted")
    p99 = percentile(run.restart_ms + run.return_ms, 0.99)
    return {**run.figures, **figures, "restart_ms_max": round(max(run.restart_ms)),
            "return_ms_max": round(max(run.return_ms)), "recover_ms_p99": p99, "slow": max(0, p99 - WITHIN_MS)}


scenario.main("board-outage", body, must_be_zero=["lost", "duplicated", "stale_after", "unaccounted", "faulty_drops"],
              must_be_positive=["sent", "rounds", "restart_ms_max", "return_ms_max"], must_be_zero_alone=["slow"])
