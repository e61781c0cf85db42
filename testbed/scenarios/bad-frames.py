#!/usr/bin/python3
"""Malformed and hostile frames from both sides: a VM, a VLAN trunk, the underlay, and pcap files with what no
kernel would send. Nothing crashes, packet accounting holds, and honest traffic passes as before.

The hand-made list (truncated at each length, lying lengths, reserved bits, wrong VNIs, loops, spoofed sources,
ARP storms, jumbos, IP options, fragments: lib/traffic/bad_frames.py) is sent first and its traces are looked for: a
spoofed frame must not arrive, nothing may cross to another network, nothing from the underlay may go back to it.
Then come generated frames, STOPOVER_CASES of them (10000 if unset) from STOPOVER_SEED.
"""

import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from scapy.utils import PcapWriter, RawPcapReader

from lib import scenario
from lib.lab import Failure, fabric, say
from lib.lab.netns import Namespace, veth, wire_to_bridge
from lib.lab.process import Process
from lib.product import ron, stopover
from lib.traffic import bad_frames, capture, mesh

RED, BLUE = 100, 200
SEED = int(os.environ.get("STOPOVER_SEED", "20240607"))
GENERATED = int(os.environ.get("STOPOVER_CASES", "10000"))
RATE = 2500  # frames per second and attacker
TOOL = pathlib.Path(__file__).resolve().parents[1] / "tools" / "blast.py"
NOWHERE_VNI = 999


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


def traces(path, tag, src_mac=None):
    """How many captured frames carry the mark of `tag` (any, if empty), and come from `src_mac` if given."""
    needle = bad_frames.MARK + tag.encode()
    src = bytes.fromhex(src_mac.replace(":", "")) if src_mac else b""
    return sum(needle in frame and frame[6:12].startswith(src) for frame, _ in RawPcapReader(str(path)))


def pcap(path, cases, runt):
    """Writes cases to a pcap file, with `runt` cut at each length below an Ethernet header, and jumbos: a wire may
    bring these though a packet socket sends none."""
    extra = [runt[:n] for n in range(14)] + [runt + bytes(n) for n in (1500, 2000, 2048, 2176, 4000, 9000, 16000)]
    with PcapWriter(str(path), linktype=1) as w:
        for frame in [f for _, f in cases] + extra:
            w.write(frame)
    return len(cases) + len(extra)


def body(lab):
    say("building two hosts, honest stations, and attackers at a VM's port, a trunk and the underlay")
    lab.hugepages(3 * stopover.MEMORY_MIB + 64)
    board = stopover.Board(lab)
    net = fabric.Fabric(lab)
    # Static neighbours: whoever can forge ARP on the wire between hosts could otherwise draw their traffic away.
    def fixed(n):
        return [{"ip": ip.format(n), "mac": fabric.MAC.format(n)} for ip in (fabric.VTEP4, fabric.VTEP6)]
    a = net.host("gw-a", board, neighbours=fixed(2))
    b = net.host("gw-b", board, neighbours=fixed(1))

    def station(name, vni, n, host):
        return fabric.Tenant(lab, name, vni + n, vni, f"02:00:00:00:00:{n:02x}",
                             [f"192.168.0.{n}/24", f"fd01::{n}/64"]).plug_vif(host)

    red = [station("red1", RED, 1, a), station("red2", RED, 2, b)]
    blue = [station("blue1", BLUE, 1, a), station("blue2", BLUE, 2, b)]
    honest = red + blue

    mallory = fabric.Tenant(lab, "mallory", RED + 3, RED, "02:00:00:00:00:03", ["192.168.0.3/24", "fd01::3/64"])
    mallory.plug_vif(a)
    mallory.ns.ip("link", "set", "eth0", "mtu", 9000)
    a.ns.ip("link", "set", f"vm{mallory.id}", "mtu", 9000)
    trunk = Namespace(lab, "trunk")
    veth(trunk, "eth0", a.ns, "trunk")
    trunk.no_ipv6("eth0")
    a.cabled("trunk", "trunk", ron.tagged("segment", vlans=ron.Map({10: RED, 30: 300})))
    eve = Namespace(lab, "eve")
    wire_to_bridge(eve, "eth0", net.switch, "br0", "port-eve")
    net.switch.run("bridge", "link", "set", "dev", "port-eve", "learning", "off")

    def who(n, mac="02:00:00:00:00:{:02x}"):
        return mac.format(n), f"192.168.0.{n}", f"fd01::{n}"

    others4, others6 = ["192.168.0.1", "192.168.0.2", "192.168.0.200"], ["fd01::1", "fd01::2", "fd01::200"]
    vtep_a = (fabric.MAC.format(1), *a.vteps)
    vtep_b = ("02:66:00:00:00:02", *b.vteps)
    by_vif = bad_frames.from_vif(who(3), who(2), others4, others6)
    by_trunk = bad_frames.from_trunk([10, 30], "192.168.0.50", "fd01::50", [red[0].mac, red[1].mac], who(2))
    by_wire = bad_frames.from_underlay(vtep_a, vtep_b, who(1), who(2), RED, NOWHERE_VNI)
    storm = bad_frames.arp_storm(mallory.mac, mallory.ips[0])

    # A third host has only pcap files for ports: what they hold is received as soon as it starts.
    p = stopover.Appliance(lab, "gw-p", a.ns, board)
    pcap_mac = "02:70:63:61:70:{:02x}".format  # what net_pcap calls its N-th device
    wire_cases = bad_frames.from_underlay((pcap_mac(0), "10.0.0.3", "fd00::3"), vtep_b, who(4), who(2), RED, NOWHERE_VNI)
    in_files = pcap(lab.dir / "wire.pcap", wire_cases, wire_cases[-1][1])
    vif_cases = bad_frames.from_vif(who(4), who(2), others4, others6)
    in_files += pcap(lab.dir / "vif.pcap", vif_cases, vif_cases[0][1])
    p.port("ul0", f"net_pcap0,rx_pcap={lab.dir}/wire.pcap,tx_pcap={lab.dir}/wire-out.pcap",
           ron.tagged("underlay", addresses=["10.0.0.3/24", "fd00::3/64"]))
    p.port("vm4", f"net_pcap1,rx_pcap={lab.dir}/vif.pcap,tx_pcap={lab.dir}/vif-out.pcap",
           ron.tagged("vif", vni=RED, mac=who(4)[0], addresses=list(who(4)[1:]), guard=True))

    appliances = [a, b, p]
    for host in (a, b):
        host.start()
    stopover.wait_nodes([a, b], 5)
    before, bad_pings = mesh.pings(honest, count=3)
    if before["lost"]:
        raise Failure(f"even before the attack pings are lost: {bad_pings}")
    p.start()
    say(f"a third appliance takes {in_files} frames from pcap files")

    say(f"sending the hand-made frames: {len(by_vif)} and an ARP storm of {len(storm)} by a VM, {len(by_trunk)} by a "
        f"trunk, {len(by_wire)} by the underlay")
    taps = {s.name: capture.Capture(lab, s.ns, "eth0", s.name) for s in honest}
    wire = capture.Capture(lab, net.switch, "br0", "underlay")
    sent = blast(lab, [(mallory.ns, by_vif + storm), (trunk, by_trunk), (eve, by_wire)])
    for c in (*taps.values(), wire):
        c.stop()
    leaked = sum(traces(taps[s.name].path, "") for s in blue)
    spoofed = sum(traces(taps[s.name].path, "spoof") for s in honest)
    reflected = sum(traces(wire.path, tag, vtep_a[0]) for tag in ("loop", "bcast"))
    valid = sum(bad_frames.mark("valid") in f for _, f in by_wire)
    arrived = traces(taps["red1"].path, "valid", red[1].mac)
    intruded = traces(taps["red1"].path, "noflag")
    say(f"of these, {spoofed} spoofed ones arrived, {leaked} crossed to another network, {reflected} went back to the "
        f"underlay; of {valid} odd but valid ones {arrived} arrived")

    say(f"sending {GENERATED} generated frames (seed {SEED})")
    share = GENERATED // 3 + 1
    made = [(mallory.ns, bad_frames.generated(by_vif, share, SEED, 12)),
            (trunk, bad_frames.generated(by_trunk, share, SEED + 1, 12)),
            (eve, bad_frames.generated(by_wire, share, SEED + 2, 12))]
    generated = blast(lab, made)

    say("the attack is over; looking whether all are well")
    crashes = 0
    for process in (board.process, *(h.process for h in appliances)):
        text = process.log.read_text(errors="replace")
        if not process.alive() or "panicked at" in text:
            crashes += 1
            say(f"{process.name} did not survive; its last words:\n    {process.tail()}")
    if crashes:
        return {"cases": sent + generated + in_files, "crashes": crashes}
    unaccounted = stopover.accounting(appliances, hostile=True)["unaccounted"]
    pinged, bad_pings = mesh.pings(honest, count=5)
    udp = mesh.streams(lab, honest, count=200, rate=400)
    for line in bad_pings:
        say(line)
    say(f"honest traffic afterwards: ping {dict(pinged)}, UDP {dict(udp)}")
    unaccounted += stopover.accounting(appliances, hostile=True)["unaccounted"]
    return {
        "cases": sent + generated + in_files,
        "generated": generated,
        "crashes": crashes,
        "unaccounted": unaccounted,
        "spoofed_delivered": spoofed,
        "leaked_between_networks": leaked + udp["leaked_between_networks"],
        "reflected": reflected,
        "valid_lost": valid - arrived,
        "invalid_delivered": intruded,
        "lost": pinged["lost"] + udp["lost"],
        "duplicated": pinged["duplicated"] + udp["duplicated"],
    }


scenario.main("bad-frames", body,
              must_be_zero=["crashes", "unaccounted", "spoofed_delivered", "leaked_between_networks", "reflected",
                            "valid_lost", "invalid_delivered", "lost", "duplicated"],
              must_be_positive=["cases"])
