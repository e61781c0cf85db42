"""Checks the frames that come out of a data path: its sink is a pcap file for a moment, and scapy, which shares no code
with the data paths, reads it."""

import ipaddress
import pathlib
import random
import time

from ..lab import Failure, info
from ..traffic.frames import checksum, mac_text, read_pcap, tagged, udp_checksum, untagged
from . import workload
from .setup import NUMBERS
from .workload import SEED, VNI, VXLAN_PORT

SAMPLE = 200
RUN_S = 0.02


def sink(path):
    """The vdev that writes to a file."""
    return f"net_pcap1,tx_pcap={path}"


def both(bench):
    """How many wrong frames come out of our appliance and of Open vSwitch, in both directions."""
    wrong, path, kind = 0, pathlib.Path(f"/dev/shm/so{bench.lab.pid}-sink.pcap"), bench.world.kind
    encap = {untagged(f) if kind.trunk else f: n for n, f in workload.encap_frames(bench.world, NUMBERS["encap"], bench.frames, bench.sizes)}
    decap = {tagged(i, kind.trunk) for _, _, i in workload.decap_frames(bench.world, NUMBERS["decap"], bench.frames,
                                                                         bench.sizes)}
    try:
        for direction, expected in (("encap", encap), ("decap", decap)):
            for make in (bench.gateway, bench.ovs):
                wrong += check(make(direction, "-check", sink=sink(path)), path, bench.world, expected)
    finally:
        path.unlink(missing_ok=True)
    return wrong


def check(dut, path, world, expected, moving=False):
    """Lets a DUT with `sink(path)` write for a moment, ends it, and compares a sample of the file with `expected`:
    nodes by frame for "encap", the set of inner frames for "decap". Returns how many frames are wrong. With `moving`,
    nodes move at the same time, so a frame may go to any host."""
    dut.start()
    dut.resume()
    time.sleep(RUN_S)
    counted = dut.counters()
    dut.quit()
    frames = read_pcap(path)
    path.unlink()
    frames = frames[len(frames) // 2:]
    if len(frames) < SAMPLE:
        raise Failure(f"{dut.name} wrote only {len(frames)} frames to its sink, a file; received, sent, dropped: "
                      f"{counted}")
    return wrong(dut, frames, world, expected, moving)


def wrong(dut, frames, world, expected, moving=False):
    """How many frames of a sample are not as expected; see `check`."""
    sample = random.Random(SEED).sample(frames, SAMPLE)
    if dut.direction == "decap":
        bad = [f"not a frame of the source: {f.hex()}" for f in sample if f not in expected]
    else:
        bad = [why for f in sample if (why := _encapsulated(f, world, expected, dut.number, moving))]
        at = 34 + 20 * (world.kind.underlay == 6) + 4 * bool(world.kind.underlay_vlan)
        ports = {f[at:at + 2] for f in sample}
        if len(ports) < SAMPLE // 4:
            bad.append(f"only {len(ports)} UDP source ports in {SAMPLE} frames: they must differ by flow")
    for why in bad[:3]:
        info(f"{dut.name}: {why}")
    return len(bad)


def _encapsulated(octets, world, frames, number, moving):
    """Why a frame is not the result of correct encapsulation, or None."""
    from scapy.layers.inet import UDP
    from scapy.layers.l2 import Dot1Q, Ether
    from scapy.layers.vxlan import VXLAN

    outer, kind = Ether(octets), world.kind
    ip = outer.payload.payload if Dot1Q in outer else outer.payload
    if not (ip.version == kind.underlay and UDP in outer and outer[UDP].dport == VXLAN_PORT):
        return f"not VXLAN over IPv{kind.underlay}: {outer.summary()}"
    vxlan = VXLAN(bytes(outer[UDP].payload))
    inner = bytes(vxlan.payload)
    found = frames.get(inner)
    if found is None:
        return f"the inner frame is not a frame of the source: {inner.hex()}"
    host = world.host(found)
    if moving:
        host = next((h for h in range(world.hosts) if world.vtep(h) == ip.dst), host)
    tag_len = 4 * bool(kind.underlay_vlan)
    head = octets[14 + tag_len:]
    facts = {
        "VNI": (vxlan.vni, VNI), "flags": (int(vxlan.flags), 8), "destination": (ip.dst, world.vtep(host)),
        "source": (ip.src, world.own(number)[2]), "next hop": (outer.dst, mac_text(world.host_mac(host))),
        "VLAN": (outer[Dot1Q].vlan if Dot1Q in outer else 0, kind.underlay_vlan),
        "unicast": (ipaddress.ip_address(ip.dst).is_multicast, False),
        **(_lengths6(ip, head) if kind.underlay == 6 else _lengths4(ip, head)),
    }
    return "; ".join(f"{k} is {a}, not {b}" for k, (a, b) in facts.items() if a != b) or None


def _lengths4(ip, head):
    return {"IP checksum": (ip.chksum, checksum(head[:10] + b"\0\0" + head[12:20])), "IP length": (ip.len, len(head)),
            "UDP length": (ip.payload.len, len(head) - 20)}


def _lengths6(ip, head):
    """A checksum of zero is not accepted."""
    without = head[40:46] + b"\0\0" + head[48:]
    return {"UDP checksum": (ip.payload.chksum, udp_checksum(head[8:24], head[24:40], without)),
            "IP length": (ip.plen, len(head) - 40), "UDP length": (ip.payload.len, len(head) - 40)}
