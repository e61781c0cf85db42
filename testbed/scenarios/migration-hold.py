#!/usr/bin/python3
"""A thousand frames a millisecond and more come for a node that is locked for a migration and takes none for 300 ms:
all are kept, within the budget, and delivered in order when it goes on; other nodes' frames, through the same
lcore, lose nothing and hardly slow down.

One appliance with one forwarding lcore. Its traffic is a pcap file served for ever (`infinite_rx`), as fast as the
lcore takes it; one frame in so many is for X, the rest for 64 stations behind a null device. How many is found out
first: the faster the machine, the smaller X's share, or the test would offer the hold more than it says. X is a
vhost-user port with testpmd on virtio-user as its VM, which writes what it gets to a file; the frames for X are
numbered round and round, so the file shows every gap.

Each round: X is locked by `stopover migration begin`; testpmd stops its port, so that its ring takes nothing more
(DPDK's virtio-user does not tell the back end so: the ring is full within a millisecond); 300 ms later it starts
it again, as a cancelled migration does, and `stopover migration abort` ends the lock. The traffic goes on all the
time, so testpmd must take more than still comes for X, or the hold would never be empty; with most of a CPU it does.
What the file lacks between lock and empty hold, or was dropped at X's port meanwhile, is lost. Whether the others
slowed down is judged by the time that the lcore had a CPU, since this machine is shared; by the clock it is told too.

STOPOVER_ROUNDS: how often. STOPOVER_SHARE: one frame in so many is for X, instead of what was found out.
"""

import math
import mmap
import os
import pathlib
import statistics
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import scenario
from lib.lab import Failure, say
from lib.lab.netns import Namespace
from lib.lab.process import Process
from lib.product import ron, stopover

VNI = 100
ROUNDS = int(os.environ.get("STOPOVER_ROUNDS", 3))
SHARE = int(os.environ.get("STOPOVER_SHARE", 0))
NUMBERED = 512  # frames for X in the file
OTHERS = 64
HOLD_MS = 300
BUDGET_MIB = 96
FRAMES_PER_MS = 1000
OFFERED_PER_MS = 1600  # for X: so much more than is asked for, since the machine is not equally fast all the time
SLOWED_PERCENT = 10
FRAME = 60


def mac(number):
    return bytes([2, 0, 0, 0, number >> 8, number & 0xFF])


def text(octets):
    return ":".join(f"{b:02x}" for b in octets)


def frame(dst, flow, number):
    """A UDP datagram over IPv4 of 60 bytes; its number is at offset 42."""
    src_ip, dst_ip = bytes([10, 1, 0, 1]), bytes([10, 1, 1 + dst[4], dst[5]])
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, FRAME - 14, 0, 0, 64, 17, 0, src_ip, dst_ip)
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
    udp = struct.pack("!HHHH", 1024 + flow, 7, FRAME - 34, 0)
    return (dst + mac(1) + b"\x08\x00" + ip + udp + struct.pack("!I", number)).ljust(FRAME, b"\0")


def traffic(path, share):
    """The file that the generator serves: one frame in `share` is for X."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for n in range(NUMBERED * share):
            one = (frame(mac(2), n // share % 64, n // share) if n % share == 0
                   else frame(mac(256 + n % OTHERS), n % 512, n))
            f.write(struct.pack("<IIII", 0, n, FRAME, FRAME) + one)


def numbers(path):
    """Yields (time in seconds, number) of every frame for X in a file that testpmd wrote."""
    x, head, tag = mac(2), struct.Struct("<IIII"), struct.Struct("!I")
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        fraction = 1e-9 if struct.unpack_from("<I", data)[0] == 0xA1B23C4D else 1e-6
        at, end = 24, len(data)
        while at + 16 <= end:
            seconds, part, kept, _ = head.unpack_from(data, at)
            at += 16
            if kept == FRAME and data[at:at + 6] == x:
                yield seconds + part * fraction, tag.unpack_from(data, at + 42)[0]
            at += kept


def median(points, which):
    return statistics.median(p[which] for p in points)


class Vm:
    """testpmd as X: what comes to its virtio-user port goes to a file."""

    def __init__(self, lab, socket):
        self.got = pathlib.Path(f"/dev/shm/so{lab.pid}-got.pcap")
        argv = ["dpdk-testpmd", "--no-pci", "--in-memory", "--single-file-segments", "--file-prefix",
                f"so{lab.pid}vm", "-m", "64", "--lcores", "0@0,1@0",
                f"--vdev=net_virtio_user0,path={socket},mac={text(mac(2))},queue_size=1024",
                f"--vdev=net_pcap0,tx_pcap={self.got}",
                "--", "-i", "--total-num-mbufs=8192", "--forward-mode=io", "--rxd=1024",
                "--no-flush-rx"]  # else `start` throws away what waits in the ring
        self.process = Process(lab, "vm", argv, pipes=True)
        self.out = open(lab.logs / "vm-console.log", "w")
        self.read()
        self.tell("start")

    def read(self, timeout=30):
        """What it says, up to its prompt."""
        said, end = "", time.monotonic() + timeout
        while not said.endswith("testpmd> "):
            part = os.read(self.process.popen.stdout.fileno(), 65536).decode(errors="replace")
            if not part or time.monotonic() > end:
                self.process.check()
                raise Failure(f"testpmd said: {said}")
            said += part
        self.out.write(said)
        self.out.flush()
        return said

    def tell(self, *words):
        """Types lines, one after another."""
        for word in words:
            self.process.popen.stdin.write(word + "\n")
            self.process.popen.stdin.flush()
            self.read()

    def quit(self):
        self.process.popen.stdin.write("quit\n")
        self.process.popen.stdin.flush()
        self.process.wait_end(10)


class Run:
    """The lab, and what happened in it."""

    def __init__(self, lab):
        self.lab = lab
        lab.hugepages(stopover.MEMORY_MIB + 2 * 64 + 64)
        self.board = stopover.Board(lab)
        self.gw = gw = stopover.Appliance(lab, "gw", Namespace(lab, "host"), self.board)
        gw.config["eal"][-1] = "0@0,1@1"
        gw.config["migration"] = {"hold_mib": BUDGET_MIB, "hold_node_mib": BUDGET_MIB}
        gw.port("source", f"net_pcap0,rx_pcap={lab.dir}/in.pcap,infinite_rx=1",
                ron.tagged("vif", vni=VNI, mac=text(mac(1)), guard=False))
        self.socket = lab.dir / "x.sock"
        gw.vhost("x", self.socket, ron.tagged("vif", vni=VNI, mac=text(mac(2)), guard=False))
        stations = [{"mac": text(mac(256 + n)), "addresses": []} for n in range(OTHERS)]
        gw.port("others", "net_null0,no-rx=1", ron.tagged("segment", vni=VNI, stations=stations))
        gw.port("ul0", "net_null1,no-rx=1", ron.tagged("underlay", addresses=["10.0.0.1/24"]))  # the board asks for one
        self.share = SHARE or self.fitting_share()
        self.forward(self.share)
        self.vm = Vm(lab, self.socket)
        for process in (gw.process, self.vm.process):
            self.prefer(process)
        stopover.wait_nodes([gw], OTHERS + 2)
        self.before, self.during, self.rates, self.held, self.held_ms, self.bytes = [], [], [], [], [], []
        self.lost = self.other_lost = self.undrained = 0
        self.watched = []  # of each round, the time from lock to empty hold

    def forward(self, share):
        """Starts the appliance, with one frame in `share` for X."""
        traffic(self.lab.dir / "in.pcap", share)
        self.gw.start()
        self.gw.process.wait_for("its lcore's thread", self.find_lcore, 10)

    def fitting_share(self, begin_with=16):
        """The share by which X gets OFFERED_PER_MS, by what the others get while X has no VM."""
        self.forward(begin_with)
        self.prefer(self.gw.process)
        stopover.wait_nodes([self.gw], OTHERS + 1)
        total = statistics.median(by_clock for by_clock, _ in self.rate()) * begin_with / (begin_with - 1)
        if why := self.gw.process.stop():
            raise Failure(why)
        share = min(max(round(total / OFFERED_PER_MS), 2), 64)
        say(f"{total:.0f} frames a millisecond, so one in {share} is for X")
        return share

    def prefer(self, process):
        """Whoever else works on this machine is not to take the CPU away that an lcore would have for itself."""
        for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), -15)

    def find_lcore(self):
        """Whether the thread that forwards has its name yet."""
        tasks = pathlib.Path(f"/proc/{self.gw.process.pid}/task").iterdir()
        self.lcore = next((t for t in tasks if (t / "comm").read_text().strip() == "stopover-1"), None)
        return self.lcore is not None

    def node(self):
        """What the appliance says of X's migration, and when."""
        began = time.monotonic()
        told = self.gw.json("show", "migrations")
        at = (began + time.monotonic()) / 2
        return at, next((n for n in told["nodes"] if n["mac"] == text(mac(2))), None)

    def forwarded(self):
        """Frames that went to the other nodes, when, and for how long the lcore had run."""
        began, ran = time.monotonic(), self.ran()
        ports = self.gw.json("show", "fwd", "stats", "all")["ports"]
        at, ran = (began + time.monotonic()) / 2, (ran + self.ran()) / 2
        return next(p["tx_packets"] for p in ports if p["name"] == "others"), at, ran

    def ran(self):
        """Seconds for which the forwarding lcore has had a CPU."""
        return int((self.lcore / "schedstat").read_text().split()[0]) / 1e9

    def rate(self, seconds=HOLD_MS / 1e3):
        """Frames a millisecond to the others over several intervals: (by the clock, by the lcore's own time)."""
        points, end = [self.forwarded()], time.monotonic() + seconds
        while len(points) < 3 or time.monotonic() < end:
            time.sleep(0.02)
            points.append(self.forwarded())
        return [((b[0] - a[0]) / (b[1] - a[1]) / 1e3, (b[0] - a[0]) / (b[2] - a[2]) / 1e3)
                for a, b in zip(points, points[1:])]

    def drops(self):
        """By reason, and at X's port."""
        reasons = {d["reason"]: d["count"] for d in self.gw.json("show", "drops")}
        ports = {p["name"]: p["tx_dropped"] for p in self.gw.json("show", "fwd", "stats", "all")["ports"]}
        return reasons, ports

    def round(self, number):
        before = self.rate()
        node = f"{VNI}/{text(mac(2))}"
        self.board.cli("migration", "begin", "--node", node, "--from", "gw")
        end = time.monotonic() + 5
        while (now := self.node()[1]) is None or now["state"] != "leaving":
            if time.monotonic() > end:
                raise Failure(f"gw does not take X for locked: {now}")
        reasons, ports = self.drops()
        locked = time.time()
        held_before = now["held"]
        self.vm.tell("stop", "port stop 0")
        stopped = time.monotonic()
        first = self.node()
        during = self.rate()
        last = self.node()
        self.vm.tell("port start 0", "start")
        started = time.monotonic()
        state = last[1]["state"]
        while (now := self.node()[1])["held_now_frames"] and time.monotonic() < started + 5:
            time.sleep(0.1)
        drained = time.time()
        if now["held_now_frames"]:
            self.undrained += now["held_now_frames"]
            say(f"five seconds after it goes on, {now['held_now_frames']} frames are still held")
        reasons_after, ports_after = self.drops()
        self.board.cli("migration", "abort", "--node", node)
        rate = (last[1]["held"] - first[1]["held"]) / (last[0] - first[0]) / 1e3
        dropped = {r: n - reasons.get(r, 0) for r, n in reasons_after.items() if n != reasons.get(r, 0)}
        at_port = {p: n - ports[p] for p, n in ports_after.items() if n != ports[p]}
        self.watched.append((locked, drained))
        self.before += before
        self.during += during
        self.rates.append(rate)
        self.held.append(now["held"] - held_before)
        self.held_ms.append((last[0] - stopped) * 1e3)
        self.bytes.append(last[1]["held_now_bytes"])
        self.lost += at_port.get("x", 0)
        self.other_lost += sum(dropped.values()) - at_port.get("x", 0)
        say(f"round {number}: {state}, {rate:.0f} frames a millisecond for X, {last[1]['held_now_bytes'] >> 20} MiB held "
            f"after {self.held_ms[-1]:.0f} ms, empty {(drained - locked) * 1e3 - self.held_ms[-1]:.0f} ms later; others "
            f"{median(before, 0):.0f} frames a millisecond before, {median(during, 0):.0f} meanwhile (by the lcore's "
            f"own time {median(before, 1):.0f} and {median(during, 1):.0f}); "
            f"dropped {dropped or 'nothing'}")

    def missing(self):
        """Frames that the file lacks, or has in another order, while they were watched."""
        missing = frames = 0
        previous, watched = None, iter(self.watched)
        begin, end = next(watched)
        for at, number in numbers(self.vm.got):
            while at > end:
                begin, end = next(watched, (math.inf, math.inf))
            if at >= begin and previous is not None:
                missing += (number - previous - 1) % NUMBERED
                frames += 1
            previous = number
        say(f"of {frames} frames for X between lock and empty hold {missing} are missing or not in order")
        return missing, frames


def body(lab):
    say("building an appliance and its traffic for ever")
    run = Run(lab)
    try:
        for number in range(1, ROUNDS + 1):
            run.round(number)
        run.vm.quit()
        gaps, frames = run.missing()
    finally:
        run.vm.got.unlink(missing_ok=True)
    slowed, by_clock = (100 * (1 - median(run.during, n) / median(run.before, n)) for n in (1, 0))
    return {
        "rounds": len(run.rates),
        "frames_per_ms": round(min(run.rates)),
        "held": sum(run.held),
        "held_ms": round(min(run.held_ms)),
        "hold_bytes_used": max(run.bytes),
        "budget_bytes": BUDGET_MIB << 20,
        "delivered": frames,
        "lost": run.lost + run.undrained,
        "missing_or_out_of_order": gaps,
        "other_lost": run.other_lost,
        "others_per_ms": round(median(run.before, 0)),
        "others_slowed_percent": round(slowed, 1),
        "others_slowed_percent_by_clock": round(by_clock, 1),
        "locks_left": len(run.board.json("migration", "list", "--active")),
        "over_budget": int(max(run.bytes) > BUDGET_MIB << 20),
        "too_slow": int(min(run.rates) < FRAMES_PER_MS) + int(slowed >= SLOWED_PERCENT),
    }


scenario.main("migration-hold", body,
              must_be_zero=["lost", "missing_or_out_of_order", "other_lost", "locks_left", "over_budget"],
              must_be_zero_alone=["too_slow"],
              must_be_positive=["rounds", "held", "delivered"])
