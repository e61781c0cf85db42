#!/usr/bin/python3
"""Malformed and hostile frames from a VM, a VLAN trunk and the underlay, and pcap files with frames that no kernel
would send: nothing crashes, packet accounting holds, and ordinary traffic passes as before.

The frames made by hand come first (`lib/traffic/bad_frames.py`: truncated at each length, wrong lengths, reserved bits,
wrong VNIs, loops, spoofed sources, ARP storms, jumbo frames, IP options, fragments). They carry marks, and captures are
searched for these: a spoofed frame must not arrive, no frame may cross to another network, none from the underlay may
go back to it. Then come generated frames, STOPOVER_CASES of them (10000 if unset) from STOPOVER_SEED.
"""

import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scapy.utils import PcapWriter, RawPcapReader

from lib import scenario
from lib.lab import Failure, fabric, info
from lib.lab.netns import Namespace, veth, wire_to_bridge
from lib.lab.process import Process
from lib.product import ron, stopover
from lib.traffic import bad_frames, capture, mesh

RED, BLUE = 100, 200
SEED = int(os.environ.get("STOPOVER_SEED", "20240607"))
GENERATED = int(os.environ.get("STOPOVER_CASES", "10000"))
RATE = 2500  # frames per second and attacker
TOOL = pathlib.Path(__file__).resolve().parents[1] / "tools" / "blast.py"
NO_SUCH_VNI = 999
OTHERS4, OTHERS6 = ["192.168.0.1", "192.168.0.2", "192.168.0.200"], ["fd01::1", "fd01::2", "fd01::200"]


def blast(lab, rounds):
    """Sends the cases of each (namespace, cases), all at once. Returns how many were sent."""
    jobs = []
    for ns, cases in rounds:
        path = lab.dir / f"{ns.name}.frames"
        path.write_bytes(b"".join(struct.pack("!H", len(f)) + f for _, f in cases))
        jobs.append(Process(lab, f"blast-{ns.name}", ["/usr/bin/python3", TOOL, "eth0", RATE, path], ns=ns, pipes=True))
    total = 0
    for p in jobs:
        out = p.popen.stdout.readline().split()
        if p.wait_end(10) != 0 or len(out) != 2:
            raise Failure(f"{p.name} failed: {p.tail()}")
        total += int(out[0])
    return total


def marked(path, tag, src_mac=None):
    """How many captured frames carry the mark of `tag` (any mark, if it is empty), and come from `src_mac` if given."""
    needle = bad_frames.MARK + tag.encode()
    src = bytes.fromhex(src_mac.replace(":", "")) if src_mac else b""
    return sum(needle in frame and frame[6:12].startswith(src) for frame, _ in RawPcapReader(str(path)))


def pcap(path, cases, runt):
    """Writes cases to a pcap file, with `runt` cut at each length below an Ethernet header, and jumbo frames: a wire
    may bring them, but a packet socket cannot send them. Returns how many frames the file has."""
    extra = [runt[:n] for n in range(14)] + [runt + bytes(n) for n in (1500, 2000, 2048, 2176, 4000, 9000, 16000)]
    with PcapWriter(str(path), linktype=1) as w:
        for frame in [f for _, f in cases] + extra:
            w.write(frame)
    return len(cases) + len(extra)


def addresses_of(n):
    """(MAC, IPv4, IPv6) of station n."""
    return fabric.mac(n), *fabric.ips(n)


def fixed(n):
    """A static neighbour entry for host n."""
    return [{"ip": ip.format(n), "mac": fabric.MAC.format(n)} for ip in (fabric.VTEP4, fabric.VTEP6)]


class Run:
    """Two hosts with ordinary stations, and attackers at a VM's port, a trunk and the underlay."""

    def __init__(self, lab):
        self.lab = lab
        lab.hugepages(3 * stopover.MEMORY_MIB + 64)
        self.board = stopover.Board(lab)
        self.net = net = fabric.Fabric(lab)
        # Static neighbours: an attacker who can forge ARP on the underlay could otherwise redirect the hosts' traffic.
        self.a = net.host("gw-a", self.board, neighbours=fixed(2))
        self.b = net.host("gw-b", self.board, neighbours=fixed(1))
        self.red = [self.station("red1", RED, 1, self.a), self.station("red2", RED, 2, self.b)]
        self.blue = [self.station("blue1", BLUE, 1, self.a), self.station("blue2", BLUE, 2, self.b)]
        self.ordinary = self.red + self.blue
        self.add_attackers()
        self.vtep_a = (fabric.MAC.format(1), *self.a.vteps)
        self.vtep_b = ("02:66:00:00:00:02", *self.b.vteps)
        self.by_vif = bad_frames.from_vif(addresses_of(3), addresses_of(2), OTHERS4, OTHERS6)
        self.by_trunk = bad_frames.from_trunk([10, 30], "192.168.0.50", "fd01::50", [s.mac for s in self.red],
                                              addresses_of(2))
        self.by_wire = bad_frames.from_underlay(self.vtep_a, self.vtep_b, addresses_of(1), addresses_of(2), RED,
                                                NO_SUCH_VNI)
        self.figures = {"cases": 0, "crashes": 0, "unaccounted": 0}

    def station(self, name, vni, n, host):
        return fabric.Tenant.numbered(self.lab, name, vni, n, vni + n).plug_vif(host)

    def add_attackers(self):
        lab, a = self.lab, self.a
        self.mallory = self.station("mallory", RED, 3, a)
        self.mallory.ns.ip("link", "set", "eth0", "mtu", 9000)
        a.ns.ip("link", "set", f"vm{self.mallory.id}", "mtu", 9000)
        self.trunk = Namespace(lab, "trunk")
        veth(self.trunk, "eth0", a.ns, "trunk")
        self.trunk.no_ipv6("eth0")
        a.cabled("trunk", "trunk", ron.tagged("segment", vlans=ron.Map({10: RED, 30: 300})))
        self.eve = Namespace(lab, "eve")
        wire_to_bridge(self.eve, "eth0", self.net.switch, "br0", "port-eve")
        self.net.switch.run("bridge", "link", "set", "dev", "port-eve", "learning", "off")

    def pcap_host(self):
        """A third host that has only pcap files for ports: it receives their frames as soon as it starts. Counts them
        as cases."""
        lab = self.lab
        p = stopover.Appliance(lab, "gw-p", self.a.ns, self.board)
        vtep = "02:70:63:61:70:00", "10.0.0.3", "fd00::3"  # the MAC that net_pcap gives its first device
        wire_cases = bad_frames.from_underlay(vtep, self.vtep_b, addresses_of(4), addresses_of(2), RED, NO_SUCH_VNI)
        vif_cases = bad_frames.from_vif(addresses_of(4), addresses_of(2), OTHERS4, OTHERS6)
        frames = pcap(lab.dir / "wire.pcap", wire_cases, wire_cases[-1][1])
        frames += pcap(lab.dir / "vif.pcap", vif_cases, vif_cases[0][1])
        p.port("ul0", f"net_pcap0,rx_pcap={lab.dir}/wire.pcap,tx_pcap={lab.dir}/wire-out.pcap",
               ron.tagged("underlay", addresses=["10.0.0.3/24", "fd00::3/64"]))
        p.port("vm4", f"net_pcap1,rx_pcap={lab.dir}/vif.pcap,tx_pcap={lab.dir}/vif-out.pcap",
               ron.tagged("vif", vni=RED, mac=addresses_of(4)[0], addresses=list(addresses_of(4)[1:]), guard=True))
        self.figures["cases"] += frames
        info(f"a third appliance receives {frames} frames from pcap files")
        return p

    def start(self):
        for host in (self.a, self.b):
            host.start()
        stopover.wait_nodes([self.a, self.b], 5)
        before, bad_pings = mesh.pings(self.ordinary, count=3)
        if before["lost"]:
            raise Failure(f"pings are lost before the attack begins: {bad_pings}")
        self.appliances = [self.a, self.b, self.pcap_host().start()]

    def hand_made(self):
        """Sends the frames made by hand, and looks for them where they must not be."""
        storm = bad_frames.arp_storm(self.mallory.mac, self.mallory.ips[0])
        info(f"sending the frames made by hand: {len(self.by_vif)} and an ARP storm of {len(storm)} from a VM, "
             f"{len(self.by_trunk)} from a trunk, {len(self.by_wire)} from the underlay")
        taps = {s.name: capture.Capture(self.lab, s.ns, "eth0", s.name) for s in self.ordinary}
        wire = capture.Capture(self.lab, self.net.switch, "br0", "underlay")
        self.figures["cases"] += blast(self.lab, [(self.mallory.ns, self.by_vif + storm), (self.trunk, self.by_trunk),
                                                  (self.eve, self.by_wire)])
        for c in (*taps.values(), wire):
            c.stop()
        valid = sum(bad_frames.mark("valid") in f for _, f in self.by_wire)
        arrived = marked(taps["red1"].path, "valid", self.red[1].mac)
        found = {
            "spoofed_delivered": sum(marked(taps[s.name].path, "spoof") for s in self.ordinary),
            "leaked_between_networks": sum(marked(taps[s.name].path, "") for s in self.blue),
            "reflected": sum(marked(wire.path, tag, self.vtep_a[0]) for tag in ("loop", "bcast")),
            "valid_lost": valid - arrived,
            "invalid_delivered": marked(taps["red1"].path, "noflag"),
        }
        info(f"of these, {found['spoofed_delivered']} spoofed ones arrived, {found['leaked_between_networks']} crossed "
             f"to another network, {found['reflected']} went back to the underlay; of {valid} odd but valid ones {arrived} "
             "arrived")
        self.figures |= found

    def generated(self):
        info(f"sending {GENERATED} generated frames (seed {SEED})")
        share = GENERATED // 3 + 1
        made = [(self.mallory.ns, bad_frames.generated(self.by_vif, share, SEED, 12)),
                (self.trunk, bad_frames.generated(self.by_trunk, share, SEED + 1, 12)),
                (self.eve, bad_frames.generated(self.by_wire, share, SEED + 2, 12))]
        self.figures["generated"] = blast(self.lab, made)
        self.figures["cases"] += self.figures["generated"]

    def crashes(self):
        """How many programs have not survived."""
        for process in (self.board.process, *(h.process for h in self.appliances)):
            text = process.log.read_text(errors="replace")
            if not process.alive() or "panicked at" in text:
                self.figures["crashes"] += 1
                info(f"{process.name} did not survive; its last output:\n    {process.tail()}")
        return self.figures["crashes"]

    def ordinary_traffic(self):
        """Whether ordinary traffic passes, and packet accounting holds before and after it."""
        f = self.figures
        f["unaccounted"] += stopover.accounting(self.appliances, hostile=True)["unaccounted"]
        pinged, bad_pings = mesh.pings(self.ordinary, count=5)
        udp = mesh.streams(self.lab, self.ordinary, count=200, rate=400)
        for line in bad_pings:
            info(line)
        info(f"ordinary traffic afterwards: ping {dict(pinged)}, UDP {dict(udp)}")
        f["unaccounted"] += stopover.accounting(self.appliances, hostile=True)["unaccounted"]
        f["leaked_between_networks"] += udp["leaked_between_networks"]
        f["lost"] = pinged["lost"] + udp["lost"]
        f["duplicated"] = pinged["duplicated"] + udp["duplicated"]


def body(lab):
    info("building two hosts, ordinary stations, and attackers at a VM's port, a trunk and the underlay")
    run = Run(lab)
    run.start()
    run.hand_made()
    run.generated()
    info("the attack is over; checking the programs and ordinary traffic")
    if not run.crashes():
        run.ordinary_traffic()
    return run.figures


scenario.main("bad-frames", body,
              must_be_zero=["crashes", "unaccounted", "spoofed_delivered", "leaked_between_networks", "reflected",
                            "valid_lost", "invalid_delivered", "lost", "duplicated"],
              must_be_positive=["cases"])
