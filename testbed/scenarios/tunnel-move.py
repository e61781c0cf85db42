#!/usr/bin/python3
"""A QEMU guest is live-migrated between two hosts that must encrypt what they send, while a station at a third host sends to it
and it answers: no datagram is lost, duplicated or out of order, whether that host has a tunnel to the target already or not.

The guest moves between gw-a and gw-c; the station is at gw-b. Half of the moves are `direct`: gw-b has a tunnel to the target when
the move begins. Before the others that tunnel is closed: what gw-b sends to the guest waits for a new one, or goes by the old
host until it is there. In every second pair of moves the board is cut off: it is stopped when the node is locked, and goes on
when gw-b has sent to the guest directly for a while. Streams of several flows run to the guest and from it all the time.

Run by its name all this is done twice: with one worker on each host, and with three and two underlay queues.

`moves`: of all variants, `cut_moves` of those without the board. `cut_over_ms_max`: from the guest's start at the target until gw-b
sent directly, as the old host's report and frames by the direct tunnel told it. `frames`: datagrams that were sent. `tunnels_made`: tunnels between gw-b and the target that were made
during or after moves without one. `redirected`: frames that the old host sent on. `plain_datagrams`: VXLAN on the underlay that was
not sealed, of `captured_frames`; `plaintext_bytes_on_wire`: bytes of station addresses in them.

STOPOVER_MIGRATIONS: number of moves of each variant. STOPOVER_RATE: datagrams per second in each direction.
"""

import os
import pathlib
import signal
import sys
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.guests.migration import locks_left, mac, port, reported
from lib.guests.qmp import PRE_SWITCHOVER
from lib.lab import Failure, fabric, info, until
from lib.lab.fabric import cidrs, ips
from lib.product import ron, stopover
from lib.traffic import capture, mesh, plaintext, stream

MOVES = int(os.environ.get("STOPOVER_MIGRATIONS", 2 if scenario.SHORT else 20))
RATE = int(os.environ.get("STOPOVER_RATE", 250 if scenario.SHORT else 1_000))
FLOWS, TICK_US, IDLE_CAP_US = 4, 4_000, 250  # an emulated guest and three appliances share two CPUs
AFTER_S = 0.5
WORKERS = [1] if scenario.SHORT else [1, 3]
X, STATION, NEIGHBOUR = 1, 2, 3
TO_X, FROM_X = 100, 200  # numbers of the first streams


class Run:
    """The hosts, the guest and the stations, and what has been counted."""

    def __init__(self, lab, workers):
        guest.images()
        self.board, net, self.hosts = fabric.three_hosts(
            lab, lcores=workers + 1, queues=2 if workers > 1 else 1, tunnels={"mode": ron.word("required")})
        self.a, self.b, self.c = self.hosts
        for host in self.hosts:
            host.config["idle"] = ron.tagged("adaptive", cap_us=IDLE_CAP_US, poll_us=stopover.POLL_US)
        self.places = [(host, port(host, X, f"x-{host.name}")) for host in (self.a, self.c)]
        self.station, self.neighbour = (fabric.Tenant(lab, name, n, 100, mac(n), cidrs(n)).plug_vif(host)
                                        for name, n, host in (("station", STATION, self.b), ("neighbour", NEIGHBOUR, self.c)))
        self.wire = capture.Capture(lab, net.switch, "br0", f"underlay-{workers}")
        for host in self.hosts:
            host.start()
        self.x = guest.Guest(lab, "x", self.places[0][1], mac(X), ns=self.a.ns)
        self.x.booted(timeout=90)
        self.x.address(*cidrs(X))
        stopover.wait_nodes(self.hosts, 3)
        self.at_station = guest.Shell(lab, self.station.ns)
        self.figures = {"direct_moves": 0, "other_moves": 0, "cut_moves": 0, "tunnels_made": 0, "redirected": 0}
        self.cut_over_ms = []

    def begin(self):
        """Starts the streams."""
        until("the station reaches the guest", lambda: self.x.ping(ips(STATION)[0], count=1)["received"])
        self.receivers = stream.Receiver(self.x), stream.Receiver(self.at_station)
        self.senders = (stream.Sender(self.at_station, ips(X)[0], TO_X, RATE, tick_us=TICK_US, flows=FLOWS),
                        stream.Sender(self.x, ips(STATION)[0], FROM_X, RATE, tick_us=TICK_US, flows=FLOWS))

    def tunnel(self, host):
        """The tunnel of gw-b to a host."""
        return self.b.tunnels()[host.name]

    def move_without_board(self, host, socket):
        """Moves the guest, with the board stopped from when its node is locked until gw-b sends to the new host."""
        switched = f"node {mac(X)} of network 100: sent to at host {host.name}, no longer by host"
        log = self.b.process.log
        before = log.read_text(errors="replace").count(switched)
        target = self.x.target(socket, host.ns)
        self.x.begin(target, pause=True)
        until("QEMU waits with the guest stopped", lambda: self.x.machine.qmp.status() == PRE_SWITCHOVER)
        until("the node is locked", lambda: self.board.json("migration", "list", "--active"))
        os.kill(self.board.process.pid, signal.SIGSTOP)
        try:
            self.x.machine.qmp.go_on()
            report = self.x.complete(target)
            began = time.monotonic()
            until("gw-b sends to the guest directly", lambda: log.read_text(errors="replace").count(switched) > before, timeout=4)
            self.cut_over_ms.append(round((time.monotonic() - began) * 1e3))
            time.sleep(AFTER_S)
        finally:
            os.kill(self.board.process.pid, signal.SIGCONT)
        self.figures["cut_moves"] += 1
        return report

    def move(self, number, direct, cut):
        """Moves the guest to the other host."""
        host, socket = self.places[number % 2]
        if direct:
            self.b.cli("tunnel", "rekey", host.name)
            until(f"gw-b has a tunnel to {host.name}", lambda: self.tunnel(host)["state"] == "up")
        else:
            self.b.cli("tunnel", "close", host.name)
            until(f"gw-b has no tunnel to {host.name}", lambda: self.tunnel(host)["state"] != "up")
        before = self.tunnel(host)["sessions"]
        report = self.move_without_board(host, socket) if cut else self.x.migrate(socket, ns=host.ns)
        time.sleep(AFTER_S)
        made = self.tunnel(host)["sessions"] - before
        reported(self.board, number, host)
        redirected = sum(r["redirected"] for r in self.board.json("migration", "show", str(number))["reports"])
        self.figures["redirected"] += redirected
        self.figures["direct_moves" if direct else "other_moves"] += 1
        self.figures["tunnels_made"] += not direct and made > 0
        info(f"move {number} to {host.name}, {'direct' if direct else 'without a tunnel'}: QEMU's downtime "
             f"{report['downtime_ms']} ms, {redirected} frames sent on by the old host")

    def finish(self):
        """Ends the streams. Returns their counts."""
        total = {"frames": 0, "lost": 0, "duplicated": 0, "reordered": 0}
        for first, sender, receiver in zip((TO_X, FROM_X), self.senders, self.receivers):
            sent = sender.stop()
            got = receiver.tally({first + n: count for n, count in enumerate(sent["sent_of"])})
            info(f"streams from {first}: {sent['sent']} sent, {got['lost']} lost, {got['duplicated']} duplicated, "
                 f"{got['reordered']} reordered, {got['overflown']} lost at the receiver's socket")
            total["frames"] += sent["sent"]
            total["lost"] += got["lost"] - got["overflown"]
            total["duplicated"] += got["duplicated"]
            total["reordered"] += got["reordered"]
        return total


    def on_the_wire(self):
        """What the capture has."""
        x = types.SimpleNamespace(mac=mac(X), ips=ips(X))
        found, kinds = plaintext.Sought([x, self.station, self.neighbour]).search(self.wire.stop().path)
        return {"plain_datagrams": kinds["plain"], "plaintext_bytes_on_wire": found, "captured_frames": sum(kinds.values())}


def one(lab, workers):
    """Runs all moves with so many workers."""
    info(f"building three hosts that encrypt, {workers} workers on each, and booting a guest")
    run = Run(lab, workers)
    run.begin()
    for number in range(1, 2 * MOVES + 1):
        # The guest is at gw-a at first; each variant gets moves both ways.
        run.move(number, direct=number // 2 % 2 == 0, cut=(number - 1) // 2 % 2 == 1)
    total = run.finish()
    for host in run.hosts:
        if "panicked at" in host.process.log.read_text(errors="replace"):
            raise Failure(f"{host.name} has a panic")
    return {**run.figures, "moves": run.figures["direct_moves"] + run.figures["other_moves"], **total,
            "cut_over_ms_max": max(run.cut_over_ms), "locks_left": locks_left(run.board), **stopover.accounting(run.hosts), **run.on_the_wire()}


def body(lab):
    total = mesh.Tally()
    for n, workers in enumerate(WORKERS):
        if n and (complaints := lab.restart()):
            raise Failure("; ".join(complaints))
        total.add(one(lab, workers))
    return total


scenario.main("tunnel-move", body,
              must_be_zero=["lost", "duplicated", "reordered", "locks_left", "plain_datagrams", "plaintext_bytes_on_wire",
                            "unaccounted", "faulty_drops"],
              must_be_positive=["frames", "direct_moves", "other_moves", "cut_moves", "tunnels_made", "captured_frames"])
