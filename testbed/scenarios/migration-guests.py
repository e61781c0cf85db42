#!/usr/bin/python3
"""A QEMU guest is live-migrated between two appliances a hundred times, while it receives UDP streams and pings and has
TCP connections; no orchestrator reports the migrations.

Three hosts. The migrating guest has a port on two of them, gw-a and gw-b, and is where its QEMU is connected. A guest
on each of the three hosts sends it a stream, so one sender is at the source, one at the target and one at a third host.
The third also has an idle and a busy TCP connection to it and pings it over IPv4 and IPv6.

Two gaps of a migration are measured. `added_gap_ms` is what Stopover adds: the longest time in which the guest's NIC
took no frame (its virtio ring, at the source or the target, as `stopover migration show` reports it), less the downtime
that QEMU reports. `guest_gap_ms` is the longest time without a datagram of a stream for the program in the guest, by
the clock of an observer: a namespace at gw-c to which the guest echoes what it receives (the guest's clock stands still
during the migration). It includes the time that the emulated guest needs: QEMU without KVM stalls it at the beginning
of the migration, and translates all its code again at the target, which takes about a tenth of a second here with any
switch (migration-peer has the same on OVS-DPDK). It is reported, not judged.

STOPOVER_MIGRATIONS: number of migrations. STOPOVER_RATE: datagrams per second of each sender. Among all scenarios both are
smaller: a guest that has a fifth of the CPU time which it has here alone still takes all that is sent.
"""

import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.guests.migration import VNI, locks_left, mac, percentile, port, reported
from lib.lab import Failure, fabric, info
from lib.lab.fabric import cidrs, ips
from lib.product import ron, stopover
from lib.traffic import stream

MIGRATIONS = int(os.environ.get("STOPOVER_MIGRATIONS", 12 if scenario.SHORT else 100))
RATE = int(os.environ.get("STOPOVER_RATE", 250 if scenario.SHORT else 1800))
# Waking an emulated guest costs more than its work: with bursts every 4 ms, 50 pings per second of each kind, and
# appliances that sleep up to 250 us, a third of two cores is left for starting and copying virtual machines.
TICK_US, PINGS_PER_S, IDLE_CAP_US = 4_000, 50, 250
FRAMES_PER_S = 5_000  # the least rate at the guest for a meaningful result
AFTER = 0.4  # seconds after each migration, until the next one begins
ADDED_P50_MS, ADDED_P99_MS = 5, 30  # limits, on two cores that also emulate the guests


class Run:
    """The hosts and guests, and what has been measured."""

    def __init__(self, lab):
        self.lab = lab
        guest.images()
        self.board, _, self.hosts = fabric.three_hosts(lab)
        for host in self.hosts:
            host.config["idle"] = ron.tagged("adaptive", cap_us=IDLE_CAP_US, poll_us=stopover.POLL_US)
        self.sockets = [port(host, 1, f"x-{host.name}", tso=True) for host in self.hosts[:2]]
        sockets = [port(host, n, f"s-{host.name}", tso=True) for n, host in enumerate(self.hosts, 2)]
        self.observer = fabric.Tenant(lab, "observer", 5, VNI, mac(5), cidrs(5))
        self.observer.plug_vif(self.hosts[2])
        for host in self.hosts:
            host.start()
        self.x = guest.Guest(lab, "x", self.sockets[0], mac(1), ns=self.hosts[0].ns)
        self.senders = [guest.Guest(lab, f"s-{host.name[-1]}", socket, mac(n), ns=host.ns)
                        for n, (host, socket) in enumerate(zip(self.hosts, sockets), 2)]
        for n, g in enumerate([self.x, *self.senders], 1):
            g.booted(timeout=90)
            g.address(*cidrs(n))
        stopover.wait_nodes(self.hosts, 5)
        self.figures = {}
        self.downtimes, self.gaps, self.own_gaps, self.took = [], [], [], []
        self.added, self.guest_added, self.late = [], [], []

    def begin(self):
        """Starts all traffic to the migrating guest."""
        for g in self.senders:
            for ip in ips(1):
                if g.ping(ip, count=3)["received"] == 0:
                    raise Failure(f"{g.name} does not reach {ip}")
        s_c = self.senders[2]
        self.watched = stream.Receiver(guest.Shell(self.lab, self.observer.ns))
        self.receiver = stream.Receiver(self.x, observer=ips(5)[0])
        self.server = stream.TcpServer(self.x)
        self.client = stream.TcpClient(s_c, ips(1)[0], kib_s=128)
        self.pingers = [stream.Pinger(s_c, ip, rate=PINGS_PER_S) for ip in ips(1)]
        self.streams = [stream.Sender(g, ips(1)[n % 2], stream=n, rate=RATE, tick_us=TICK_US)
                        for n, g in enumerate(self.senders, 1)]
        self.began = time.monotonic()
        time.sleep(1)
        self.receiver.mark()
        self.watched.mark()

    def migrate(self, number):
        """Migrates it to the other host."""
        to = number % 2
        began = time.monotonic()
        report = self.x.migrate(self.sockets[to], ns=self.hosts[to].ns)
        time.sleep(AFTER)
        seen, watched = self.receiver.mark(), self.watched.mark()
        self.took.append(time.monotonic() - began)
        gap = max(s["gap_us"] for s in watched.values()) / 1e3
        self.gaps.append(gap)
        self.own_gaps.append(max(s["gap_us"] for s in seen.values()) / 1e3)
        downtime = report["downtime_ms"]
        self.downtimes.append(downtime)
        self.guest_added.append(max(0.0, gap - downtime))
        nic_gap, early = reported(self.board, number, self.hosts[to])
        self.added.append(max(0.0, nic_gap - downtime))
        self.late.append(max(0.0, max(s["late_us"] for s in watched.values()) / 1e3 - downtime))
        counts = ", ".join(f"{k} {sum(s[k] for s in seen.values())}" for k in ("missing", "duplicated", "reordered"))
        info(f"migration {number} to {self.hosts[to].name}: {report['total_ms']} ms, QEMU's downtime "
             f"{downtime} ms (stopped {report['paused_ms']} ms), longest gap {nic_gap:.1f} ms at its NIC, {gap:.1f} ms at the "
             f"program in it ({self.own_gaps[-1]:.1f} by its own clock); so far {counts}; reordered by stream "
             f"{[s['reordered'] for s in seen.values()]}, released without their end marker {early}")

    def end(self):
        """Ends the traffic; returns the figures."""
        seconds = time.monotonic() - self.began
        sent = {n: s.stop() for n, s in enumerate(self.streams, 1)}
        pings = [p.stop() for p in self.pingers]
        tcp = stream.tcp_tally(self.client, self.server)
        got = self.receiver.tally({n: s["sent"] for n, s in sent.items()})
        for n, s in sent.items():
            info(f"stream {n}: {s['sent']} sent, {s['sent'] / s['us'] * 1e6:.0f} per second, {s['skipped']} skipped, "
                 f"{got['lost_of'][n]} lost")
        info(f"a migration with its pauses took {statistics.mean(self.took):.1f} s")
        info(f"TCP: {tcp}")
        info(f"pings: {pings}")
        return {
            "migrations": len(self.downtimes),
            "frames_per_s": round(got["received"] / seconds),
            **{k: got[k] for k in ("lost", "duplicated", "reordered")},
            "receiver_overflown": got["overflown"],
            **{f"ping_{k}": sum(p[k] for p in pings) for k in ("sent", "lost", "duplicated")},
            "tcp_resets": tcp["resets"],
            "tcp_retransmits": tcp["retransmits"],
            "tcp_loss_probes": tcp["loss_probes"],
            "tcp_damaged": tcp["damaged"] + tcp["missing"],
            "tcp_bytes": tcp["bytes"],
            "longest_gap_ms": round(max(a + d for a, d in zip(self.added, self.downtimes)), 1),
            "guest_gap_ms": round(max(self.gaps), 1),
            "vmm_downtime_ms": statistics.median(self.downtimes),
            "added_gap_ms_p50": round(percentile(self.added, 50), 1),
            "added_gap_ms_p99": round(percentile(self.added, 99), 1),
            "guest_added_gap_ms_p50": round(percentile(self.guest_added, 50), 1),
            "guest_added_gap_ms_p99": round(percentile(self.guest_added, 99), 1),
            # The same, without the time in which the sender itself did not send.
            "guest_added_late_ms_p50": round(percentile(self.late, 50), 1),
            "guest_added_late_ms_p99": round(percentile(self.late, 99), 1),
            "locks_left": locks_left(self.board),
        }


def body(lab):
    info("building three hosts with an appliance and a guest each, and a fourth guest that migrates")
    run = Run(lab)
    info("the guests run; starting the streams, connections and pings")
    run.begin()
    for number in range(1, MIGRATIONS + 1):
        run.migrate(number)
    figures = run.end()
    accounting = stopover.accounting(run.hosts)
    over = int(figures["added_gap_ms_p50"] > ADDED_P50_MS) + int(figures["added_gap_ms_p99"] > ADDED_P99_MS)
    return {**figures, **accounting, "over_budget": over, "too_slow": int(figures["frames_per_s"] < FRAMES_PER_S)}


scenario.main("migration-guests", body,
              must_be_zero=["lost", "duplicated", "reordered", "receiver_overflown", "ping_lost", "ping_duplicated",
                            "tcp_resets", "tcp_damaged", "locks_left", "unaccounted", "faulty_drops"],
              must_be_zero_alone=["over_budget", "too_slow"],
              must_be_positive=["migrations", "frames_per_s", "tcp_bytes", "ping_sent"])
