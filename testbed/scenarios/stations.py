#!/usr/bin/python3
"""Stations and addresses move without an orchestrator, and all others find them where they are.

Virtual addresses of keepalived, every form of gratuitous announcement, cables moved from site to site, probes for
duplicate addresses, routers and their advertisements, two gateways on one LAN. Three hosts with a site each (a bridge
in a namespace); only three VMs are declared. At each site and at the VM an observer asks by ARP and ND as stacks do.

- A station that sends unicast all the time, to neighbours with static entries, moves from site to site; each observer
  must get its answers again. Other moves are announced by one RARP only, as hypervisors send it, or by a VRRP router's
  announcement with its virtual MAC.
- Two keepalived processes pass virtual addresses to each other; the old master goes on as backup.
- Two stations pass an address to each other by each form of announcement; so do two guarded VMs that declare it shared.
- Probes for duplicates: of an address in use, of a free one, of one that its station has changed for another, and of
  one whose station is gone.
- A router advertises itself once. Then appliances, its own too, are restarted, and it moves, by itself and by a
  migration. No station may lose its default route.
- The LANs of two sites are joined, and parted again.

A case is an event and an address family. `wrong_answers`: MACs other than the right one in answers later than a second
after the event, and missing answers. `never_reached`: observers without a right answer. `unreachable_ms_p99`: from the
event until an observer has its first right answer. `looped`: copies of a broadcast at an observer beyond one, on joined
LANs after the first seconds, or beyond STORM in these. `routes_lost`: lost default routes.

STOPOVER_ROUNDS: how often each kind is repeated; 1 among all scenarios. STOPOVER_PARTS: only these parts, separated by
commas.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scapy.all import Ether, ICMPv6ND_RA, ICMPv6NDOptSrcLLAddr, IPv6, Raw

from lib import scenario
from lib.lab import fabric, info, until
from lib.lab.netns import veth
from lib.lab.process import Process
from lib.peers import vrrp
from lib.product import stopover
from lib.traffic import observer
from lib.traffic.mesh import Tally

VNI = 100
ROUNDS = int(os.environ.get("STOPOVER_ROUNDS", 1 if scenario.SHORT else 3))
SETTLED = 1.0  # seconds after an event; from then on every answer must be right
VIP4, VIP6 = "192.168.0.100", "fd01::100"
SHARED = ["192.168.0.90", "fd01::90"]
FREE4, FREE6 = "192.168.0.99", "fd01::99"
STORM = 20  # the most copies of a broadcast at an observer before the gateways detect the joined LAN
BROADCASTS = 20


class Run:
    """The hosts, sites and stations, and what has been counted."""

    def __init__(self, lab):
        self.lab = lab
        self.board, _, self.hosts = fabric.three_hosts(lab)
        self.sites = [fabric.Site(lab, host, f"site-{host.name[-1]}", vni=VNI) for host in self.hosts]
        self.number = 0
        at_site = [self.tenant(f"o-{n}", site) for n, site in zip("abc", self.sites)]
        self.vm = self.tenant("o-vm", None)
        self.vm.plug_vif(self.hosts[2])
        self.sharers = [self.tenant(f"v{n}", None).plug_vif(host, shared=SHARED) for n, host in zip("12", self.hosts)]
        self.stations = {n: self.tenant(n, self.sites[at]) for n, at in
                         (("x", 0), ("p", 0), ("q", 1), ("m1", 0), ("m2", 1), ("d", 1), ("r", 0))}
        for host in self.hosts:
            host.start()
        self.observers = [observer.Observer(t) for t in [*at_site, self.vm]]
        for s in [*at_site, *self.stations.values()]:
            self.send_pings(s)
        stopover.wait_nodes(self.hosts, 6 + len(self.stations))
        self.count, self.kinds, self.times = Tally(), Tally(), []

    def tenant(self, name, site):
        self.number += 1
        t = fabric.Tenant.numbered(self.lab, name, VNI, self.number)
        return t.plug_site(site) if site else t

    def send_pings(self, station):
        """Lets a station send, so that it is learned with its addresses."""
        for ip in self.vm.ips:
            station.ns.run("ping", "-c", 2, "-i", 0.2, "-W", 1, ip, check=False)

    def at_once(self, what, observers=None):
        """{observer: what(observer)}, for all observers in parallel."""
        observers = observers or self.observers
        with concurrent.futures.ThreadPoolExecutor(len(observers)) as pool:
            return dict(zip((o.name for o in observers), pool.map(what, observers)))

    def case(self, kind, found, right, times=None):
        """Counts a case: what each observer has `found` must be `right`."""
        self.kinds.add({kind: 1})
        wrong = {n: got for n, got in found.items() if got != right}
        self.count.add({"cases": 1, "wrong_answers": len(wrong)})
        if times:
            self.times += times.values()
        late = {n: round(t) for n, t in (times or {}).items() if t > 1000}
        if wrong or late:
            info(f"{kind}: expected {right or 'no answer'}; wrong {wrong}; late, in ms, {late}")

    def holds(self, kind, since, station_mac, old=None):
        """Addresses have moved to this MAC at the times of `since`: every observer reaches them, and later answers have
        this MAC only. `old` had the addresses before and must not be in answers."""
        times = observer.Reach(self.observers, station_mac, since).times()
        time.sleep(max(0, max(since.values()) + SETTLED - time.monotonic()))
        for ip in since:
            found = self.at_once(lambda o: o.resolve(ip))
            for asked in (station_mac, old):
                for name, got in self.at_once(lambda o: o.resolve_at(ip, asked)).items() if asked else ():
                    found[name] |= got
            self.case(kind, found, {station_mac}, times[ip])


def moves(run):
    """A station sends all the time and moves without an announcement."""
    x, at = run.stations["x"], 0
    for o in run.observers:
        for ip in o.tenant.ips:
            x.ns.ip("neigh", "replace", ip, "lladdr", o.mac, "dev", "eth0", "nud", "permanent")
    for ip in run.vm.ips:
        Process(run.lab, f"x-talks-{'v6' if ':' in ip else 'v4'}", ["ping", "-n", "-q", "-i", 0.05, ip], ns=x.ns)
    time.sleep(0.5)
    for _ in range(3 * ROUNDS):
        target = (at + 1) % 3
        run.sites[at].unplug(x, run.sites[target])
        time.sleep(0.2)
        run.sites[target].replug(x)
        since, at = time.monotonic(), target
        run.holds("move", dict.fromkeys(x.ips, since), x.mac)
        time.sleep(0.5)
    for name in ("x-talks-v4", "x-talks-v6"):
        next(p for p in run.lab.processes if p.name == name).stop()
    return at


def single_frames(run):
    """A MAC appears at another site with one frame: a RARP, as hypervisors send it, or the announcement of a VRRP
    router with its virtual MAC (RFC 5798 section 7.3) and its address. Frames to the MAC must arrive there."""
    asker, ends = run.observers[3], run.observers[:2]
    for kind, station_mac, ip in (("rarp", "02:00:00:00:07:01", None),
                                  ("virtual mac", "00:00:5e:00:01:33", "192.168.0.98")):
        six = bytes.fromhex(station_mac.replace(":", ""))
        frame = (observer.gratuitous("request", station_mac, ip) if ip else
                 Ether(src=station_mac, dst=observer.BROADCAST, type=0x8035)
                 / Raw(bytes.fromhex("0001080006040003") + (six + bytes(4)) * 2 + bytes(18)))
        for turn in range(2 * ROUNDS):
            here = ends[turn % 2]
            ms = arrival(asker, here, frame, six)
            found = asker.resolve(ip) if ip else {station_mac}
            run.case(kind, {asker.name: found}, {station_mac}, {asker.name: ms})
            time.sleep(0.5)


def arrival(asker, here, frame, six):
    """The milliseconds from this frame, which announces a MAC here, until a frame to the MAC arrives."""
    receiver = here.tenant.ns.packet_socket("eth0", receive=True)
    receiver.settimeout(0.02)
    here.send(frame)
    since = time.monotonic()
    with contextlib.closing(receiver):
        while time.monotonic() < since + observer.PATIENCE:
            asker.send(Ether(src=asker.mac, dst=observer.mac_text(six), type=0x88b6) / Raw(bytes(46)))
            with contextlib.suppress(TimeoutError):
                while True:
                    got, source = receiver.recvfrom(2048)
                    if source[2] != observer.OUTGOING and got[:6] == six:
                        return (time.monotonic() - since) * 1e3
    return 1e3 * observer.PATIENCE


def keepalived(run):
    """Virtual addresses fail over: by priority, by an orderly end, and by a broken cable."""
    daemons = [vrrp.Keepalived(run.lab, run.stations[n], VIP4, VIP6) for n in ("m1", "m2")]
    near = run.observers[:2]  # on the LAN of each
    master = 0
    daemons[0].rank(vrrp.AHEAD)
    wait_announced(near[0], daemons[0].tenant.mac, 0)
    time.sleep(1)
    how = (["priority", "priority", "end", "priority", "cable", "priority"] * ROUNDS)[:max(2, 2 * ROUNDS)]
    for cause in how:
        old, new = daemons[master], daemons[1 - master]
        began = time.monotonic()
        if cause == "priority":
            old.rank(vrrp.BEHIND)
            new.rank(vrrp.AHEAD)
        elif cause == "end":
            new.rank(vrrp.AHEAD)
            old.rank(vrrp.BEHIND)
            old.resign()
        else:
            new.rank(vrrp.AHEAD)
            old.rank(vrrp.BEHIND)
            old.tenant.ns.ip("link", "set", "eth0", "down")
        at = wait_announced(near[1 - master], new.tenant.mac, began)
        run.holds(f"vrrp by {cause}", at, new.tenant.mac, old=old.tenant.mac if cause == "priority" else None)
        if cause == "end":
            old.process.wait_end(10)
            old.start()
        elif cause == "cable":
            old.tenant.ns.ip("link", "set", "eth0", "up")
            old.tenant.ns.address("eth0", *[c for c in old.tenant.cidrs if ":" in c])
        master = 1 - master
        time.sleep(0.5)
    for d in daemons:
        d.stop()


def wait_announced(near, station_mac, since):
    """{address: time at which an observer on the new master's LAN received its announcement}."""
    def first(ip):
        return next((a.at for a in list(near.announced) if (a.ip, a.mac) == (ip, station_mac) and a.at >= since), None)
    until(f"{near.name} receives {station_mac}'s announcements of {VIP4} and {VIP6}",
          lambda: first(VIP4) and first(VIP6), 10)
    return {ip: first(ip) for ip in (VIP4, VIP6)}


def announcements(run):
    """An address passes between two stations by each form of announcement."""
    holders, at = [run.stations[n] for n in ("p", "q")], 0
    for family, forms, ip, length in ((4, observer.FORMS_V4, "192.168.0.50", 24), (6, observer.FORMS_V6, "fd01::50", 64)):
        holders[at].ns.address("eth0", f"{ip}/{length}")
        holders[at].ns.packet_socket("eth0").send(bytes(observer.gratuitous(forms[0], holders[at].mac, ip)))
        time.sleep(SETTLED)
        for form in forms[:3] if scenario.SHORT else forms * (2 if family == 4 else 4):
            old, new = holders[at], holders[1 - at]
            old.ns.ip("address", "del", f"{ip}/{length}", "dev", "eth0")
            new.ns.address("eth0", f"{ip}/{length}")
            new.ns.packet_socket("eth0").send(bytes(observer.gratuitous(form, new.mac, ip)))
            run.holds(f"gratuitous {form}", {ip: time.monotonic()}, new.mac, old=old.mac)
            at = 1 - at


def shared(run):
    """Two guarded VMs that declare the same addresses pass them to each other."""
    for turn in range(2 * ROUNDS):
        new, old = run.sharers[turn % 2], run.sharers[1 - turn % 2]
        if turn:
            old.ns.ip("address", "del", f"{SHARED[0]}/24", "dev", "eth0")
            old.ns.ip("address", "del", f"{SHARED[1]}/64", "dev", "eth0")
        new.ns.address("eth0", f"{SHARED[0]}/24", f"{SHARED[1]}/64")
        voice = new.ns.packet_socket("eth0")
        for ip, form in zip(SHARED, ("request", "na")):
            voice.send(bytes(observer.gratuitous(form, new.mac, ip)))
        run.holds("shared", dict.fromkeys(SHARED, time.monotonic()), new.mac, old=old.mac if turn else None)


def duplicates(run):
    """Probes for duplicate addresses."""
    d, far = run.stations["d"], [run.observers[0], run.observers[2], run.observers[3]]
    socket = d.ns.packet_socket("eth0")
    for n, (old, new, free, length) in enumerate((("192.168.0.60", "192.168.0.61", FREE4, 24),
                                                  ("fd01::60", "fd01::61", FREE6, 64))):
        form = "na" if n else "request"
        d.ns.address("eth0", f"{old}/{length}")
        socket.send(bytes(observer.gratuitous(form, d.mac, old)))
        time.sleep(SETTLED)
        run.case("probe: in use", run.at_once(lambda o: o.probe(old), far), {d.mac})
        run.case("probe: free", run.at_once(lambda o: o.probe(free), far), set())
        d.ns.ip("address", "del", f"{old}/{length}", "dev", "eth0")
        d.ns.address("eth0", f"{new}/{length}")
        socket.send(bytes(observer.gratuitous(form, d.mac, new)))
        time.sleep(SETTLED)
        run.case("probe: given up", run.at_once(lambda o: o.probe(old), far), set())
        run.case("probe: in use after renumbering", run.at_once(lambda o: o.probe(new), far), {d.mac})
    run.sites[1].unplug(d, run.sites[2])
    time.sleep(SETTLED)
    for ip in d.ips:
        run.case("probe: station removed", run.at_once(lambda o: o.probe(ip), far), set())


def routers(run):
    """A router advertises itself once."""
    r, guests = run.stations["r"], [o.tenant for o in run.observers]
    r.ns.sysctl("ipv6.conf.all.forwarding", 1)
    low = link_local(r)
    for g in guests:
        g.ns.sysctl("ipv6.conf.eth0.accept_ra", 1)
    socket = r.ns.packet_socket("eth0")
    socket.send(bytes(Ether(src=r.mac, dst=observer.ALL_NODES_MAC) / IPv6(src=low, dst=observer.ALL_NODES, hlim=255)
                      / ICMPv6ND_RA(routerlifetime=9000) / ICMPv6NDOptSrcLLAddr(lladdr=r.mac)))

    def check(what):
        """Every guest verifies its router, as it does when the neighbour entry is stale."""
        for g in guests:
            if has_route(g):
                g.ns.ip("-6", "neigh", "replace", low, "lladdr", r.mac, "dev", "eth0", "router", "nud", "probe")
        time.sleep(1.5)
        lost = [g.name for g in guests if not has_route(g)]
        run.kinds.add({"router": 1})
        run.count.add({"cases": 1, "routes_lost": len(lost)})
        if lost:
            info(f"router, {what}: {', '.join(lost)} lost the route")
            for g in guests:
                if g.name in lost:
                    g.ns.ip("-6", "route", "replace", "default", "via", low, "dev", "eth0")

    until("every guest has the route", lambda: all(has_route(g) for g in guests), 5)
    check("after its advertisement")
    for host in ([run.hosts[1]] if scenario.SHORT else [run.hosts[1], run.hosts[2], run.hosts[0]]):
        restart(run, host)
        check(f"after a restart of {host.name}")
    if not scenario.SHORT:
        run.board.process.kill()
        run.board.start()
        restart(run, run.hosts[1])
        check("after the board and gw-b were restarted")
    talk = Process(run.lab, "r-talks", ["ping", "-n", "-q", "-i", 0.1, run.vm.ips[1]], ns=r.ns)
    run.sites[0].unplug(r, run.sites[2])
    run.sites[2].replug(r)
    time.sleep(SETTLED)
    check("moved to site-c unannounced")
    run.board.cli("migration", "begin", "--node", f"{VNI}/{r.mac}", "--from", "gw-c", "--to", "gw-a")
    time.sleep(1)
    check("while it is locked for a migration")
    run.sites[2].unplug(r, run.sites[0])
    run.sites[0].replug(r)
    until("the migration ends", lambda: not run.board.json("migration", "list", "--active"), 10)
    check("migrated to site-a")
    talk.stop()


def link_local(tenant):
    words = tenant.ns.ip("-6", "-o", "address", "show", "dev", "eth0", "scope", "link").split()
    return next(w for w in words if w.startswith("fe80")).split("/")[0]


def has_route(tenant):
    return "via" in tenant.ns.ip("-6", "route", "show", "default")


def restart(run, host):
    """Shuts an appliance down and starts it again. Its stations send only answers."""
    host.process.stop()
    host.start()
    until(f"{host.name} follows the board", lambda: host.json("show", "board")["connected"])
    time.sleep(1)


def joined(run):
    """Two sites become one LAN with two gateways, and two LANs again."""
    a, b = run.sites[:2]
    veth(a.ns, "join", b.ns, "join")
    a.ns.no_ipv6("join")
    b.ns.no_ipv6("join")
    pairs = [(run.observers[0], run.observers[3]), (run.observers[1], run.observers[2]),
             (run.observers[0], run.observers[1])]
    number = 0
    for _ in range(max(1, ROUNDS // 2)):
        a.ns.ip("link", "set", "join", "master", "br0", "up")
        b.ns.ip("link", "set", "join", "master", "br0", "up")
        number = broadcasts(run, number, STORM, "just joined LANs")
        time.sleep(3)
        number = broadcasts(run, number, 1, "joined LANs")
        reach(run, pairs, "joined LANs")
        a.ns.ip("link", "set", "join", "down")
        time.sleep(10)
        number = broadcasts(run, number, 1, "parted LANs", least=1)
        reach(run, pairs, "parted LANs")


def broadcasts(run, number, most, when, least=0):
    """Every observer sends numbered broadcasts; each must reach the others at most `most` times."""
    sent = {}
    for o in run.observers:
        for _ in range(BROADCASTS):
            number += 1
            sent[number] = o.name
            o.broadcast(number)
            time.sleep(0.01)
    time.sleep(0.5)
    looped = missing = 0
    for n, name in sent.items():
        for o in run.observers:
            if o.name != name:
                looped += max(0, o.copies[n] - most)
                missing += o.copies[n] < least
    run.kinds.add({"loop": 1})
    run.count.add({"cases": 1, "looped": looped, "broadcasts_missing": missing})
    if looped or missing:
        info(f"{when}: {looped} copies too many, {missing} broadcasts missing, of {len(sent)} sent to {len(run.observers)}")
    return number


def reach(run, pairs, when):
    for family in (0, 1):
        found = {}
        for one, other in pairs:
            ip = other.tenant.ips[family]
            one.tenant.ns.ip("neigh", "flush", "dev", "eth0")
            found[f"{one.name} to {other.name}"] = one.resolve(ip)
            found[f"{one.name} to {other.name}"] = found[f"{one.name} to {other.name}"] == {other.mac}
        run.case(when, found, True)


def p99(times):
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else 0


PARTS = {f.__name__: f for f in (moves, single_frames, keepalived, announcements, shared, duplicates, routers, joined)}


def body(lab):
    info("building three hosts with a site each, observers, and the stations that move")
    run = Run(lab)
    chosen = [p for p in PARTS if not (scenario.SHORT and p == "joined")]  # segment-loop joins LANs, too
    for name in os.environ.get("STOPOVER_PARTS", ",".join(chosen)).split(","):
        before = run.count["cases"]
        PARTS[name](run)
        info(f"{name}: {run.count['cases'] - before} cases; so far {dict(run.count)}")
    slowest = p99(run.times)
    least = 20 if scenario.SHORT else 60
    return {**{k: run.count[k] for k in ("cases", "wrong_answers", "looped", "routes_lost", "broadcasts_missing")},
            "unreachable_ms_p99": round(slowest, 1), "unreachable_ms_max": round(max(run.times, default=0), 1),
            "too_slow": int(slowest > 1000),
            "never_reached": sum(ms >= 1e3 * observer.PATIENCE for ms in run.times),
            "too_few_cases": int(run.count["cases"] < least),
            "kinds": dict(run.kinds), **stopover.accounting(run.hosts)}


scenario.main("stations", body,
              must_be_zero=["wrong_answers", "never_reached", "looped", "routes_lost", "broadcasts_missing",
                            "too_few_cases", "unaccounted", "faulty_drops"],
              must_be_zero_alone=["too_slow"], must_be_positive=["cases"])
