#!/usr/bin/python3
"""A QEMU guest is live-migrated repeatedly while its appliances forward with three workers: no frame is lost,
duplicated or out of order within its flow.

One worker serves the queue of the guest's NIC and another one or two the underlay's. Three hosts: the migrating guest X
has a port on gw-a and on gw-b. A guest on each of the three sends it UDP streams of several flows, so one sender is at
the source, one at the target and one at a third host, which also pings it over IPv4 and IPv6. For each part all
appliances are restarted with another `lcores` while the guests run on:

    one     one worker serves all: the reference for the added gap
    apart   X's queue on worker 1, the underlay's on 2, the other guest's on 3
    two     the underlay has two receive queues, on workers 1 and 2, and each must receive; the guests' are on 3
    busy    as `two`, with a busy process on each CPU (gaps may grow, but no frame may be lost), at a third of the rate

Frames that the kernel lost in a cable (`wire_lost`) are no fault of an appliance: they are subtracted from `lost`, and
printed by place. Other losses outside the packet path are printed, too, but not subtracted: frames that the guest of a
sender counted as sent and its appliance never received (`sender_lost`: its vhost port lost them); frames that found the
receive ring of an underlay port full (`ring_lost`: its worker did not come in time, though the ring has room for RING
frames); and frames that found X's own ring full (`ring_full`: X did not take them).

`added_gap_ms_p50` is, over the moves of `apart` and `two`, the longest time in which X's NIC took no frame, less QEMU's
downtime (see migration-guests).

STOPOVER_PARTS: only these parts, separated by commas. STOPOVER_MIGRATIONS: number of moves in each. STOPOVER_RATE:
datagrams per second of each of the three senders.
"""

import math
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.guests.migration import locks_left, mac, percentile, port, reported
from lib.lab import Failure, fabric, frame_loss, info
from lib.lab.fabric import cidrs, ips
from lib.lab.process import Process
from lib.product import ron, stopover
from lib.traffic import stream

PARTS = {"one": 12, "apart": 16, "two": 16, "busy": 10} if not scenario.SHORT else {"apart": 3, "two": 3, "busy": 2}
PARTS = {p: n for p, n in PARTS.items() if p in os.environ.get("STOPOVER_PARTS", ",".join(PARTS)).split(",")}
MOVES = int(os.environ.get("STOPOVER_MIGRATIONS", 0))
RATE = int(os.environ.get("STOPOVER_RATE", 700 if scenario.SHORT else 1_700))
BUSY = 3  # the rate is divided by this while the CPUs are busy: X must take frames before its ring is full
FLOWS = 8  # of each sender: enough that both underlay queues get some of every sender
TICK_US, PINGS_PER_S, IDLE_CAP_US = 4_000, 25, 500  # twelve lcores that wake up cost CPU time of the guests
AFTER = 0.4  # seconds after each migration, until the next one begins
WORKERS = 3
RING = 8_192
SEVERAL = ("apart", "two")
LEAST_MOVES, LEAST_FRAMES = 30, 1_000_000  # of these parts together, when run by name
MOST_MOVES = 140  # of a part, on a slow machine
GAP_MS = 3  # what several workers may add to one worker's gap
WHOLE = not scenario.SHORT and not MOVES and len(PARTS) == 4
SETTLED = ("lost", "duplicated", "reordered")


class Run:
    """The hosts and guests, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        guest.images()
        self.board, net, self.hosts = fabric.three_hosts(lab, lcores=WORKERS + 1)
        for host in self.hosts:
            host.config["idle"] = ron.tagged("adaptive", cap_us=IDLE_CAP_US, poll_us=stopover.POLL_US)
        self.sockets = [port(host, 1, f"x-{host.name}") for host in self.hosts[:2]]
        sockets = [port(host, n, f"s-{host.name}") for n, host in enumerate(self.hosts, 2)]
        self.wired = [host.ns for host in self.hosts] + [net.switch]
        self.layout = None
        self.lay_out(next(iter(PARTS)))
        self.x = guest.Guest(lab, "x", self.sockets[0], mac(1), ns=self.hosts[0].ns, reconnect=True)
        self.senders = [guest.Guest(lab, f"s-{host.name[-1]}", socket, mac(n), ns=host.ns, reconnect=True)
                        for n, (host, socket) in enumerate(zip(self.hosts, sockets), 2)]
        for n, g in enumerate([self.x, *self.senders], 1):
            g.booted(timeout=90)
            g.address(*cidrs(n))
        self.at = 0
        self.moves = self.unreported = 0  # of all parts
        self.shares = []  # of each receiving underlay queue, of all its host's frames
        self.outside = {"sender_lost": 0, "wire_lost": 0, "ring_lost": 0, "ring_full": 0}
        self.accounting = {"unaccounted": 0, "faulty_drops": 0}

    def lay_out(self, part):
        """Assigns the queues to workers for a part, and restarts the appliances if the layout is another."""
        layout = {"busy": "two"}.get(part, part)
        if layout == self.layout:
            return
        for host in self.hosts:
            if self.layout is not None and (why := host.process.stop()):
                raise Failure(why)
            x, s = ([f"{kind}-{host.name}:0"] if any(p["name"] == f"{kind}-{host.name}" for p in host.config["ports"])
                    else [] for kind in "xs")
            host.queues("ul0", 2 if layout == "two" else 1, ring=RING)
            lcores = {
                "one": {1: ["ul0:0", *x, *s]},
                "apart": {1: x or s, 2: ["ul0:0"], 3: s if x else []},
                "two": {1: ["ul0:0"], 2: ["ul0:1"], 3: [*x, *s]},
            }[layout]
            host.config["lcores"] = ron.Map({lcore: queues for lcore, queues in lcores.items() if queues})
            host.start()
        self.layout = layout

    def connected(self):
        """Waits until all guests are connected to their appliances, and these have all four nodes."""
        for g in [self.x, *self.senders]:
            g.process.wait_for("its appliance", g.machine.connected, 10)
        stopover.wait_nodes(self.hosts, 4)
        for g in self.senders:
            for ip in ips(1):
                if g.ping(ip, count=3)["received"] == 0:
                    raise Failure(f"{g.name} does not reach {ip}")

    def part(self, name):
        """Runs the moves of a part; returns their figures."""
        self.lay_out(name)
        self.connected()
        info(f"part {name}: {dict(self.hosts[0].config['lcores'])}")
        loops = [] if name != "busy" else [
            Process(self.lab, f"busy-{cpu}", ["taskset", "-c", cpu, "busybox", "sh", "-c", "while :; do :; done"])
            for cpu in sorted(os.sched_getaffinity(0))]
        try:
            return self._part(name)
        finally:
            for process in loops:
                process.kill()

    def _part(self, name):
        cables = frame_loss.Cables(self.wired)
        self.received = 0
        for host in self.hosts:
            frame_loss.rings(host)
        before = [self.passed(g, host) for g, host in zip(self.senders, self.hosts)]
        full_before = self.ring_full()
        receiver = stream.Receiver(self.x)
        pingers = [stream.Pinger(self.senders[2], ip, rate=PINGS_PER_S) for ip in ips(1)]
        rate = RATE // BUSY if name == "busy" else RATE
        streams = [stream.Sender(g, ips(1)[n % 2], stream=100 * n, rate=rate, tick_us=TICK_US, flows=FLOWS)
                   for n, g in enumerate(self.senders, 1)]
        time.sleep(0.5)
        added, began = [], time.monotonic()
        enough = LEAST_FRAMES / len(SEVERAL) * 1.01 if WHOLE and name in SEVERAL else 0
        while len(added) < (MOVES or PARTS[name]) or (self.received < enough and len(added) < MOST_MOVES):
            added.append(self.move(receiver))
        known = [a for a in added if a != math.inf] or [0.0]
        seconds = time.monotonic() - began
        sent = [s.stop() for s in streams]
        pings = [p.stop() for p in pingers]
        got = receiver.tally({100 * n + f: count for n, s in enumerate(sent, 1) for f, count in enumerate(s["sent_of"])})
        lost_outside = self.lost_outside(cables, before, got)
        figures = {
            "migrations": len(added), "frames": got["received"], "lost": max(0, got["lost"] - lost_outside),
            "duplicated": got["duplicated"], "reordered": got["reordered"], "receiver_overflown": got["overflown"],
            "ping_sent": sum(p["sent"] for p in pings), "ping_lost": sum(p["lost"] for p in pings), "added": known,
        }
        count, skipped = (sum(s[k] for s in sent) for k in ("sent", "skipped"))
        info(f"part {name}: {count} sent ({skipped} skipped by senders without CPU), "
             f"{figures['frames'] / seconds:.0f} received per second, "
             + ", ".join(f"{k} {figures[k]}" for k in (*SETTLED, "ping_lost")) + f", added gap {percentile(known, 50):.1f} ms (p50), {max(known):.1f} ms at most")
        for host in self.hosts:
            drops = {d["reason"]: d["count"] for d in host.json("show", "drops") if d["count"]}
            info(f"    {host.name} dropped {drops or 'nothing'} since its start")
        self.outside["ring_full"] += self.ring_full() - full_before
        return figures

    def move(self, receiver):
        """Migrates X to the other host. Returns the gap that was added to QEMU's downtime, in milliseconds."""
        self.at = 1 - self.at
        self.moves += 1
        to = self.hosts[self.at]
        report = self.x.migrate(self.sockets[self.at], ns=to.ns)
        time.sleep(AFTER)
        try:
            gap, early = reported(self.board, self.moves, to)
        except Failure as e:  # counted; later moves may show more
            info(str(e))
            self.unreported += 1
            gap, early = math.inf, "not known"
        seen = receiver.mark()
        self.received = sum(s["received"] for s in seen.values())
        counts = ", ".join(f"{k} {sum(s[k] for s in seen.values())}" for k in ("missing", "duplicated", "reordered"))
        info(f"move {self.moves} to {to.name}: {report['total_ms']} ms, QEMU's downtime {report['downtime_ms']} ms, longest "
             f"gap {gap:.1f} ms; so far {counts}; released without their end marker {early}")
        return max(0.0, gap - report["downtime_ms"])

    def passed(self, g, host):
        """(frames that a sender's NIC has sent, frames that its appliance has received from it)."""
        nic = int(g.run("cat /sys/class/net/eth0/statistics/tx_packets"))
        ports = host.json("show", "fwd", "stats", "all")["ports"]
        return nic, next(p["rx_packets"] for p in ports if p["name"] == f"s-{host.name}")

    def ring_full(self):
        """Frames that found X's ring full, since the appliances were started."""
        ports = [p for host in self.hosts[:2] for p in host.json("show", "fwd", "stats", "all")["ports"]]
        return sum(p["tx_dropped"] for p in ports if p["name"].startswith("x-"))

    def lost_outside(self, cables, before, got):
        """Frames lost in cables. Prints where else frames were lost outside the packet path."""
        at_senders, in_rings, on_cables = {}, {}, cables.lost()
        for g, host, then in zip(self.senders, self.hosts, before):
            now = self.passed(g, host)
            if (n := (now[0] - then[0]) - (now[1] - then[1])) > 0:
                at_senders[g.name] = n
        for host in self.hosts:
            rings = [(received, lost) for dev, received, lost in frame_loss.rings(host) if dev == "ul0"]
            in_rings |= {f"{host.name} queue {n}": lost for n, (_, lost) in enumerate(rings) if lost}
            if host is not self.hosts[2]:  # the streams end at the other two
                self.shares += [received / max(sum(r for r, _ in rings), 1) for received, _ in rings]
            info(f"    {host.name} received by underlay queue {[received for received, _ in rings]}")
        for key, places in zip(self.outside, (at_senders, on_cables, in_rings)):
            self.outside[key] += sum(places.values())
            if places:
                info(f"    {key}: {places}; lost by flow {[n for n in got['lost_of'].values() if n]}")
        return sum(on_cables.values())

    def add_accounting(self):
        """Adds the accounting of the running appliances."""
        for key, n in stopover.accounting(self.hosts).items():
            self.accounting[key] += n


def body(lab):
    info(f"building three hosts with an appliance of {WORKERS} workers and a guest each, and a guest that migrates")
    run = Run(lab)
    parts = {}
    for name in PARTS:
        if parts and {"busy": "two"}.get(name, name) != run.layout:
            run.add_accounting()
        parts[name] = run.part(name)
    run.add_accounting()
    calm = [figures for name, figures in parts.items() if name != "busy"]
    several = [figures for name, figures in parts.items() if name in SEVERAL]
    busy = parts.get("busy")

    def total(of, key):
        return sum(figures[key] for figures in of)

    def gap(of):
        return round(percentile([a for figures in of for a in figures["added"]], 50), 1) if of else None

    one = gap([parts["one"]]) if "one" in parts else None
    figures = {
        **{k: total(several, k) for k in ("migrations", "frames")},
        **{k: total(calm, k) for k in (*SETTLED, "ping_sent", "ping_lost")},
        "added_gap_ms_p50": gap(several),
        "one_worker_added_gap_ms_p50": one,
        **{f"{name}_added_gap_ms_p50": gap([parts[name]]) for name in SEVERAL if name in parts},
        "gap_over": int(one is not None and bool(several) and gap(several) > one + GAP_MS),
    }
    if busy:
        figures |= {f"busy_{k}": busy[k] for k in ("migrations", "frames", *SETTLED, "ping_lost")}
        figures["busy_added_gap_ms_p50"] = gap([busy])
    return {
        **figures, **run.outside,
        "receiver_overflown": total(parts.values(), "receiver_overflown"),
        "idle_queues": sum(share < 0.02 for share in run.shares),
        "few": int(WHOLE and (figures["migrations"] < LEAST_MOVES or figures["frames"] < LEAST_FRAMES)),
        "unreported": run.unreported, "locks_left": locks_left(run.board), **run.accounting,
    }


scenario.main("migration-workers", body,
              must_be_zero=[*SETTLED, "ping_lost", *(f"busy_{k}" for k in SETTLED if "busy" in PARTS), "receiver_overflown",
                            "idle_queues", "few", "unreported", "locks_left", "unaccounted", "faulty_drops"],
              must_be_zero_alone=["gap_over"],
              must_be_positive=["migrations", "frames", "ping_sent",
                                *(f"busy_{k}" for k in ("migrations", "frames") if "busy" in PARTS)])
