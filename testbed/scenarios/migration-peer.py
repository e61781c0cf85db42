#!/usr/bin/python3
"""The same guest with the same stream is live-migrated on OVS-DPDK and on Stopover, and the frames that it loses are
counted.

Three hosts, first with Open vSwitch and DPDK, then with appliances; cables, guests, QEMU and counting are the same. The
migrating guest has a port on two of the hosts; a guest on the third sends it a UDP stream with sequence numbers.

On Open vSwitch every host has a static flow for each MAC. When QEMU reports that the migration is completed, the flows
for the MAC are changed to the new host, on all hosts at once. An operator's automation cannot do better: only this
script is between QEMU's event and the flows. Nothing is reported to Stopover.

Open vSwitch 3.1 always polls: three of its threads, at a lower priority, and the emulated guests share the CPUs of the
machine. What it loses without a migration is `ovs_lost_at_rest`.

The clock of the guest stands still during its migration. It echoes its datagrams to an observer, a namespace at the
third host, whose clock measures the gaps.

The plot target/testbed/migration-peer.svg has the arrivals of the migration with the median gap, for each data path.
`--plot PATH`, or STOPOVER_PLOT=PATH, writes it there, too. STOPOVER_MIGRATIONS: number of migrations on each data path.
STOPOVER_RATE: datagrams per second.
"""

import argparse
import math
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.bench import arrival_plot
from lib.guests import guest
from lib.lab import OUTPUT, Failure, fabric, info
from lib.peers import ovs
from lib.product import ron, stopover
from lib.traffic import stream

VNI = 100
MIGRATIONS = int(os.environ.get("STOPOVER_MIGRATIONS", 3 if scenario.SHORT else 5))
RATE = int(os.environ.get("STOPOVER_RATE", 1000))
AT_REST = 2.0  # seconds of stream before the first migration
AROUND = 0.6  # seconds of stream before and after each migration
GUEST, SENDER, OBSERVER = 1, 2, 3
STREAM = 1


def mac(number):
    return f"52:54:00:00:00:{number:02x}"


def ip(number):
    return f"192.168.0.{number}"


def observer(lab, prefix):
    """The station that the migrating guest echoes to."""
    return fabric.Tenant(lab, f"{prefix}observer", OBSERVER, VNI, mac(OBSERVER), [f"{ip(OBSERVER)}/24"])


def in_real_time(arrivals, echoes):
    """Converts arrivals by the clock of the guest, which stood still for a while, to the clock of the observer. Both
    have the newest frame of each batch; the others of the batch arrived just before it. Microseconds and numbers."""
    echoed, out, ahead = {n: t for t, n in echoes}, [], None
    for t, n in reversed(arrivals):
        if n in echoed:
            ahead = echoed[n] - t
        if ahead is not None:
            out.append((t + ahead, n))
    return sorted(out)


class Side:
    """A data path with its guests. `sockets` are those of the migrating guest's ports on the first two hosts;
    `completed(host)` is called as soon as QEMU reports that the guest has migrated there."""

    def __init__(self, lab, prefix, hosts, sockets, sender_socket, station, completed=None):
        self.prefix, self.hosts, self.sockets, self.completed = prefix, hosts, sockets, completed
        self.station = guest.Shell(lab, station.ns)
        self.guest = guest.Guest(lab, f"{prefix}x", sockets[0], mac(GUEST), ns=hosts[0].ns)
        self.sender = guest.Guest(lab, f"{prefix}s", sender_socket, mac(SENDER), ns=hosts[2].ns)
        for number, g in ((GUEST, self.guest), (SENDER, self.sender)):
            g.booted(timeout=120)
            g.address(f"{ip(number)}/24")
        self.migrations = []  # (gap in ms, frames lost, QEMU's downtime in ms, arrivals)

    def measure(self):
        """Migrates the guest under its stream; returns the figures."""
        if self.sender.ping(ip(GUEST), count=5)["received"] == 0:
            raise Failure(f"{self.sender.name} does not reach {ip(GUEST)}")
        watched = stream.Receiver(self.station)
        receiver = stream.Receiver(self.guest, observer=ip(OBSERVER))
        sender = stream.Sender(self.sender, ip(GUEST), stream=STREAM, rate=RATE)
        time.sleep(AT_REST)
        at_rest = missing = receiver.stats()["streams"][str(STREAM)]["missing"]
        for number in range(1, MIGRATIONS + 1):
            to = number % 2
            target = self.guest.target(self.sockets[to], ns=self.hosts[to].ns)
            for r in (receiver, watched):
                r.mark()
            time.sleep(AROUND)
            report = self.migrate(target, self.hosts[to])
            time.sleep(AROUND)
            arrivals = in_real_time(receiver.trace(STREAM), watched.trace(STREAM))
            seen, gap = receiver.mark()[STREAM], watched.mark()[STREAM]["gap_us"] / 1e3
            lost, missing = seen["missing"] - missing, seen["missing"]
            self.migrations.append((gap, lost, report["downtime_ms"], arrivals))
            info(f"migration {number} to {self.hosts[to].name}: QEMU's downtime {report['downtime_ms']} ms, "
                 f"longest gap {gap:.1f} ms, {lost} frames lost, {seen['in_period']} received around it")
        sent = sender.stop()
        got = receiver.tally({STREAM: sent["sent"]})
        sides = [self._sides(arrivals) for *_, arrivals in self.migrations]
        info(f"{sent['sent']} sent, {sent['skipped']} skipped for lack of CPU; {got['received']} received, "
             f"{got['lost']} lost, {at_rest} of them before the first migration")
        figures = {
            "lost": got["lost"], "lost_at_rest": at_rest,
            "lost_per_migration": round(statistics.median(lost for _, lost, *_ in self.migrations)),
            "duplicated": got["duplicated"], "reordered": got["reordered"],
            "receiver_overflown": got["overflown"],
            "sent": sent["sent"], "frames_per_s": round(sent["sent"] / sent["us"] * 1e6),
            "received_before": min(before for before, _ in sides), "received_after": min(after for _, after in sides),
            "longest_gap_ms": round(max(gap for gap, *_ in self.migrations), 1),
            "median_gap_ms": round(statistics.median(gap for gap, *_ in self.migrations), 1),
            "vmm_downtime_ms": statistics.median(downtime for _, _, downtime, _ in self.migrations),
            "migrations": len(self.migrations),
        }
        return {self.prefix + k: v for k, v in figures.items()}

    def migrate(self, target, host):
        """Migrates it to a machine that waits on one of the two hosts."""
        self.guest.begin(target)
        if self.completed:
            self.guest.machine.qmp.ended()
            self.completed(host)
        return self.guest.complete(target)

    def picture(self, title):
        """The migration with the median gap, for `arrival_plot`."""
        gap, lost, _, arrivals = sorted(self.migrations)[len(self.migrations) // 2]
        begun = self._begun(arrivals)
        return arrival_plot.Run(title, f"{lost or 'no'} frame{'s' * (lost != 1)} lost", gap,
                        [((t - begun) / 1e3, n) for t, n in arrivals])

    @staticmethod
    def _begun(arrivals):
        """The time at which the longest gap began."""
        times = [t for t, _ in arrivals]
        return max(zip(times, times[1:]), key=lambda p: p[1] - p[0], default=(0, 0))[0]

    def _sides(self, arrivals):
        """How many of the frames arrived before the longest gap, and how many after it."""
        before = sum(t <= self._begun(arrivals) for t, _ in arrivals)
        return before, len(arrivals) - before


def on_ovs(lab, net):
    """Measures Open vSwitch with DPDK."""
    ovs.quiet_service()
    info("building three hosts with Open vSwitch and DPDK, a guest on the first and one that sends on the third")
    hosts = [ovs.Ovs(lab, net, f"ovs-{n}") for n in "abc"]
    for h in hosts:
        h.start(VNI)
    for h in hosts:
        h.neighbours(hosts)
    sockets = [h.vhost("x") for h in hosts[:2]]
    sender_socket = hosts[2].vhost("s")
    station = observer(lab, "ovs-")
    hosts[2].tenant(station)
    nodes = [(mac(GUEST), hosts[0], "x"), (mac(SENDER), hosts[2], "s"), (mac(OBSERVER), hosts[2], station.name)]
    for h in hosts:
        h.flows(nodes, hosts)
    took = []

    def repoint(host):
        began = time.monotonic()
        ovs.everywhere(hosts, lambda h: h.point(mac(GUEST), host, "x"))
        took.append((time.monotonic() - began) * 1e3)

    side = Side(lab, "ovs_", hosts, sockets, sender_socket, station, repoint)
    figures = side.measure()
    for h in hosts:
        h.save_counters()
    info(f"changing the flows took {statistics.median(took):.0f} ms (median)")
    return side, {**figures, "ovs_repoint_ms": round(statistics.median(took), 1)}


def on_stopover(lab, net):
    """Measures Stopover."""
    info("building three hosts with appliances, and the same guests")
    board = stopover.Board(lab)
    hosts = [net.host(f"gw-{n}", board) for n in "abc"]

    def port(host, number, name):
        socket = lab.dir / f"{name}.sock"
        role = ron.tagged("vif", vni=VNI, mac=mac(number), addresses=[ip(number)], guard=True)
        host.vhost(name, socket, role, tso=True)
        return socket

    sockets = [port(h, GUEST, f"x-{h.name}") for h in hosts[:2]]
    sender_socket = port(hosts[2], SENDER, f"s-{hosts[2].name}")
    station = observer(lab, "").plug_vif(hosts[2])
    for h in hosts:
        h.start()
    side = Side(lab, "", hosts, sockets, sender_socket, station)
    stopover.wait_nodes(hosts, 3)
    return side, {**side.measure(), **stopover.accounting(hosts)}


def draw(theirs, ours):
    """Plots both side by side."""
    runs = [theirs.picture("OVS-DPDK, flows re-pointed at completion"), ours.picture("Stopover")]
    longest = max(end - start for start, end in (r.gap(-math.inf, math.inf) for r in runs))
    reach = 100 + 50 * round(longest * 1.5 / 50)
    paths = [OUTPUT / "migration-peer.svg", *([pathlib.Path(PLOT)] if PLOT else [])]
    for path in paths:
        arrival_plot.write(path, "Frames received during a live migration, with OVS-DPDK and with Stopover", runs,
                   -reach / 3, reach)
        info(f"plot: {path}")


def body(lab):
    guest.images()
    lab.hugepages(3 * max(ovs.MEMORY_MIB, stopover.MEMORY_MIB) + 64)
    net = fabric.Fabric(lab)
    theirs, figures = on_ovs(lab, net)
    complaints = lab.stop()
    if complaints:
        raise Failure("; ".join(complaints))
    ours, more = on_stopover(lab, net)
    draw(theirs, ours)
    return {**figures, **more}


options = argparse.ArgumentParser()
options.add_argument("--plot", default=os.environ.get("STOPOVER_PLOT"))
PLOT = options.parse_args().plot
scenario.main("migration-peer", body,
              must_be_zero=["lost", "duplicated", "reordered", "receiver_overflown", "ovs_receiver_overflown",
                            "unaccounted", "faulty_drops"],
              must_be_positive=["migrations", "received_before", "received_after", "ovs_migrations",
                                "ovs_received_before", "ovs_received_after"])
