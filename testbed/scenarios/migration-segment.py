#!/usr/bin/python3
"""A station moves between the Linux bridges of two sites, there and back, while stations on both bridges and a
remote one send it streams with sequence numbers over IPv4 and IPv6: every frame arrives.

Behind gw-a and gw-b lies a site each, a namespace with a Linux bridge and a station that sends; a third sender is a
vif at gw-c. What moves, X, is a namespace; its cable is pulled from one bridge and plugged into the other. A
segment cannot tell what was delivered: so the board is told before (`stopover migration begin`, as an
orchestrator would), from then on copies of the last `window_ms` are kept, and the sender on X's own bridge is
drawn to a stand-in MAC, which its neighbour table must show, and must show no more when X has left.

X announces itself at its new place by gratuitous ARP and NA, and the gateway there completes the migration by itself
(`heard`), or `stopover migration complete` is called besides (`told`). A third way of ending is not among the
default ones: completed before X has said a word (`early`), when no bridge knows where it is. While the cable is in
neither bridge nobody can deliver; what was sent meanwhile is in the window. Frames from the beginning of the window
may come twice: `duplicated` and `reordered` are reported.

STOPOVER_MIGRATIONS: how often. STOPOVER_RATE: datagrams per second of each of the six streams.
STOPOVER_ENDINGS: by default `heard,told`, each in turn for a way there and back.
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
from lib.lab import fabric, say
from lib.product import stopover
from lib.traffic import capture, stream

VNI = 100
MIGRATIONS = int(os.environ.get("STOPOVER_MIGRATIONS", 10))
RATE = int(os.environ.get("STOPOVER_RATE", 200))
ENDINGS = os.environ.get("STOPOVER_ENDINGS", "heard,told").split(",")
UNPLUGGED = 0.15  # seconds in which X's cable is in neither bridge, beside what moving it takes
SILENT = 0.05  # seconds between the call that completes and X's first word
STAND_IN = "02:53:54:00:00:01"
X = 1


def mac(number):
    return f"02:00:00:00:00:{number:02x}"


def ips(number):
    return [f"192.168.0.{number}", f"fd01::{number}"]


class Run:
    """The lab, and what happened in it."""

    def __init__(self, lab):
        self.lab = lab
        lab.hugepages(3 * stopover.MEMORY_MIB + 64)
        self.board = stopover.Board(lab)
        net = fabric.Fabric(lab)
        self.hosts = [net.host(f"gw-{n}", self.board) for n in "abc"]
        self.sites = [fabric.Site(lab, host, f"site-{host.name[-1]}", vni=VNI) for host in self.hosts[:2]]
        self.x, *self.senders = [fabric.Tenant(lab, name, n, VNI, mac(n), [f"{ips(n)[0]}/24", f"{ips(n)[1]}/64"])
                                 for n, name in enumerate(("x", "s-a", "s-b", "s-c"), 1)]
        self.at = 0
        self.x.plug_site(self.sites[0])
        for sender, site in zip(self.senders, self.sites):
            sender.plug_site(site)
        self.senders[2].plug_vif(self.hosts[2])
        self.voice = self.x.ns.packet_socket("eth0")
        for host in self.hosts:
            host.start()
        stopover.wait_nodes(self.hosts, 1, or_more=True)
        for station in (self.senders[0], self.senders[1]):  # the undeclared stations are found once they speak
            for ip in ips(4):
                station.ns.run("ping", "-c", 2, "-i", 0.2, ip, check=False)
        self.announce()
        stopover.wait_nodes(self.hosts, 4)
        self.wire = [capture.Capture(lab, s.ns, "eth0", f"{s.name}-stand-in", f"ether dst {STAND_IN}")
                     for s in self.senders]
        self.gaps, self.unplugged, self.seen_stand_ins, self.untaken, self.returned = [], [], 0, 0, 0

    def announce(self):
        """X says where it is, as a VM does that has come."""
        v4, v6 = ips(X)
        self.voice.send(bytes(Ether(src=mac(X), dst="ff:ff:ff:ff:ff:ff")
                              / ARP(op=1, hwsrc=mac(X), psrc=v4, pdst=v4)))
        self.voice.send(bytes(Ether(src=mac(X), dst="33:33:00:00:00:01") / IPv6(src=v6, dst="ff02::1", hlim=255)
                              / ICMPv6ND_NA(tgt=v6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac(X))))

    def begin(self):
        """All that talks to X."""
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
        """Under which MACs a station has X."""
        return {word for ip in ips(X) for line in station.ns.ip("neigh", "show", ip).splitlines()
                for word in line.split() if word.count(":") == 5}

    def wait(self, true, timeout):
        """Whether it came true in time."""
        end = time.monotonic() + timeout
        while not true():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def active(self):
        return self.board.json("migration", "list", "--active")

    def migrate(self, number):
        """Once, to the other site."""
        source, target = self.at, 1 - self.at
        node, ending = f"{VNI}/{mac(X)}", ENDINGS[(number - 1) // 2 % len(ENDINGS)]
        near = self.senders[source]
        began = time.monotonic()
        self.board.cli("migration", "begin", "--node", node, "--from", self.hosts[source].name,
                       "--to", self.hosts[target].name)
        if self.wait(lambda: self.neighbour(near) == {STAND_IN}, 3):
            self.seen_stand_ins += 1
        else:
            say(f"{near.name} has X as {self.neighbour(near)}, {STAND_IN} was expected")
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
        if ending == "told":
            self.board.cli("migration", "complete", "--node", node)
        if not self.wait(lambda: not self.active(), 5):
            say(f"the migration is still under way: {self.active()}")
        ended = time.monotonic()
        if self.wait(lambda: self.neighbour(near) == {mac(X)}, 6):
            self.returned += 1
        else:
            say(f"{near.name} still has X as {self.neighbour(near)}")
            self.untaken += 1
        time.sleep(0.8)
        seen = self.receiver.mark()
        gap = max(s["gap_us"] for s in seen.values()) / 1e3
        self.gaps.append(gap)
        counts = ", ".join(f"{k} {sum(s[k] for s in seen.values())}" for k in ("missing", "duplicated", "reordered"))
        lacking = {s: v["missing"] for s, v in seen.items() if v["missing"]}
        say(f"migration {number} to {self.sites[target].name} ({ending}): locked {pulled - began:.1f} s, unplugged "
            f"{self.unplugged[-1]:.0f} ms, ended {(ended - pulled) * 1e3:.0f} ms after, longest gap {gap:.0f} ms; "
            f"so far {counts} {lacking or ''}")

    def end(self):
        """Stops all and counts."""
        seconds = time.monotonic() - self.began
        sent = {n: s.stop() for n, s in self.streams.items()}
        got = self.receiver.tally({n: s["sent"] for n, s in sent.items()}, patience=2)
        for n, s in sent.items():
            if got["lost_of"][n] or s["errors"]:
                say(f"stream {n}, {self.senders[n // 2].name} to {ips(X)[n % 2]}: {s['sent']} sent, "
                    f"{s['errors']} errors, {got['lost_of'][n]} lost")
        for c in self.wire:
            c.stop()
        drawn = [sum(1 for _ in RawPcapReader(str(c.path))) for c in self.wire]
        say(f"frames sent to the stand-in by {', '.join(s.name for s in self.senders)}: {drawn}")
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
            "stand_ins_left": self.untaken,
            "frames_to_stand_in": sum(drawn[:2]),
            "remote_to_stand_in": drawn[2],
            "locks_left": len(self.active()),
        }


def body(lab):
    say("building three hosts, two sites with a bridge, and the station that will move")
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
