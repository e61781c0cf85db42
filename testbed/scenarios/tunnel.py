#!/usr/bin/python3
"""Three hosts that must encrypt what they send each other: nothing is lost at the start, while keys are replaced, or while the
board is away; hosts that were restarted recover; and no plain text is on the wire.

Each host has two VMs. UDP streams with sequence numbers run between all pairs over both IP versions, broadcast and multicast
too. Run by its name there are two variants: an IPv4 underlay and one worker on each host, an IPv6 underlay and two. Otherwise
it is an IPv4 underlay, and two workers on one of the hosts. In each variant

- all hosts start at once, and the streams begin when they know all nodes. Later all tunnels are closed, and streams begin that
  need them: their first frames wait for the tunnel;
- keys are replaced while streams run, by one host of each pair, by the other, or by both at once;
- the board is stopped, and killed; keys are replaced while it is away;
- each appliance is stopped, and killed, and started again; and it hands over to another process (run by its name only).

`lost`, of `frames`: datagrams between stations of hosts that were not restarted meanwhile; `lost_in_rekey` are those of them
that were lost while keys were replaced (`rekeys` times). `recover_ms_p99`: for each pair of stations one of which is at a host
that was restarted (`recoveries` pairs), the time from the moment when the host forwards again until the first datagram after
which none is missing.

The whole underlay is captured all the time. `plaintext_bytes_on_wire`: bytes of the streams' payload and of pairs of station
addresses in it; `plaintext_bytes_at_station` is what the same search finds in a capture at one of the stations.
`plain_datagrams`: VXLAN that was not sealed. `captured_frames`, `esp_frames`, `handshake_datagrams`: what else there was.
"""

import concurrent.futures
import itertools
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.guests.migration import percentile
from lib.lab import Failure, fabric, info, until
from lib.product import ron, stopover
from lib.traffic import capture, mesh, plaintext

VNI = 100
# Name, workers of each host.
VARIANTS = [("ipv4", (1, 2, 1))] if scenario.SHORT else [("ipv4", (1, 1, 1)), ("ipv6", (2, 2, 2))]
UNDERLAY_MTU = 1620  # the 1500 bytes of the stations, and what IPv6 and the seal add
RATE = 130 if scenario.SHORT else 260  # datagrams per second of each of the six stations
TO = 13  # streams of a station: two addresses of each of the five others, broadcast, and two groups
COLD_STARTS, REKEYS = (1, 12) if scenario.SHORT else (5, 100)  # in each variant
RESTARTS = [(0, "stopped"), (1, "killed")] if scenario.SHORT else list(itertools.product(range(3), ("stopped", "killed", "replaced")))
BOARD = ["killed"] if scenario.SHORT else ["stopped", "killed"]
# Streams before a restart; and in all, if an appliance or the board is restarted meanwhile.
BEFORE_S, STREAMS_S, BOARD_S = (0.7, 4.2, 2.5) if scenario.SHORT else (1.0, 6.0, 4.0)
RECOVER_MS, NEVER_MS = 1_000, 10_000
LEAST = {"esp_frames": 3_000, "frames": 3_000} if scenario.SHORT else {"esp_frames": 100_000, "frames": 100_000}
SUMMED = ("frames", "lost", "lost_in_rekey", "duplicated", "reordered", "damaged", "rekeys", "cold_starts", "recoveries",
          "restarts", "unaccounted", "faulty_drops", "crashes", "captured_frames", "esp_frames", "handshake_datagrams",
          "plain_datagrams", "plaintext_bytes_on_wire", "plaintext_bytes_at_station")


def end(process, how):
    """Ends a process."""
    if how == "killed":
        process.kill()
    elif why := process.stop():
        raise Failure(why)


class Run:
    """The hosts and stations of one variant, and what has been counted."""

    def __init__(self, lab, underlay, workers):
        self.lab = lab
        self.board, self.net, self.hosts = fabric.three_hosts(
            lab, spare_mib=64 + stopover.MEMORY_MIB, underlay_mtu=UNDERLAY_MTU, v4=underlay == "ipv4", v6=underlay == "ipv6",
            tunnels={"mode": ron.word("required")})
        for host, n in zip(self.hosts, workers):
            host.lcores(n + 1)
            host.queues("ul0", n)
        self.stations, self.at = [], {}
        for n, host in enumerate(2 * self.hosts, 1):
            self.stations.append(fabric.Tenant.numbered(lab, f"vm{n}", VNI, n).plug_vif(host))
            self.at[n] = host
        self.wire = capture.Capture(lab, self.net.switch, "br0", f"underlay-{underlay}")
        self.inside = capture.Capture(lab, self.stations[0].ns, "eth0", f"station-{underlay}")
        self.figures = mesh.Tally(dict.fromkeys(SUMMED, 0))
        self.recover_ms = []

    def streams(self, seconds):
        """Streams between all stations, for so many seconds."""
        return mesh.Streams(self.lab, self.stations, count=max(1, int(seconds * RATE / TO)), rate=RATE)

    def count(self, streams, restarted=None):
        """Waits for the end of streams and adds their counts, without losses of stations at the host that was restarted
        meanwhile. Returns what was lost."""
        total, lost = streams.finish(), 0
        for (a, b), pair in streams.pairs.items():
            if restarted not in (self.at[a], self.at[b]):
                lost += pair["lost"]
        self.figures.add({"frames": total["expected"], "lost": lost,
                          "damaged": total["damaged"] + total["astray"] + total["leaked_between_networks"],
                          "duplicated": total["duplicated"], "reordered": total["reordered"]})
        return lost

    def start(self):
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda host: host.start(), self.hosts))
        stopover.wait_nodes(self.hosts, len(self.stations))
        lost = self.count(self.streams(1))
        info(f"three appliances run; the first streams lost {lost}")

    def cold_start(self):
        """Streams that need tunnels which are not there."""
        self.each_pair(lambda a, b: a.cli("tunnel", "close", b.name))
        time.sleep(0.3)
        lost = self.count(self.streams(1))
        self.figures["cold_starts"] += 1
        info(f"streams that began without a tunnel lost {lost}")

    def each_pair(self, do):
        """Does it for each pair of hosts."""
        for a, b in itertools.combinations(self.hosts, 2):
            do(a, b)

    def sessions(self):
        """How many sessions the tunnel of each pair of hosts has had, by the host that has counted fewer."""
        rows, found = {host: host.tunnels() for host in self.hosts}, {}

        def fewer(a, b):
            found[a.name, b.name] = min(r.get(other.name, {"sessions": 0})["sessions"]
                                        for r, other in ((rows[a], b), (rows[b], a)))
        self.each_pair(fewer)
        return found

    def rekey(self, turn):
        """Replaces the keys of all tunnels. Returns how many sessions that were, and the seconds until all had one."""
        before = self.sessions()

        def order(a, b):
            for host, other in [(a, b), (b, a)][slice(*[(0, 1), (1, 2), (0, 2)][turn % 3])]:
                host.cli("tunnel", "rekey", other.name)
        self.each_pair(order)
        took = until("all pairs have new keys", lambda: all(n > before[pair] for pair, n in self.sessions().items()))
        return sum(n - before[pair] for pair, n in self.sessions().items()), took

    def rekeys(self):
        """Replaces keys under load, until that has been often enough."""
        seconds, done, longest = 4 if scenario.SHORT else 12, 0, 0
        while done < REKEYS:
            streams, began, turn = self.streams(seconds), time.monotonic(), 0
            while time.monotonic() - began < seconds - 1 and done < REKEYS:
                more, took = self.rekey(turn)
                done, longest, turn = done + more, max(longest, took), turn + 1
            lost = self.count(streams)
            self.figures["lost_in_rekey"] += lost
            info(f"{done} sessions agreed on, the slowest turn in {longest * 1e3:.0f} ms; lost {lost}")
        self.figures["rekeys"] += done

    def board_away(self, how):
        """The board ends and is started again."""
        streams = self.streams(BOARD_S)
        time.sleep(BEFORE_S)
        end(self.board.process, how)
        more, took = self.rekey(0)
        self.figures["rekeys"] += more
        self.board.start()
        lost = self.count(streams)
        info(f"the board was {how}; without it, {more} tunnels had new keys within {took * 1e3:.0f} ms; lost {lost}")

    def restart(self, host, how):
        """An appliance ends and is started again."""
        host.process.check()
        self.figures["unaccounted"] += host.unaccounted()
        host.save_counters()
        streams = self.streams(STREAMS_S)
        time.sleep(BEFORE_S)
        ended = time.time()
        if how == "replaced":
            host.end_take_over(host.begin_take_over())
        else:
            end(host.process, how)
            host.start()
        forwards = time.time()
        lost = self.count(streams, host)
        found = []
        for (a, b), pair in streams.pairs.items():
            here = self.at[a], self.at[b]
            if host in here and here != (host, host):
                found.append(NEVER_MS if pair["cut"] else max(0, ((pair["jump"] or 0) - forwards) * 1e3))
        self.recover_ms += found
        self.figures.add({"recoveries": len(found), "restarts": 1})
        info(f"{host.name} was {how}, and forwarded after {forwards - ended:.1f} s; its {len(found)} pairs recovered within "
             f"{max(found):.0f} ms; other pairs lost {lost}")

    def end(self):
        """Adds the accounting of all, and what the captures have."""
        self.figures.add(stopover.accounting(self.hosts))
        for p in self.lab.processes:
            if "panicked at" in p.log.read_text(errors="replace"):
                info(f"{p.name} has a panic")
                self.figures["crashes"] += 1
        sought = plaintext.Sought(self.stations)
        found, kinds = sought.search(self.wire.stop().path)
        inside, _ = sought.search(self.inside.stop().path)
        info(f"on the wire: {dict(kinds)}, {found} bytes of plain text; at a station: {inside}")
        self.figures.add({"captured_frames": sum(kinds.values()), "esp_frames": kinds["esp"],
                          "handshake_datagrams": kinds["handshake"], "plain_datagrams": kinds["plain"],
                          "plaintext_bytes_on_wire": found, "plaintext_bytes_at_station": inside})


def one(lab, underlay, workers):
    """Runs a variant."""
    info(f"{underlay} underlay, {workers} workers")
    run = Run(lab, underlay, workers)
    run.start()
    for _ in range(COLD_STARTS):
        run.cold_start()
    run.rekeys()
    for how in BOARD:
        run.board_away(how)
    for n, how in RESTARTS:
        run.restart(run.hosts[n], how)
    lost = run.count(run.streams(1))
    info(f"afterwards, streams lost {lost}")
    run.end()
    return run


def body(lab):
    total, recover_ms = mesh.Tally(), []
    for n, (underlay, workers) in enumerate(VARIANTS):
        if n and (complaints := lab.restart()):
            raise Failure("; ".join(complaints))
        run = one(lab, underlay, workers)
        total.add(run.figures)
        recover_ms += run.recover_ms
    p99 = round(percentile(recover_ms, 99))
    too_few = [f"{k} {total[k]}" for k, least in {**LEAST, "rekeys": REKEYS}.items() if total[k] < least]
    for what in too_few:
        info(f"too few: {what}")
    return {**total, "recover_ms_p99": p99, "slow": int(p99 > RECOVER_MS), "too_few": len(too_few)}


scenario.main("tunnel", body,
              must_be_zero=["lost", "lost_in_rekey", "duplicated", "damaged", "plaintext_bytes_on_wire", "plain_datagrams",
                            "unaccounted", "faulty_drops", "crashes", "too_few"],
              must_be_positive=["frames", "rekeys", "cold_starts", "recoveries", "restarts", "captured_frames", "esp_frames",
                                "handshake_datagrams", "plaintext_bytes_at_station"],
              must_be_zero_alone=["reordered", "slow"])
