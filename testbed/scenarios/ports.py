#!/usr/bin/python3
"""Ports are added and deleted a thousand times while a million frames per second flow between others: no other frame is
lost, and nothing is left behind.

One appliance with one forwarding lcore has the ports of 16 vifs that stay, which send to each other all the time. One
process (testbed/front-ends) has a virtio driver for each vif, with sockets, memory and rings of its own. The parts:

    guests   guests start and end on ports that stay
    ports    `stopover port add`, a guest starts and ends, `stopover port delete`; every second time the port is deleted
             under a guest that runs
    devices  `stopover port add` and `delete` of ports on devices of DPDK drivers, in the middle of their frames: a tap and
             a source that replays a file, which send to a sink, and the sink
    restart  ports that were added so are there again after the appliance has been restarted
    reload   a port that was written into the configuration file is there after `stopover reload`, not before; it is gone
             when it is taken out again

In the first three parts each staying vif also sends to one of the guests, so that they end in the middle of bursts: in turn
as a VM that is shut down, which stops its rings, and as a VMM that crashes.

The figures: frames lost between the vifs that stay; buffers, open files, hugepages and mappings of guests' memory that
the appliance has more than before; the time from the command (from the guest's start in the first part) until the appliance
takes the guest's first frame.

Cycles run in batches. A batch with a loss is void, and is repeated, if the front ends had no CPU for so long that a
receive ring may have overflown.

STOPOVER_CYCLES: number of cycles. STOPOVER_PARTS: only these parts.
"""

import json
import os
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.bench.dut import WORKER_CPU, pin_this_process
from lib.lab import Failure, info, wait
from lib.lab.netns import Namespace
from lib.product import ron, stopover
from lib.traffic import frames, front_ends
from lib.traffic.front_ends import FrontEnds

CYCLES = int(os.environ.get("STOPOVER_CYCLES", 100 if scenario.SHORT else 1000))
PARTS = os.environ.get("STOPOVER_PARTS", "guests,ports,devices,restart,reload").split(",")
BATCH = {"guests": 50, "ports": 10, "devices": 5}
FEWER = {"devices": 4}  # its cycles have many commands
RATE = 1e6
TO_OTHERS = 16  # one frame in so many is for a guest that comes and goes
STAYING, GUESTS, LATER = 16, 4, 4
RING = 1024  # of the vifs that stay: 16 ms at their part of the rate
BURST = 32
BACKLOG = 8192 // BURST  # of frames that were due while the front ends had no CPU: half of the rings' room
NICE = -10  # of the front ends, which share a CPU with all but the forwarding lcore
MBUFS, MEMORY_MIB = 65536, 320
METRICS = "127.0.0.1:9481"
LINK_MS = 500
MOST_VOID = 10
TAP_FRAMES, FILE_FRAMES = 64, 1000  # of a tap and of a source, in each cycle
COUNTED = ("received", "lost", "duplicated", "reordered", "astray", "damaged")


def octets(text):
    """The bytes of a MAC or an IPv4 address."""
    return bytes(int(part, 16) for part in text.split(":")) if ":" in text else bytes(map(int, text.split(".")))


def frame_between(a, b):
    """A frame from one front end to another."""
    return frames.udp_frame(octets(b["mac"]), octets(a["mac"]), octets(b["ip"]), octets(a["ip"]), 7, 64)


def own_hugepages_kib(smaps):
    """Hugepages of a process but for guests' memory, of which a page counts once it is touched."""
    total, own = 0, False
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            own = "memfd:v" not in line
        elif own and "_Hugetlb:" in line:
            total += int(line.split()[1])
    return total


class Gateway(stopover.Appliance):
    """The appliance, with the ports of the vifs that stay and of guests. The front ends of the ports that are added
    later are in `later`."""

    def __init__(self, lab, ns, board):
        super().__init__(lab, "gw", ns, board, memory=MEMORY_MIB)
        self.config["eal"][-1] = f"0@0,1@{WORKER_CPU}"
        self.config |= {"mbufs": MBUFS, "metrics": METRICS}
        del self.config["idle"]
        self.port("ul0", "net_null0,no-rx=1", ron.tagged("underlay", addresses=["10.0.0.1/24"]))  # a host needs a VTEP
        self.staying = [self.vif(n, ring=RING) for n in range(STAYING)]
        self.guests = [self.vif(STAYING + n) for n in range(GUESTS)]
        self.later = [self.front_end(STAYING + GUESTS + n) for n in range(LATER)]
        self.tap, self.source, self.sink = self.device_ports()

    def device_ports(self):
        """Ports on other devices, with the addresses of front ends that are added later."""
        tap, source, sink = (dict(f, name=name) for f, name in zip(self.later, ("tap", "source", "sink")))
        path = self.lab.dir / "source.pcap"
        frames.write_pcap(path, [frame_between(source, sink)] * FILE_FRAMES)
        tap["device"] = "net_tap9,iface=tap9"
        source["device"] = f"net_pcap9,rx_pcap={path}"
        sink["device"] = "net_null9,no-rx=1"
        return tap, source, sink

    def front_end(self, n, **more):
        """Front end n, which has no port yet."""
        return front_ends.front_end(n, self.lab.dir / f"{front_ends.name(n)}.vhost", **more)

    def vif(self, n, **more):
        """Adds the port of front end n, which it returns, to the configuration file."""
        f = self.front_end(n, **more)
        self.vhost(f["name"], f["socket"], ron.tagged("vif", vni=front_ends.VNI, mac=f["mac"], addresses=[f["ip"]]))
        return f

    def remove_last(self):
        """Takes the port that was added last out of the configuration file."""
        self.config["vdevs"].pop()
        self.config["ports"].pop()

    def add_port(self, f):
        """`stopover port add`: a port for a front end."""
        device = f.get("device", f"net_vhost{f['name'][1:]},iface={f['socket']}")
        self.cli("port", "add", f["name"], "--device", device,
                 "--vni", front_ends.VNI, "--mac", f["mac"], "--address", f["ip"])

    def delete_port(self, f):
        """`stopover port delete`."""
        self.cli("port", "delete", f["name"])

    def ports(self):
        """The names of its ports."""
        return {port["name"] for port in self.json("show", "port", "info", "all")}

    def wait_port(self, f, what, reached):
        """Waits until the row of a port in `show port info` or `show fwd stats` is so."""
        words = ("port", "info", f["name"]) if what == "link_up" else ("fwd", "stats", "all")
        wait.until(f"{what} of port {f['name']}", lambda: reached(self.row(f, *words)[what]), timeout=20, every=0.002)

    def row(self, f, *words):
        """What `show` has of one port."""
        rows = self.json("show", *words)
        rows = rows["ports"] if isinstance(rows, dict) else rows
        return next(row for row in rows if row["name"] == f["name"])

    def holds(self):
        """What it has now: buffers, open files, and mappings of guests' memory."""
        page = self.ns.run("curl", "-sS", f"http://{METRICS}/metrics")
        home = pathlib.Path(f"/proc/{self.process.pid}")
        return {
            "mbufs": int(re.search(r"^stopover_mbufs_in_use (\d+)", page, re.M)[1]),
            "fds": len(list((home / "fd").iterdir())),
            "mappings": (home / "maps").read_text().count("memfd:v"),
            "huge_kib": own_hugepages_kib((home / "smaps").read_text()),
        }


class Run:
    """The appliance, its front ends, and what has been counted."""

    def __init__(self, lab):
        self.ns = ns = Namespace(lab, "host")
        ns.no_ipv6("default")  # frames of a tap are those of this scenario
        board = stopover.Board(lab, ns)
        # Frames for a guest that is not there are for nobody else.
        board.cli("network", "add", front_ends.VNI, "--flood", "to-segments")
        self.gw = Gateway(lab, ns, board)
        lab.hugepages(MEMORY_MIB + STAYING * front_ends.memory_mib(ring=RING)
                      + (GUESTS + LATER + 1) * front_ends.memory_mib() + 64)
        self.gw.start()
        self.ends = FrontEnds(lab, ns, cpu=0)
        os.setpriority(os.PRIO_PROCESS, self.ends.process.pid, NICE)
        self.connect()
        self.names = [f["name"] for f in self.gw.staying]
        self.void = 0
        self.elsewhere = dict.fromkeys(COUNTED, 0)

    def connect(self, others=0):
        """Starts the guests of all ports of the configuration file. So many other ports have a link."""
        self.ends.add([*self.gw.staying, *self.gw.guests])
        stopover.wait_nodes([self.gw], STAYING + GUESTS + others)

    def flows(self, guests):
        """Each vif that stays sends to the next one and, less, to a guest."""
        kept = [(name, self.names[(n + 1) % STAYING]) for n, name in enumerate(self.names)]
        others = [(name, guests[n % len(guests)]["name"]) for n, name in enumerate(self.names)] if guests else []
        flows = []
        for turn in range(TO_OTHERS - 1):
            flows += kept + others[turn:turn + 1]
        return flows

    def staying(self):
        """The counters of the vifs that stay."""
        rows = [row for row in self.ends.stats()["front_ends"] if row["name"] in self.names]
        return {key: sum(row[key] for row in rows) for key in COUNTED}

    def guest(self, n):
        """A guest ends, and starts again on its port. Returns the time until the link was up, in milliseconds."""
        f = self.gw.guests[n % GUESTS]
        self.ends.remove(f["name"], abrupt=n // GUESTS % 2 == 1)
        answer, = self.ends.add([f])
        return answer["link_ms"]

    def port(self, n):
        """A port is added, its guest starts and ends, and it is deleted. Returns the same."""
        f = self.gw.later[n % LATER]
        self.ends.request("add", **f)  # connects as soon as the socket is there
        self.gw.add_port(f)
        answer = self.ends.wait("added", f["name"])
        if n // LATER % 2 == 0:
            self.ends.remove(f["name"])
            self.gw.delete_port(f)
        else:
            self.gw.delete_port(f)
            self.ends.remove(f["name"], abrupt=True)
        return answer["link_ms"]

    def device(self, n):
        """A tap, or a source, and the sink are added, send, and are deleted; every second time the sink before what sends
        to it. Returns the time until the link was up, in milliseconds."""
        gw, source = self.gw, (self.gw.tap, self.gw.source)[n % 2]
        gw.add_port(gw.sink)
        gw.wait_port(gw.sink, "link_up", bool)
        began = time.monotonic()
        gw.add_port(source)
        gw.wait_port(source, "link_up", bool)
        took_ms = (time.monotonic() - began) * 1000
        if source is gw.tap:
            with self.ns.packet_socket("tap9") as s:
                for _ in range(TAP_FRAMES):
                    s.send(frame_between(gw.tap, gw.sink))
            gw.wait_port(source, "rx_packets", lambda n: n >= TAP_FRAMES)
        else:
            gw.wait_port(source, "rx_packets", lambda n: n == FILE_FRAMES)
        for f in (source, gw.sink) if n // 2 % 2 == 0 else (gw.sink, source):
            gw.delete_port(f)
        return took_ms

    def during_stream(self, guests, what):
        """Calls `what()` while frames flow. Returns whether that was void, and what it returned."""
        before = self.staying()
        self.ends.start(self.flows(guests), RATE, burst=BURST, backlog=BACKLOG)
        result = what()
        report = self.ends.stop()
        counts = {key: n - before[key] for key, n in self.staying().items()}
        longest, pps = report["longest_round_us"], report["pps"]
        info(f"{report['seconds']:.2f} s, {pps / 1e6:.3f} Mpps, longest round {longest:.0f} us, elsewhere "
             + ", ".join(f"{k} {v}" for k, v in counts.items() if v))
        if counts["lost"] > 0 and longest * 1e-6 * RATE / STAYING > RING / 2:
            self.void += 1
            if self.void > MOST_VOID:
                raise Failure(f"{self.void} batches were void: the front ends have too little CPU")
            return True, result
        for key, n in counts.items():
            self.elsewhere[key] += n
        return False, result

    def cycles(self, part):
        """The cycles of a part. Returns its figures."""
        cycle = {"guests": self.guest, "ports": self.port, "devices": self.device}[part]
        guests = self.gw.guests if part == "guests" else self.gw.later
        cycles = CYCLES // FEWER.get(part, 1)
        for n in range(2 * len(guests)):  # what is made once is made now
            if part == "devices":
                self.port(n)  # frames are sent to addresses of front ends that have been there
            cycle(n)
        before, links, done = self.gw.holds(), [], 0
        info(f"part {part}: {cycles} cycles; before them {before}")
        while done < cycles:
            void, took = self.during_stream(guests, lambda: [cycle(n) for n in range(done, done + BATCH[part])])
            links += took
            info(f"    links after {max(took):.1f} ms at most")
            done += 0 if void else BATCH[part]
        after = self.settled(before)
        info(f"after them {after}")
        links.sort()
        return {
            "cycles": done, **{f"leaked_{key}": max(0, after[key] - before[key]) for key in before},
            "add_to_link_ms_p50": round(links[len(links) // 2], 1),
            "add_to_link_ms_p99": round(links[len(links) * 99 // 100], 1),
        }

    def settled(self, before):
        """What the appliance has, as soon as that is no more than before, or after a while."""
        after = {}

        def quiet():
            after.update(self.gw.holds())
            return all(after[k] <= before[k] for k in before)

        try:
            wait.until("the appliance has no more than before", quiet, timeout=5, every=0.2)
        except Failure as e:
            info(str(e))
        return after

    def restart(self):
        """Adds ports, and restarts the appliance. Returns how many of them are missing then."""
        added, devices = self.gw.later[1:], [self.gw.tap, self.gw.sink]
        devices[1] = dict(self.gw.sink, mac=front_ends.mac(999), ip=front_ends.ip(999))
        for f in [*added, *devices]:
            self.gw.add_port(f)
        for f in [*self.gw.staying, *self.gw.guests]:
            self.ends.remove(f["name"], abrupt=True)
        if why := self.gw.process.stop():
            raise Failure(why)
        self.gw.start()
        missing = {f["name"] for f in [*added, *devices]} - self.gw.ports()
        info(f"part restart: {len(added) + len(devices)} ports had been added, {len(missing)} are missing after the restart")
        self.connect(len([f for f in devices if f["name"] not in missing]))
        if not missing:
            self.ends.add(added)
            report = self.ends.send([(a["name"], b["name"]) for a in added for b in added if a != b], RATE / 100, 0.2)
            if report["lost"] or not report["received"]:
                raise Failure(f"after the restart frames between the added ports were lost: {report}")
        for f in added:
            if f["name"] not in missing:
                self.ends.remove(f["name"])
                self.gw.delete_port(f)
        for f in devices:
            if f["name"] not in missing:
                self.gw.delete_port(f)
        return len(missing)

    def reload(self):
        """Writes a port into the configuration file and takes it out again. Returns the number of mistakes."""
        f = self.gw.vif(STAYING + GUESTS + LATER)
        mistakes = []

        def expect(what, true):
            if not true:
                mistakes.append(what)
                info(f"part reload: {what}")

        def change():
            self.gw.write()
            plan = json.loads(self.gw.cli("reload", "--dry-run", "--json"))
            expect("the dry run shows no change", plan["changes"] and not plan["made"])
            expect("the dry run made the change", f["name"] not in self.gw.ports())
            report = json.loads(self.gw.cli("reload", "--json"))
            expect("the change was not made", report["made"] and f["name"] in self.gw.ports())
            self.ends.add([f])
            self.ends.remove(f["name"])
            self.gw.remove_last()
            self.gw.write()
            self.gw.cli("reload")
            expect("the port is still there", f["name"] not in self.gw.ports())
            again = json.loads(self.gw.cli("reload", "--json"))
            expect("the same file is a change", not again["changes"])

        self.during_stream([], change)
        return len(mistakes)


def body(lab):
    pin_this_process()
    info(f"building an appliance with {STAYING} vifs that stay, and {GUESTS} whose guests come and go")
    run, figures = Run(lab), {}
    if "guests" in PARTS:
        figures |= {f"guests_{key}": value for key, value in run.cycles("guests").items()}
    if "ports" in PARTS:
        figures |= run.cycles("ports")
    if "devices" in PARTS:
        figures |= {f"devices_{key}": value for key, value in run.cycles("devices").items()}
    accounting = stopover.accounting([run.gw])
    if "restart" in PARTS:
        figures["not_restored"] = run.restart()
    if "reload" in PARTS:
        figures["reload_mistakes"] = run.reload()
    for key, n in stopover.accounting([run.gw]).items():
        accounting[key] += n
    late = [key for key, value in figures.items() if key.endswith("link_ms_p99") and value > LINK_MS]
    return {**figures, **{f"{key}_elsewhere": n for key, n in run.elsewhere.items()}, "late_links": len(late),
            "void_batches": run.void, **accounting}


LEAKS = [f"{part}leaked_{what}"
         for part, named in (("guests_", "guests"), ("", "ports"), ("devices_", "devices")) if named in PARTS
         for what in ("mbufs", "fds", "mappings", "huge_kib")]
scenario.main("ports", body,
              must_be_zero=[*(f"{key}_elsewhere" for key in COUNTED if key != "received"), *LEAKS,
                            *(key for key, part in (("not_restored", "restart"), ("reload_mistakes", "reload"))
                              if part in PARTS), "unaccounted", "faulty_drops"],
              must_be_zero_alone=["late_links"], must_be_positive=["received_elsewhere"])
