#!/usr/bin/python3
"""A QEMU guest is live-migrated to and fro while its appliances forward with three workers, its NIC's queue served by
one worker and the underlay's by another, then by two others: no frame lost, doubled or out of its flow's order.

Three hosts. The moving guest X has a port on gw-a and on gw-b; a guest on each of the three sends it UDP streams of
several flows, so one sender is on the host it leaves, one on the host it goes to, one on a third, which also pings it by
IPv4 and IPv6. The parts, for each of which all appliances are started anew with another `lcores` while the guests run on:

    one     one worker serves all: what the added gap is measured against
    apart   X's queue on worker 1, the underlay's on 2, the other guest's on 3
    two     the underlay has two receive queues, on workers 1 and 2, and the guests' are on 3; each queue must receive
    busy    as `two`, with a busy process on each CPU (gaps may grow, frames may not be lost), at a third of the rate

Frames that the kernel lost in a cable (`wire_lost`) are no fault of an appliance: they are taken off `lost`, and named
place by place. Named as well, but not taken off, are frames that a sender's guest counted as sent and its appliance never
received (`sender_lost`: its vhost port lost them), those that found the receive ring of an underlay port full (`ring_lost`: its worker did not come in time, though it has RING frames' worth of it), and those that found X's
own ring full (`ring_full`: X did not come to take them).

`added_gap_ms_p50` is, over the moves of `apart` and `two`, the longest time that X's NIC took no frame, less QEMU's own
downtime (see migration-guests).

STOPOVER_PARTS: only these parts, separated by commas. STOPOVER_MIGRATIONS: how many moves in each. STOPOVER_RATE:
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
from lib.guests.migration import cidrs, ips, locks_left, mac, percentile, port, reported
from lib.lab import Failure, fabric, frame_loss, say
from lib.lab.process import Process
from lib.product import ron, stopover
from lib.traffic import stream

PARTS = {"one": 12, "apart": 16, "two": 16, "busy": 10} if not scenario.SHORT else {"apart": 3, "two": 3, "busy": 2}
PARTS = {p: n for p, n in PARTS.items() if p in os.environ.get("STOPOVER_PARTS", ",".join(PARTS)).split(",")}
MOVES = int(os.environ.get("STOPOVER_MIGRATIONS", 0))
RATE = int(os.environ.get("STOPOVER_RATE", 1_700))
BUSY = 3  # by this the rate is divided while the CPUs are busy: X must come to take frames before its ring is full
FLOWS = 8  # of each sender: enough that each of two underlay queues gets some of every sender's
TICK_US, PINGS_PER_S, IDLE_CAP_US = 4_000, 25, 500  # twelve lcores that wake up take CPU time from the guests
AFTER = 0.4  # seconds after each migration, until the next one begins
WORKERS = 3
RING = 8_192
SEVERAL = ("apart", "two")
LEAST_MOVES, LEAST_FRAMES = 30, 1_000_000  # of these together, when run by name
MOST_MOVES = 140  # of one part, on a machine that is too slow for so many frames
GAP_MS = 3  # what several workers may add to one worker's gap
WHOLE = not scenario.SHORT and not MOVES and len(PARTS) == 4
SETTLED = ("lost", "duplicated", "reordered")


class Run:
    """The lab, and what happened in it."""

    def __init__(self, lab):
        self.lab = lab
        guest.images()
        lab.hugepages(3 * stopover.MEMORY_MIB + 64)
        self.board = stopover.Board(lab)
        net = fabric.Fabric(lab)
        self.hosts = [net.host(f"gw-{n}", self.board, lcores=WORKERS + 1) for n in "abc"]
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
        """Deals the queues to workers as this part says, and starts the appliances anew if that is another way."""
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
        """Waits until all guests have found their appliances, and those know of all four."""
        for g in [self.x, *self.senders]:
            g.process.wait_for("its appliance", g.machine.connected, 10)
        stopover.wait_nodes(self.hosts, 4)
        for g in self.senders:
            for ip in ips(1):
                if g.ping(ip, count=3)["received"] == 0:
                    raise Failure(f"{g.name} does not reach {ip}")

    def part(self, name):
        """Some moves with this layout; returns their figures."""
        self.lay_out(name)
        self.connected()
        say(f"part {name}: {dict(self.hosts[0].config['lcores'])}")
        loops = [] if name != "busy" else [
            Process(self.lab, f"busy-{cpu}", ["taskset", "-c", cpu, "busybox", "sh", "-c", "while :; do :; done"])
            for cpu in sorted(os.sched_getaffinity(0))]
        try:
            return self._part(name)
        finally:
            for process in loops:
                process.kill()

    def _part(self, name):
        cables = frame_loss.Wires(self.wired)
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
        said, skipped = (sum(s[k] for s in sent) for k in ("sent", "skipped"))
        say(f"part {name}: {said} sent ({skipped} left out by senders that had no CPU), "
            f"{figures['frames'] / seconds:.0f} received a second, " + ", ".join(f"{k} {figures[k]}" for k in (*SETTLED, "ping_lost"))
            + f", added gap {percentile(known, 50):.1f} ms (p50), {max(known):.1f} ms at most")
        for host in self.hosts:
            drops = {d["reason"]: d["count"] for d in host.json("show", "drops") if d["count"]}
            say(f"    {host.name} dropped {drops or 'nothing'} since its start")
        self.outside["ring_full"] += self.ring_full() - full_before
        return figures

    def move(self, receiver):
        """X to the other host. Returns what was added to QEMU's downtime, in milliseconds."""
        self.at = 1 - self.at
        self.moves += 1
        to = self.hosts[self.at]
        told = self.x.migrate(self.sockets[self.at], ns=to.ns)
        time.sleep(AFTER)
        try:
            gap, early = reported(self.board, self.moves, to)
        except Failure as e:  # told, and counted; what comes after may tell more
            say(str(e))
            self.unreported += 1
            gap, early = math.inf, "not known"
        seen = receiver.mark()
        self.received = sum(s["received"] for s in seen.values())
        counts = ", ".join(f"{k} {sum(s[k] for s in seen.values())}" for k in ("missing", "duplicated", "reordered"))
        say(f"move {self.moves} to {to.name}: {told['total_ms']} ms, QEMU's downtime {told['downtime_ms']} ms, longest gap "
            f"{gap:.1f} ms; so far {counts}; let go without their end marker {early}")
        return max(0.0, gap - told["downtime_ms"])

    def passed(self, g, host):
        """Frames that a sender's NIC has sent, and that its appliance has received from it."""
        nic = int(g.run("cat /sys/class/net/eth0/statistics/tx_packets"))
        ports = host.json("show", "fwd", "stats", "all")["ports"]
        return nic, next(p["rx_packets"] for p in ports if p["name"] == f"s-{host.name}")

    def ring_full(self):
        """Frames that found X's ring full since the appliances' start."""
        ports = [p for host in self.hosts[:2] for p in host.json("show", "fwd", "stats", "all")["ports"]]
        return sum(p["tx_dropped"] for p in ports if p["name"].startswith("x-"))

    def lost_outside(self, cables, before, got):
        """Frames that cables lost; says where else frames were lost outside the packet path."""
        at_senders, in_rings, on_cables = {}, {}, cables.lost()
        for g, host, then in zip(self.senders, self.hosts, before):
            now = self.passed(g, host)
            if (n := (now[0] - then[0]) - (now[1] - then[1])) > 0:
                at_senders[g.name] = n
        for host in self.hosts:
            rings = [(received, lost) for dev, received, lost in frame_loss.rings(host) if dev == "ul0"]
            in_rings |= {f"{host.name} queue {n}": lost for n, (_, lost) in enumerate(rings) if lost}
            if host is not self.hosts[2]:  # where the streams end
                self.shares += [received / max(sum(r for r, _ in rings), 1) for received, _ in rings]
            say(f"    {host.name} received by underlay queue {[received for received, _ in rings]}")
        for key, places in zip(self.outside, (at_senders, on_cables, in_rings)):
            self.outside[key] += sum(places.values())
            if places:
                say(f"    {key}: {places}; lost by flow {[n for n in got['lost_of'].values() if n]}")
        return sum(on_cables.values())

    def close_accounting(self):
        """Of the appliances that run now."""
        for key, n in stopover.accounting(self.hosts).items():
            self.accounting[key] += n


def body(lab):
    say(f"building three hosts with an appliance of {WORKERS} workers and a guest each, and a guest that will move")
    run = Run(lab)
    parts = {}
    for name in PARTS:
        if parts and {"busy": "two"}.get(name, name) != run.layout:
            run.close_accounting()
        parts[name] = run.part(name)
    run.close_accounting()
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
