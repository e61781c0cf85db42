#!/usr/bin/python3
"""A QEMU guest with two queue pairs is live-migrated between two appliances with three workers, while on both ports are
added and deleted and queues are moved between workers: no frame is lost, duplicated or out of order within its flow.

Three hosts with a station each. The appliances gw-a and gw-b have three workers, two underlay queues, and a port with
two queue pairs for the guest X, which has two vCPUs and uses both pairs. All stations send X streams of several flows,
and X sends to all stations, from both of its vCPUs. A flow is what has one inner 5-tuple. All the time, on gw-a and
gw-b in turn:

    ports    `stopover port add`, a front end connects and sends (testbed/front-ends), `stopover port delete`; every
             second port is deleted under a front end that runs
    queues   the configuration file gets another `lcores`, `stopover reload`: queues of X, of the underlay and of the
             station move to other workers
    stalls   the guest gets no CPU time for up to 0.2 s, before, while and after it migrates

First, with the same changes, another guest has one vCPU, so it enables one of its port's two pairs. Stations at all
hosts ping it and send it flows: it must receive everything. At the end, gw-a has no `lcores` any more, and two stations
on one worker send more and more to the third host, until a queue moves by load.

Frames that the kernel lost in a cable (`wire_lost`) are no fault of an appliance: they are subtracted from `lost`. Not
subtracted, but counted, are frames that found the receive ring of an underlay port full (`ring_lost`: its worker did
not come in time, though the ring has room for RING frames), and those that X did not take from its ring (`ring_full`).
Only the last part, which sends until workers are at their limit, subtracts `ring_lost`, too, and `handoff_lost`: frames
that found the ring to another worker full, which had no CPU time (three workers share two CPUs with the senders).

STOPOVER_MIGRATIONS: number of moves of X. STOPOVER_RATE: datagrams per second of each station.
"""

import os
import pathlib
import random
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests import guest
from lib.guests.stalls import Stalls
from lib.guests.migration import VNI, locks_left, mac, port, reported
from lib.lab import Failure, fabric, frame_loss, info, until
from lib.lab.fabric import cidrs, ips
from lib.product import ron, stopover
from lib.traffic import front_ends, stream

MIGRATIONS = int(os.environ.get("STOPOVER_MIGRATIONS", 4 if scenario.SHORT else 30))
RATE = int(os.environ.get("STOPOVER_RATE", 200 if scenario.SHORT else 400))
RATE_OF_X = RATE // 3  # to each station
FLOWS = 8  # of each station, enough that all underlay queues get some
WORKERS, PAIRS, UNDERLAY_QUEUES = 3, 2, 2
RING = 8_192  # of each underlay queue
TICK_US, PINGS_PER_S, IDLE_CAP_US = 4_000, 50, 250
AFTER = 0.4  # seconds after each migration, until the next one begins
BETWEEN_S = 0.2  # between two changes of ports or queues
ONE_OF_TWO_S = 3 if scenario.SHORT else 10
X, ONE, STATIONS = 1, 2, 3  # the first station's number is STATIONS
WHOLE = not scenario.SHORT and "STOPOVER_MIGRATIONS" not in os.environ
LEAST = {"migrations": 30, "frames": 1_000_000, "ports_added": 300, "queue_moves": 600} if WHOLE else {
    "migrations": 1, "frames": 5_000, "ports_added": 5, "queue_moves": 10}
LONGEST_S = 720  # no more moves after it
LEAST_LOAD, MOST_LOAD, LOAD_S = 12_000, 80_000, 3  # frames per second of each of two stations, until a queue moves
FIRST_DEVICE = 50  # virtual devices of ports that are added


class Changes(threading.Thread):
    """Adds and deletes ports, and moves queues, on each of the hosts in turn, until `stop`."""

    def __init__(self, lab, hosts):
        super().__init__(daemon=True)
        self.lab, self.hosts = lab, hosts
        self.ends = front_ends.FrontEnds(lab)
        self.dice = random.Random(1)
        self.done = threading.Event()
        self.counts = {"ports_added": 0, "ports_deleted": 0, "reloads": 0, "reloads_refused": 0}
        self.failed = None

    def run(self):
        try:
            n = 0
            while not self.done.is_set():
                host = self.hosts[n % len(self.hosts)]
                self.port(host, n)
                self.done.wait(BETWEEN_S)
                self.queues(host)
                self.done.wait(BETWEEN_S)
                n += 1
        except Exception as e:  # whatever it is, the main thread must end
            self.failed = e

    def check(self):
        """Raises what has ended it."""
        if self.failed is not None:
            raise self.failed

    def stop(self):
        """Ends it after the present change."""
        self.done.set()
        self.join()
        self.check()

    def port(self, host, n):
        """A port is added, its front end starts and ends, and it is deleted."""
        number = 1 + n % 200
        f = front_ends.front_end(number, self.lab.dir / f"v{number}-{host.name}.vhost", huge=False)
        self.ends.request("add", **f)  # connects as soon as the socket is there
        host.cli("port", "add", f["name"], "--device", f"net_vhost{FIRST_DEVICE + number},iface={f['socket']}",
                 "--vni", VNI, "--mac", f["mac"], "--address", f["ip"])
        self.counts["ports_added"] += 1
        self.ends.wait("added", f["name"])
        if n // len(self.hosts) % 2 == 0:
            self.ends.remove(f["name"])
            host.cli("port", "delete", f["name"])
        else:
            host.cli("port", "delete", f["name"])
            self.ends.remove(f["name"], abrupt=True)
        self.counts["ports_deleted"] += 1

    def queues(self, host):
        """Queues move: the workers have others by the file, which is read again."""
        host.config["lcores"] = layout(host, self.dice)
        host.write()
        self.counts["reloads"] += 1
        try:
            host.cli("reload")
        except Failure as e:
            self.counts["reloads_refused"] += 1
            info(f"{host.name}: {e}")


def layout(host, dice):
    """Queues of a host by worker, each on any of them."""
    lcores = {n: [] for n in range(1, 1 + WORKERS)}
    for p in host.config["ports"]:
        for queue in range(p.get("rxq", 1)):
            lcores[dice.randint(1, WORKERS)].append(f"{p['name']}:{queue}")
    return ron.Map({lcore: queues for lcore, queues in lcores.items() if queues})


class Run:
    """The hosts, stations and guests, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        guest.images()
        lab.hugepages(3 * stopover.MEMORY_MIB + 64)
        self.board, net = stopover.Board(lab), fabric.Fabric(lab)
        self.hosts = [net.host(name, self.board, lcores=1 + WORKERS, queues=UNDERLAY_QUEUES) for name in ("gw-a", "gw-b")]
        self.hosts.append(net.host("gw-c", self.board))
        self.sockets = [port(host, X, f"x-{host.name}", pairs=PAIRS, rxq=PAIRS) for host in self.hosts[:2]]
        one = port(self.hosts[0], ONE, "one", pairs=PAIRS, rxq=PAIRS)
        self.stations = [self.station(n, host) for n, host in enumerate(self.hosts, STATIONS)]
        self.other = self.station(STATIONS + len(self.hosts), self.hosts[0])
        self.wired = [host.ns for host in self.hosts] + [net.switch] + [s.ns for s in (*self.stations, self.other)]
        for host in self.hosts:
            host.config["idle"] = ron.tagged("adaptive", cap_us=IDLE_CAP_US, poll_us=stopover.POLL_US)
            host.queues("ul0", 1 if host is self.hosts[2] else UNDERLAY_QUEUES, ring=RING)
            host.start()
        self.x = guest.Guest(lab, "x", self.sockets[0], mac(X), ns=self.hosts[0].ns, cpus=PAIRS, pairs=PAIRS)
        self.one = guest.Guest(lab, "one", one, mac(ONE), ns=self.hosts[0].ns, pairs=PAIRS)
        for n, g, pairs in ((X, self.x, PAIRS), (ONE, self.one, 1)):
            g.booted(timeout=90)
            g.address(*cidrs(n))
            if (found := int(g.run("ls -d /sys/class/net/eth0/queues/rx-* | wc -l"))) != pairs:
                raise Failure(f"guest {g.name} uses {found} queue pairs, {pairs} were expected")
        stopover.wait_nodes(self.hosts, 3 + len(self.stations))
        for s in self.stations:
            for ip in (*ips(X), *ips(ONE)):
                until(f"{s.name} reaches {ip}", lambda s=s, ip=ip: s.run(f"ping -c 1 -W 1 {ip}", check=False)[0] == 0, 15)
        self.at = self.moves = self.unreported = 0
        self.outside = {"wire_lost": 0, "ring_lost": 0, "ring_full": 0}
        self.stalls = Stalls(self.x)
        self.changes = Changes(lab, self.hosts[:2])

    def station(self, n, host):
        """Adds station n to a host."""
        station = fabric.Tenant(self.lab, f"s{n}-{host.name[-1]}", n, VNI, mac(n), cidrs(n))
        station.plug_vif(host)
        return guest.Shell(self.lab, station.ns)

    def one_of_two(self):
        """The guest that has enabled one of two pairs receives from everywhere. Returns what arrived and was lost."""
        cables = self.count_from_here()
        receiver = stream.Receiver(self.one)
        pingers = [stream.Pinger(s, ip, rate=PINGS_PER_S) for s in self.stations for ip in ips(ONE)]
        senders = {n: stream.Sender(s, ips(ONE)[n % 2], stream=100 * n, rate=RATE // 2, tick_us=TICK_US, flows=FLOWS)
                   for n, s in enumerate(self.stations, 1)}
        time.sleep(ONE_OF_TWO_S)
        sent = {n: s.stop() for n, s in senders.items()}
        pings = [p.stop() for p in pingers]
        got = receiver.tally(by_flow(sent))
        lost = got["lost"] + sum(p["lost"] for p in pings) - self.lost_outside(cables)[0]
        figures = {"one_of_two_frames": got["received"] + sum(p["received"] for p in pings),
                   "one_of_two_lost": max(0, lost), "one_of_two_duplicated": got["duplicated"],
                   "one_of_two_reordered": got["reordered"]}
        info(f"one of two queue pairs: {figures}; lost by flow {some(got['lost_of'])}, pings {[p['lost'] for p in pings]}")
        self.one.machine.quit()
        return figures

    def begin(self):
        """Starts all traffic from and to X."""
        self.cables = self.count_from_here()
        self.to_x = stream.Receiver(self.x)
        self.to_stations = [stream.Receiver(s) for s in self.stations]
        # In the guest first: it has CPU time to start programs while nothing arrives.
        self.from_x = {n: stream.Sender(self.x, ips(STATIONS + n - 1)[n % 2], stream=100 * n, rate=RATE_OF_X,
                                        tick_us=TICK_US, flows=FLOWS // 2, cpu=n % PAIRS)
                       for n in range(1, 1 + len(self.stations))}
        self.from_stations = {
            n: stream.Sender(s, ips(X)[n % 2], stream=100 * n, rate=RATE, tick_us=TICK_US, flows=FLOWS)
            for n, s in enumerate(self.stations, 1)}
        self.began = time.monotonic()
        self.stalls.start()
        time.sleep(0.5)

    def migrate(self):
        """Migrates X to the other host."""
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
            gap, early = 0, "not known"
        marks = [self.to_x.mark(), *(r.mark() for r in self.to_stations)]
        self.received = sum(s["received"] for seen in marks for s in seen.values())
        so_far = "; ".join(", ".join(f"{k} {sum(s[k] for s in seen)}" for k in ("missing", "duplicated", "reordered"))
                           for seen in (list(marks[0].values()), [s for seen in marks[1:] for s in seen.values()]))
        info(f"move {self.moves} to {to.name}: {report['total_ms']} ms, QEMU's downtime {report['downtime_ms']} ms, longest "
             f"gap {gap:.1f} ms; so far to X {so_far}; from it; released without their end marker {early}; "
             f"{self.changed()}")

    def is_enough(self):
        """Whether all that was to be tried was tried, or the time is over."""
        tried = {"migrations": self.moves, "frames": self.received, **self.changed()}
        return self.moves >= MIGRATIONS and (all(tried[key] >= 1.01 * n for key, n in LEAST.items())
                                             or time.monotonic() - self.began > LONGEST_S)

    def changed(self):
        """What the changes have done so far."""
        moved = [len(re.findall(r"queue \d+ moves to lcore", host.process.log.read_text(errors="replace")))
                 for host in self.hosts[:2]]
        return {**self.changes.counts, "queue_moves": sum(moved)}

    def end(self):
        """Ends the traffic; returns the figures."""
        seconds, stalls = time.monotonic() - self.began, self.stalls.stop()
        from_stations = {n: s.stop() for n, s in self.from_stations.items()}
        from_x = {n: s.stop() for n, s in self.from_x.items()}
        got = [self.to_x.tally(by_flow(from_stations)),
               *(r.tally(by_flow({n: from_x[n]})) for n, r in enumerate(self.to_stations, 1))]
        total = {k: sum(g[k] for g in got) for k in ("received", "lost", "duplicated", "reordered", "overflown")}
        total["lost"] = max(0, total["lost"] - self.lost_outside(self.cables)[0])
        for name, g in zip(("X", *(s.name for s in self.stations)), got):
            reordered = {f: s["reordered"] for f, s in g["streams"].items()}
            info(f"to {name}: {g['received'] / seconds:.0f} received per second; lost by flow {some(g['lost_of'])}, "
                 f"reordered {some(reordered)}")
            for line in late(g["streams"], from_stations if name == "X" else from_x):
                info(f"    {line}")
        skipped = sum(s["skipped"] for s in (*from_stations.values(), *from_x.values()))
        info(f"{skipped} not sent in time by senders without CPU")
        return {"migrations": self.moves, "stalls": stalls, "frames": total["received"],
                **{k: total[k] for k in ("lost", "duplicated", "reordered")}, "receiver_overflown": total["overflown"]}

    def by_load(self):
        """Two stations on one worker send more and more until one of their queues moves to another. Returns the figures."""
        host = self.hosts[0]
        ports = [f"vm{n}:0" for n in (STATIONS, STATIONS + len(self.hosts))]
        others = [f"{p['name']}:{q}" for p in host.config["ports"] for q in range(p.get("rxq", 1))]
        host.config["lcores"] = ron.Map({1: ports, 2: [queue for queue in others if queue not in ports]})
        for _ in range(2):  # with these queues; then without the key, with which nothing moves by itself
            host.write()
            host.cli("reload")
            host.config.pop("lcores", None)
        cables, moved, rate = self.count_from_here(), self.changed()["queue_moves"], LEAST_LOAD
        handoff = self.handoff_full()
        receiver, senders, sent = stream.Receiver(self.stations[2]), (self.stations[0], self.other), {}
        while (moves := self.changed()["queue_moves"] - moved) == 0 and rate <= MOST_LOAD:
            streams = {len(sent) + n: stream.Sender(s, ips(STATIONS + 2)[n % 2], stream=100 * (len(sent) + n), rate=rate,
                                                    tick_us=1_000, flows=FLOWS) for n, s in enumerate(senders, 1)}
            time.sleep(LOAD_S)
            info(f"{rate} frames per second from each of {len(senders)} stations")
            sent |= {n: s.stop() for n, s in streams.items()}
            rate = int(rate * 1.5)
        got = receiver.tally(by_flow(sent))
        handoff = self.handoff_full() - handoff
        self.outside["handoff_lost"] = handoff
        lost = max(0, got["lost"] - sum(self.lost_outside(cables)) - handoff)
        return {"load_moves": moves, "load_frames": got["received"], "load_lost": lost,
                **{f"load_{key}": got[key] for key in ("duplicated", "reordered", "overflown")}}

    def handoff_full(self):
        """Frames that found the ring to another worker full, at all hosts."""
        drops = [d for host in self.hosts for d in host.json("show", "drops")]
        return sum(d["count"] for d in drops if d["reason"] == "handoff_full")

    def ring_full(self):
        """Frames that found X's ring full."""
        ports = [p for host in self.hosts[:2] for p in host.json("show", "fwd", "stats", "all")["ports"]]
        return sum(p["tx_dropped"] for p in ports if p["name"].startswith("x-"))

    def count_from_here(self):
        """Begins to count what is lost outside of the packet path."""
        for host in self.hosts:
            frame_loss.rings(host)
        return frame_loss.Cables(self.wired)

    def lost_outside(self, cables):
        """Frames lost in cables, and those that found a receive ring full. Prints where."""
        on_cables, in_rings = cables.lost(), {}
        for host in self.hosts:
            rings = [row[1:] for row in frame_loss.rings(host) if row[0] == "ul0"]
            in_rings |= {f"{host.name} queue {n}": lost for n, (_, lost) in enumerate(rings) if lost}
            info(f"    {host.name} received by underlay queue {[received for received, _ in rings]}")
        for key, places in zip(self.outside, (on_cables, in_rings)):
            self.outside[key] += sum(places.values())
            if places:
                info(f"    {key}: {places}")
        return sum(on_cables.values()), sum(in_rings.values())


def late(streams, senders):
    """A line for each of the first datagrams that came after a later one, with the time of its sending."""
    lines = []
    for flow, counts in streams.items():
        for sent_us, sequence, overtaken_by in counts["late"]:
            at = (senders[flow // 100]["began_unix_us"] + sent_us) / 1e6
            lines.append(f"flow {flow}: {sequence}, sent at {time.strftime('%H:%M:%S', time.gmtime(at))}.{int(at * 1e3) % 1000:03}, "
                         f"came after {overtaken_by}")
    return lines


def by_flow(senders):
    """What senders sent, by stream."""
    return {100 * n + flow: count for n, sent in senders.items() for flow, count in enumerate(sent["sent_of"])}


def some(counts):
    """Those that are not 0."""
    return {key: n for key, n in counts.items() if n}


def body(lab):
    info(f"building two hosts with an appliance of {WORKERS} workers, a third host, a guest that migrates, and one with "
         "one of two queue pairs")
    run = Run(lab)
    run.changes.start()
    figures = run.one_of_two()
    run.begin()
    while run.moves == 0 or not run.is_enough():
        run.changes.check()
        run.migrate()
    run.changes.stop()
    figures = {**run.end(), **figures, **run.changed()}
    run.outside["ring_full"] = run.ring_full()
    run.x.machine.quit()
    figures |= run.by_load()
    few = [f"{key} is {figures[key]}, {n} were expected" for key, n in LEAST.items() if figures[key] < n]
    for line in few:
        info(line)
    return {**figures, **run.outside, "few": len(few), "unreported": run.unreported, "locks_left": locks_left(run.board),
            **stopover.accounting(run.hosts)}


scenario.main("workers", body,
              must_be_zero=["lost", "duplicated", "reordered", "one_of_two_lost", "one_of_two_duplicated",
                            "one_of_two_reordered", "load_lost", "load_duplicated", "load_reordered", "load_overflown",
                            "receiver_overflown", "few", "unreported", "locks_left", "unaccounted",
                            "faulty_drops"],
              must_be_positive=["migrations", "frames", "one_of_two_frames", "ports_added", "ports_deleted",
                                "queue_moves", "stalls", "load_frames", *(["load_moves"] if not scenario.SHORT else [])])
