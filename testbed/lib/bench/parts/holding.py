"""The cost of migrating nodes: cycles per frame of one worker while no node and while a hundred nodes are locked for a
migration and copies of their frames are held.

Decapsulation goes to a segment with a thousand stations, of which a hundred migrate. A segment port cannot tell what it
delivered, so from the lock on each of their frames is delivered and a copy of it is held for `WINDOW_MS`. The file
decides how many frames are for migrating nodes: none (`silent`), one in 64 (`rare`), or as many as for the others
(`fair`). Encapsulation (`remote`) goes to a thousand nodes elsewhere, of which a hundred are locked there. The same
appliance with the same file is measured without and with the locks, in turns: A B B A.

At the end all held frames are accounted for: they were released when their time or their migration was over, or sent on
to the new host (`rare` completes its last migrations), and none was dropped.
"""

import time

from ...lab import Failure, info
from ...product import ron
from ...traffic.frames import mac_text, write_pcap
from .. import charts, limits, result_files, sampling, workload
from ..dut import Gateway
from ..setup import FRAMES, Bench
from ..workload import VNI

STATIONS, MIGRATING = 1000, 100
AT_ONCE = 50  # nodes of one migration; the board allows 64
FILE = 6400  # frames: at one in 64, one for each migrating node
SHARES = {"silent": None, "rare": 64, "fair": STATIONS // MIGRATING}  # one frame in so many is for a migrating node
WINDOW_MS = 100  # less than a turn, so that copies are released during it
HOLD_MIB = 256
SECONDS = 0.25
PATIENCE_S = 10
MOST = {"holding_100_cost": 1.5, "holding_silent_cost": 1.05, "holding_remote_cost": 1.05}
BAD = ("rx_missed", "rx_errors", "rx_nombuf")
WAITS = ("leaving", "paused", "forwarding")


class Holder(Gateway):
    """An appliance, and the nodes that migrate: {host: their MACs}."""

    here, begun, sent_on = False, (), {}
    held_dropped = 0

    def begin(self):
        """Locks the nodes, and waits until the appliance has the locks."""
        parts = [(host, macs[n:n + AT_ONCE]) for host, macs in self.migrating.items()
                 for n in range(0, len(macs), AT_ONCE)]
        for host, macs in parts:
            nodes = [w for mac in macs for w in ("--node", f"{VNI}/{mac_text(mac)}")]
            self.board.cli("migration", "begin", *nodes, "--from", host, "--to", "far-0")
        self.begun = [f"{VNI}/{mac_text(macs[0])}" for _, macs in parts]
        self.wait_migrations(MIGRATING if self.here else 0)

    def end(self, how="abort"):
        """Ends the migrations. Returns how many frames were sent on."""
        self.held_dropped += sum(n["dropped"] for n in self.request("/v1/migrations")["nodes"])
        self.sent_on = {}
        for node in self.begun:
            self.board.cli("migration", how, "--node", node)
            self.look()
        self.begun = ()
        self.wait_migrations(0)
        return sum(self.sent_on.values())

    def look(self):
        """The migrating nodes. The appliance reports a node for some 100 ms after it has left."""
        nodes = self.request("/v1/migrations")["nodes"]
        self.sent_on.update((n["mac"], n["replayed"]) for n in nodes)
        return nodes

    def wait_migrations(self, leaving):
        """Waits until so many nodes are leaving and, if none is, no frame is held."""
        end = time.monotonic() + PATIENCE_S
        while True:
            nodes = self.look()
            now = sum(n["state"] in WAITS for n in nodes)
            held = sum(n["held_now_frames"] for n in nodes)
            board = self.request("/v1/board")
            if now == leaving and (leaving or not held) and board["acknowledged"] == board["revision"]:
                return
            self.process.check()
            if time.monotonic() > end:
                raise Failure(f"{self.name}: {now} migrating nodes, {leaving} expected; {held} frames held; {board}")
            time.sleep(0.02)

    def drops(self):
        return {d["reason"]: d["count"] for d in self.request("/v1/drops")}

    def copied(self):
        """Frames that were put into the hold; no other frames are copied here."""
        return self.request("/v1/fwd")["accounting"]["copied"]

    def counters(self):
        """Copies that were not needed are not lost."""
        stats = {p["name"]: p for p in self.request("/v1/ports/stats")}
        source, sink = (stats[n] for n in self.names)
        lost = sum(n for reason, n in self.drops().items() if reason != "window_over")
        return source["rx_packets"], sink["tx_packets"], lost + sum(source[k] for k in BAD) + sink["tx_errors"]


def station(number, n):
    """The MAC of station n behind appliance `number`."""
    return bytes([2, 3, number, 0, n >> 8, n & 0xFF])


def frames(world, number, share):
    """Datagrams from the nodes to the stations of appliance `number`. The first stations migrate; they are the
    destination of one frame in `share`."""
    for i, (_, datagram, inner) in enumerate(workload.decap_frames(world, number, FILE)):
        migrates = share and i % share == 0
        n = i // share % MIGRATING if migrates else MIGRATING + i * 7919 % (STATIONS - MIGRATING)
        mac = station(number, n)
        yield datagram[:len(datagram) - len(inner)] + mac + inner[6:]


def at_segment(lab, bench, name, number, share):
    """An appliance whose stations are behind a segment."""
    path = lab.dir / f"holding-{name}.pcap"
    write_pcap(path, frames(bench.world, number, share))
    h = Holder(lab, bench.ns, f"stopover-{name}", "decap", number, bench.world, bench.board, path, FILE)
    stations = [{"mac": mac_text(station(number, n)), "addresses": []} for n in range(STATIONS)]
    port = next(p for p in h.appliance.config["ports"] if p["name"] == "vm1")
    port["role"] = ron.tagged("segment", vni=VNI, stations=stations)
    h.appliance.config["migration"] = {"hold_mib": HOLD_MIB, "window_ms": WINDOW_MS}
    h.here, h.migrating = True, {h.name: [station(number, n) for n in range(MIGRATING)]}
    return h


def at_vif(lab, bench, name, number):
    """An appliance that sends to nodes elsewhere, of which some are locked there."""
    path = lab.dir / f"holding-{name}.pcap"
    w = bench.world
    write_pcap(path, (f for _, f in workload.encap_frames(w, number, FRAMES)))
    h = Holder(lab, bench.ns, f"stopover-{name}", "encap", number, w, bench.board, path, FRAMES)
    h.migrating = {}
    for n in range(MIGRATING):
        h.migrating.setdefault(f"far-{w.host(n)}", []).append(w.mac(n))
    return h


def measure(holders, rounds):
    """{name: ([turns without], [turns with migrating nodes])}, A B B A."""
    turns = {h.name: ([], []) for h in holders}
    for n in range(rounds):
        for h in holders:
            for locked in (False, True) if n % 2 == 0 else (True, False):
                h.resume()
                if locked and not h.begun:
                    h.begin()
                elif not locked and h.begun:
                    h.end()
                turns[h.name][locked].append(sampling.turn(h, SECONDS))
    return turns


def end_all(holders):
    """Ends all migrations. Returns (held, dropped, unaccounted), each over all appliances."""
    held = dropped = missing = 0
    for h in holders:
        h.resume()
        if not h.begun:
            h.begin()
            time.sleep(0.2)
        on = h.end("complete" if h.name.endswith("rare") else "abort")
        reasons = h.drops()
        lost = h.held_dropped + sum(reasons.get(k, 0) for k in ("hold_full", "hold_expired"))
        over, copied = reasons.get("window_over", 0), h.copied()
        info(f"{h.name}: {copied} frames held, {over} released, {on} sent on, {lost} dropped")
        if h.name.endswith("rare") and not on:
            raise Failure(f"{h.name}: no frame was sent on when its migrations were completed")
        held, dropped, missing = held + copied, dropped + lost, missing + abs(copied - over - on)
        h.pause()
    return held, dropped, missing


def body(lab, rounds):
    lab.hugepages(1024)
    bench = Bench(lab, tag="-holding")
    holders = [at_segment(lab, bench, name, number, share) for number, (name, share) in enumerate(SHARES.items(), 1)]
    holders.append(at_vif(lab, bench, "remote", len(holders) + 1))
    try:
        for h in holders:
            h.start()
        info(f"measuring {len(holders)} appliances without and with {MIGRATING} migrating nodes in {rounds} rounds, "
             f"{SECONDS} s each")
        turns = measure(holders, rounds)
        held, dropped, missing = end_all(holders)
    finally:
        for h in holders:
            h.wake()
    return report(turns, held, dropped, missing)


def report(turns, held, dropped, missing):
    figures = {"lost": 0, "held": held, "hold_dropped": dropped, "hold_missing": missing}
    table, paths = ["| Frames for migrating nodes | migrating nodes | Mpps | interval | cycles/frame | interval "
                    "| cost | cycles per frame held |", "|---|---:|---:|---|---:|---|---:|---:|"], {}
    what = {"silent": "none", "rare": "one in 64", "fair": "one in 10", "remote": "one in 10, sent to them"}
    for name, (without, with_) in turns.items():
        case = name.removeprefix("stopover-")
        name = f"holding_{case}_cost"
        sampling.put_ratio(figures, name, [t.cycles for t in with_], [t.cycles for t in without])
        for number, some in ((0, without), (MIGRATING, with_)):
            s = paths[f"{case}-{number}"] = sampling.summary(some)
            figures["lost"] += s["lost"]
            a, b, c, d = *s["mpps_interval"], *s["cycles_interval"]
            table.append(f"| {what[case]} | {number} | {s['mpps']:.2f} | {a:.2f} to {b:.2f} | {s['cycles']:.0f} "
                         f"| {c:.0f} to {d:.0f} |" + (" | |" if number == 0 else f" {figures[name]:.3f} | " + (
                             f"{(s['cycles'] - paths[f'{case}-0']['cycles']) * SHARES[case]:.0f} |"
                             if SHARES.get(case) else "|")))
    for end in ("", "_interval"):
        figures[f"holding_100_cost{end}"] = figures[f"holding_rare_cost{end}"]
    missed = limits.above(figures, MOST)
    missed += [f"{figures[k]} frames: {k}" for k in ("hold_dropped", "hold_missing") if figures[k]]
    missed += [] if held else ["nothing was held"]
    limits.record(figures, missed)
    groups = {f"frames for migrating nodes: {what[case]}": [
        (f"{number} migrating", s["cycles"], *s["cycles_interval"]) for number in (0, MIGRATING)
        for s in [paths[f"{case}-{number}"]]] for case in what}
    chart = charts.bars(f"Cycles per frame without and with {MIGRATING} migrating nodes", "cycles, one worker, frames of "
                        "64 bytes; median of turns with its interval", groups)
    info(result_files.save("\n".join(table), {"paths": paths, "figures": figures}, "holding", chart))
    return figures
