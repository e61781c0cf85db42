"""Traffic between all pairs of stations, and what arrived: UDP streams with sequence numbers, pings, iperf3."""

import concurrent.futures
import json
import re
import subprocess
import time

from ..lab import REPO, Failure, info
from ..lab.process import Process

TOOL = REPO / "testbed" / "tools" / "streams.py"
EVERYBODY = 0
NOTHING = {"unique": 0, "copies": 0, "late": 0, "highest": -1, "jump": None}  # what arrived of a stream
GROUPS = ["239.77.1.1", "ff15::7701"]


class Station:
    """A namespace that sends and receives. `id` is unique among all stations of a run, `network` is the network of the
    station, `ips` are its addresses without prefix length."""

    def __init__(self, ns, number, network, ips, dev="eth0"):
        self.ns, self.id, self.network, self.ips, self.dev = ns, number, network, list(ips), dev
        self.name = ns.name


def _pairs(stations):
    return [(a, b) for a in stations for b in stations if a is not b and a.network == b.network]


# Errors of a client that connects when the iperf3 server has closed its listening socket after a test and has not yet
# opened the next one.
BETWEEN_TESTS = ("busy", "reset by peer", "refused")


class Tally(dict):
    """Counts; missing ones are 0."""

    def __missing__(self, key):
        return 0

    def add(self, other):
        for k, v in other.items():
            self[k] += v


class Streams:
    """UDP streams that run while the scenario does other things: between all pairs of each network, to every address,
    `count` datagrams each, and broadcast and multicast to all. `rate` is datagrams per second and station.

    When they have finished, `pairs` has the counts of each pair of station ids: lost, duplicated, reordered; `jump`, the
    last time (time.time()) when a datagram came before which others are missing, or None; `cut`, streams of which the last
    datagram is missing."""

    def __init__(self, lab, stations, count=100, rate=400, broadcast=True, multicast=True):
        self.lab, self.procs, self.pairs = lab, {}, {}
        for s in stations:
            to = [[peer.id, ip] for a, peer in _pairs(stations) if a is s for ip in peer.ips]
            if broadcast and any(":" not in ip for ip in s.ips):
                to.append([EVERYBODY, "255.255.255.255"])
            if multicast:
                to += [[EVERYBODY, g] for g in GROUPS if any((":" in g) == (":" in ip) for ip in s.ips)]
            job = {"id": s.id, "network": s.network, "dev": s.dev, "count": count, "rate": rate, "to": to,
                   "groups": GROUPS}
            self.procs[s.id] = (s, to, Process(lab, f"streams-{s.name}", ["/usr/bin/python3", TOOL, json.dumps(job)],
                                               ns=s.ns, pipes=True))
        for _, _, p in self.procs.values():
            _read_line(p, "ready")
        for _, _, p in self.procs.values():
            _write_line(p, "go")

    def finish(self, linger=1.0):
        """Waits until all is sent. Returns lost, duplicated, reordered, leaked_between_networks, astray, damaged, sent
        and expected."""
        for _, _, p in self.procs.values():
            _read_line(p, "sent")
        time.sleep(linger)
        reports = {}
        for number, (_, _, p) in self.procs.items():
            _write_line(p, "stop")
            reports[number] = json.loads(p.popen.stdout.readline())
            p.wait_end(5)
        total, self.pairs = _judge(self.lab, self.procs, reports)
        return total


def streams(lab, stations, count=100, rate=400, broadcast=True, multicast=True, linger=1.0):
    """Runs `Streams` to their end."""
    return Streams(lab, stations, count, rate, broadcast, multicast).finish(linger)


def _write_line(p, word):
    p.popen.stdin.write(word + "\n")
    p.popen.stdin.flush()


def _read_line(p, word):
    line = p.popen.stdout.readline().strip()
    if line != word:
        raise Failure(f"{p.name} printed `{line}`, `{word}` was expected; the end of its log:\n    {p.tail()}")


def _judge(lab, procs, reports):
    total = Tally(lost=0, duplicated=0, reordered=0, leaked_between_networks=0, astray=0, damaged=0, sent=0,
                  expected=0)
    detail, pairs = [], {}
    got = {(r["id"], f["id"], f["stream"]): f for r in reports.values() for f in r["from"]}
    for number, (s, to, _) in procs.items():
        for stream, (peer, ip) in enumerate(to):
            sent = reports[number]["sent"][stream]
            total["sent"] += sent
            peers = [peer] if peer != EVERYBODY else [b.id for b, _, _ in procs.values()
                                                      if b is not s and b.network == s.network]
            for b in peers:
                f = got.get((b, number, stream), NOTHING)
                pair = pairs.setdefault((number, b), Tally(jump=None))
                pair.add({"lost": sent - f["unique"], "duplicated": f["copies"] - f["unique"], "reordered": f["late"],
                          "cut": f["highest"] + 1 < sent})
                pair["jump"] = max(filter(None, (pair["jump"], f["jump"])), default=None)
                total["expected"] += sent
                total["lost"] += sent - f["unique"]
                total["duplicated"] += f["copies"] - f["unique"]
                total["reordered"] += f["late"]
                if sent != f["copies"] or f["late"]:
                    detail.append(f"{s.name} -> {procs[b][0].name} ({ip}): sent {sent}, arrived {f['unique']}, "
                                  f"copies {f['copies']}, late {f['late']}")
        r = reports[number]
        total["leaked_between_networks"] += r["leaked"]
        total["astray"] += r["astray"]
        total["damaged"] += r["damaged"]
        if r["send_errors"]:
            total["lost"] += r["send_errors"]
            detail.append(f"{s.name}: the kernel refused {r['send_errors']} datagrams")
    if detail:
        with open(lab.logs / "streams-differences.txt", "a") as f:
            f.write("\n".join(detail) + "\n")
    return total, pairs


def ping(ns, ip, count=5, interval=0.02, wait=2, size=56, dont_fragment=False, dev="eth0"):
    """Pings from a namespace. Returns sent, received, lost, duplicated and ICMP errors."""
    argv = ["ping", "-n", "-c", count, "-i", interval, "-W", wait, "-s", size, "-I", dev]
    if dont_fragment:
        argv += ["-M", "do"]
    done = subprocess.run(ns.command([*argv, ip]), capture_output=True, text=True, timeout=count * interval + wait + 10)
    m = re.search(r"(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?", done.stdout)
    if not m:
        raise Failure(f"ping from {ns.name} to {ip} did not run: {done.stderr.strip() or done.stdout.strip()}")
    errors = [line for line in done.stdout.splitlines() if line.startswith("From ") or "truncated" in line
              or "wrong data" in line]
    sent, received = int(m[1]), int(m[2])
    return {"sent": sent, "received": received, "lost": sent - received, "duplicated": int(m[3] or 0),
            "errors": errors}


def pings(stations, count=5, **kw):
    """Pings between all pairs, every address. A station pings its peers one after another; all stations do so at once.
    Returns sent, lost, duplicated, and a line for each pair that lost."""
    total, bad = Tally(sent=0, lost=0, duplicated=0), []

    def one(s):
        out = []
        for a, b in _pairs(stations):
            if a is s:
                out += [(f"{a.name} -> {b.name} {ip}", ping(a.ns, ip, count=count, dev=a.dev, **kw)) for ip in b.ips]
        return out

    with concurrent.futures.ThreadPoolExecutor(len(stations)) as pool:
        for results in pool.map(one, stations):
            for what, r in results:
                total.add({k: r[k] for k in ("sent", "lost", "duplicated")})
                if r["lost"] or r["duplicated"]:
                    bad.append(f"{what}: lost {r['lost']} of {r['sent']}, duplicated {r['duplicated']} "
                               f"{r['errors'][:1]}")
    return total, bad


class Iperf:
    """iperf3 servers on stations, and transfers between them."""

    PORT = 5201

    def __init__(self, lab, stations):
        self.stations = stations
        self.servers = [Process(lab, f"iperf3-{s.name}", ["iperf3", "-s", "-p", self.PORT, "--forceflush"], ns=s.ns)
                        for s in stations]
        for p in self.servers:
            p.wait_line("Server listening")

    def transfer(self, a, ip, amount="2M", timeout=30, rate="100M"):
        """One TCP transfer. Returns the JSON of iperf3."""
        argv = ["iperf3", "-c", ip, "-p", self.PORT, "-n", amount, "-b", rate, "--json", "--connect-timeout", 5000]
        done = subprocess.run(a.ns.command(argv), capture_output=True, text=True, timeout=timeout)
        try:
            result = json.loads(done.stdout)
        except ValueError:
            result = {"error": (done.stderr or done.stdout).strip()}
        return result

    def all_pairs(self, amount="1M"):
        """TCP between all pairs, over every address family. In each round every station of a network has another peer,
        so no server has two tests at once. Returns bytes, transfers and retransmits, and a line for each failure."""
        by_network = {}
        for s in self.stations:
            by_network.setdefault(s.network, []).append(s)
        total, bad = Tally(tcp_bytes=0, tcp_transfers=0, tcp_retransmits=0), []

        def one(job):
            a, b, ip = job
            for _ in range(4):
                r = self.transfer(a, ip, amount)
                if not any(word in str(r.get("error")) for word in BETWEEN_TESTS):
                    break
                time.sleep(0.3)
            return a, b, ip, r

        most = max(len(v) for v in by_network.values())
        families = max(len(s.ips) for s in self.stations)
        with concurrent.futures.ThreadPoolExecutor(len(self.stations)) as pool:
            for step in range(1, most):
                for family in range(families):
                    jobs = [(g[i], g[(i + step) % len(g)], g[(i + step) % len(g)].ips[family])
                            for g in by_network.values() if step < len(g) for i in range(len(g))]
                    for a, b, ip, r in pool.map(one, jobs):
                        if r.get("error"):
                            bad.append(f"{a.name} -> {b.name} {ip}: {r['error']}")
                            continue
                        total["tcp_transfers"] += 1
                        total["tcp_bytes"] += r["end"]["sum_received"]["bytes"]
                        total["tcp_retransmits"] += r["end"]["sum_sent"].get("retransmits", 0)
        return total, bad

    def stop(self):
        """Ends the servers."""
        for p in self.servers:
            p.stop()


def everything(lab, stations, pings_each, datagrams, datagrams_per_s, amount):
    """Pings, UDP streams and TCP between all pairs. Prints and returns the totals of each. A failed TCP transfer ends
    the scenario."""
    pinged, bad_pings = pings(stations, count=pings_each)
    info(f"ping: {dict(pinged)}")
    udp = streams(lab, stations, count=datagrams, rate=datagrams_per_s)
    info(f"UDP streams: {dict(udp)}")
    iperf = Iperf(lab, stations)
    tcp, bad_tcp = iperf.all_pairs(amount)
    iperf.stop()
    info(f"iperf3: {dict(tcp)}")
    for line in bad_pings + bad_tcp:
        info(line)
    if bad_tcp:
        raise Failure(f"{len(bad_tcp)} TCP transfers failed")
    return pinged, udp, tcp
