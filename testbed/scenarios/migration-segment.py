#!/usr/bin/python3
"""A station moves between the Linux bridges of two sites, there and back, while stations on both bridges and a remote
one send it streams with sequence numbers over IPv4 and IPv6: every frame arrives.

Behind gw-a and gw-b there is a site each: a namespace with a Linux bridge and a station that sends. A third sender is a
vif at gw-c. The station that moves, X, is a namespace; its cable is unplugged from one bridge and plugged into the
other. A segment port cannot tell what was delivered, so an orchestrator calls `stopover migration begin` before. From
then on copies of the last `window_ms` are held, and the sender on X's own bridge sends to a stand-in MAC. Its neighbour
table must have this MAC, and must not have it any more when X has left.

X announces itself at its new site by gratuitous ARP and NA. The gateway there completes the migration by itself
(`detected`), or `stopover migration complete` is called as well (`completed`). A third ending is not among the default
ones: completed before X has sent (`early`), when no bridge has learned it. While the cable is in no bridge, nothing can be
delivered; the frames of that time are in the window. Frames from the beginning of the window may arrive twice:
`duplicated` and `reordered` are reported.

STOPOVER_MIGRATIONS: number of migrations. STOPOVER_RATE: datagrams per second of each of the six streams.
STOPOVER_ENDINGS: by default `detected,completed`, each in turn for a move there and back.
"""

import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scapy.all import ARP, Ether, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6, RawPcapReader

from lib import scenario
from lib.guests import guest
from lib.lab import fabric, info
from lib.lab.fabric import ips, mac
from lib.product import stopover
from lib.traffic import capture, stream

VNI = 100
MIGRATIONS = int(os.environ.get("STOPOVER_MIGRATIONS", 10))
RATE = int(os.environ.get("STOPOVER_RATE", 200))
ENDINGS = os.environ.get("STOPOVER_ENDINGS", "detected,completed").split(",")
UNPLUGGED = 0.15  # seconds in which X's cable is in no bridge, besides the time of moving it
SILENT = 0.05  # seconds between the completing call and X's first frame
STAND_IN = "02:53:54:00:00:01"
X = 1


class Run:
    """The hosts, sites and stations, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        self.board, _, self.hosts = fabric.three_hosts(lab)
        self.sites = [fabric.Site(lab, host, f"site-{host.name[-1]}", vni=VNI) for host in self.hosts[:2]]
        self.x, *self.senders = [fabric.Tenant.numbered(lab, name, VNI, n)
                                 for n, name in enumerate(("x", "s-a", "s-b", "s-c"), 1)]
        self.at = 0
        self.x.plug_site(self.sites[0])
        for sender, site in zip(self.senders, self.sites):
            sender.plug_site(site)
        self.senders[2].plug_vif(self.hosts[2])
        self.socket = self.x.ns.packet_socket("eth0")
        for host in self.hosts:
            host.start()
        stopover.wait_nodes(self.hosts, 1, or_more=True)
        for station in (self.senders[0], self.senders[1]):  # undeclared stations are learned when they send
            for ip in ips(4):
                station.ns.run("ping", "-c", 2, "-i", 0.2, ip, check=False)
        self.announce()
        stopover.wait_nodes(self.hosts, 4)
        self.wire = [capture.Capture(lab, s.ns, "eth0", f"{s.name}-stand-in", f"ether dst {STAND_IN}")
                     for s in self.senders]
        self.gaps, self.unplugged, self.seen_stand_ins, self.stand_ins_left = [], [], 0, 0

    def announce(self):
        """X announces itself, as a VM does after its migration."""
        v4, v6 = ips(X)
        self.socket.send(bytes(Ether(src=mac(X), dst="ff:ff:ff:ff:ff:ff")
                              / ARP(op=1, hwsrc=mac(X), psrc=v4, pdst=v4)))
        self.socket.send(bytes(Ether(src=mac(X), dst="33:33:00:00:00:01") / IPv6(src=v6, dst="ff02::1", hlim=255)
                              / ICMPv6ND_NA(tgt=v6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac(X))))

    def begin(self):
        """Starts all traffic to X."""
        for s in self.senders:
            for ip in ips(X):
                s.ns.run("ping", "-c", 2, "-i", 0.1, ip)
        self.receiver = stream.Receiver(guest.Shell(self.lab, self.x.ns))
        shells = [guest.Shell(self.lab, s.ns) for s in self.senders]
        self.streams = {2 * n + family: stream.Sender(shell, ips(X)[family], stream=2 * n + family, rate=RATE)
                        for n, shell in enumerate(shells) for family in (0, 1)}
        self.began = time.monotonic()
        time.sleep(0.5)
        self.receiver.mark()

    def neighbour(self, station):
        """The MACs that a station has for X."""
        return {word for ip in ips(X) for line in station.ns.ip("neigh", "show", ip).splitlines()
                for word in line.split() if word.count(":") == 5}

    def wait(self, true, timeout):
        """Waits; returns whether it became true in time."""
        end = time.monotonic() + timeout
        while not true():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def active(self):
        return self.board.json("migration", "list", "--active")

    def migrate(self, number):
        """Moves X to the other site."""
        source, target = self.at, 1 - self.at
        node, ending = f"{VNI}/{mac(X)}", ENDINGS[(number - 1) // 2 % len(ENDINGS)]
        near = self.senders[source]
        began = time.monotonic()
        self.board.cli("migration", "begin", "--node", node, "--from", self.hosts[source].name,
                       "--to", self.hosts[target].name)
        if self.wait(lambda: self.neighbour(near) == {STAND_IN}, 3):
            self.seen_stand_ins += 1
        else:
            info(f"{near.name} has X as {self.neighbour(near)}, {STAND_IN} was expected")
        time.sleep(0.2)
        pulled = time.monotonic()
        self.sites[source].unplug(self.x, self.sites[target])
        time.sleep(UNPLUGGED)
        self.sites[target].replug(self.x)
        self.unplugged.append((time.monotonic() - pulled) * 1e3)
        self.at = target
        if ending == "early":
            self.board.cli("migration", "complete", "--node", node)
            time.sleep(SILENT)
        self.announce()
        if ending == "completed":
            self.board.cli("migration", "complete", "--node", node)
        if not self.wait(lambda: not self.active(), 5):
            info(f"the migration is still active: {self.active()}")
        ended = time.monotonic()
        if not self.wait(lambda: self.neighbour(near) == {mac(X)}, 6):
            info(f"{near.name} still has X as {self.neighbour(near)}")
            self.stand_ins_left += 1
        time.sleep(0.8)
        seen = self.receiver.mark()
        gap = max(s["gap_us"] for s in seen.values()) / 1e3
        self.gaps.append(gap)
        counts = ", ".join(f"{k} {sum(s[k] for s in seen.values())}" for k in ("missing", "duplicated", "reordered"))
        lacking = {s: v["missing"] for s, v in seen.items() if v["missing"]}
        info(f"migration {number} to {self.sites[target].name} ({ending}): locked {pulled - began:.1f} s, unplugged "
             f"{self.unplugged[-1]:.0f} ms, ended {(ended - pulled) * 1e3:.0f} ms after, longest gap {gap:.0f} ms; "
             f"so far {counts} {lacking or ''}")

    def end(self):
        """Ends the traffic; returns the figures."""
        seconds = time.monotonic() - self.began
        sent = {n: s.stop() for n, s in self.streams.items()}
        got = self.receiver.tally({n: s["sent"] for n, s in sent.items()}, patience=2)
        for n, s in sent.items():
            if got["lost_of"][n] or s["errors"]:
                info(f"stream {n}, {self.senders[n // 2].name} to {ips(X)[n % 2]}: {s['sent']} sent, "
                     f"{s['errors']} errors, {got['lost_of'][n]} lost")
        for c in self.wire:
            c.stop()
        drawn = [sum(1 for _ in RawPcapReader(str(c.path))) for c in self.wire]
        info(f"frames sent to the stand-in by {', '.join(s.name for s in self.senders)}: {drawn}")
        self.wait(lambda: not self.active(), 5)
        return {
            "migrations": len(self.gaps),
            "frames_per_s": round(sum(s["sent"] for s in sent.values()) / seconds),
            **{k: got[k] for k in ("lost", "duplicated", "reordered")},
            "send_errors": sum(s["errors"] for s in sent.values()),
            "receiver_overflown": got["overflown"],
            "longest_gap_ms": round(max(self.gaps), 1),
            "unplugged_ms": round(statistics.median(self.unplugged), 1),
            "stand_ins_missing": len(self.gaps) - self.seen_stand_ins,
            "stand_ins_left": self.stand_ins_left,
            "frames_to_stand_in": sum(drawn[:2]),
            "remote_to_stand_in": drawn[2],
            "locks_left": len(self.active()),
        }


def body(lab):
    info("building three hosts, two sites with a bridge, and the station that moves")
    run = Run(lab)
    run.begin()
    for number in range(1, MIGRATIONS + 1):
        run.migrate(number)
    figures = run.end()
    slow = int(figures["frames_per_s"] < 1000)
    return {**figures, **stopover.accounting(run.hosts), "too_slow": slow}


scenario.main("migration-segment", body,
              must_be_zero=["lost", "send_errors", "receiver_overflown", "stand_ins_missing", "stand_ins_left",
                            "remote_to_stand_in", "locks_left", "unaccounted", "faulty_drops"],
              must_be_zero_alone=["too_slow"],
              must_be_positive=["migrations", "frames_to_stand_in"])
