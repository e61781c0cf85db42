"""Checks the frames that come out of a data path: its sink is a pcap file for a moment, and scapy, which shares no code
with the data paths, reads it."""

import ipaddress
import random
import time

from ..lab import Failure, info
from ..traffic.frames import checksum, mac_text, read_pcap
from .workload import SEED, VNI, VXLAN_PORT, own

SAMPLE = 200
RUN_S = 0.02


def sink(path):
    """The vdev that writes to a file."""
    return f"net_pcap1,tx_pcap={path}"


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
        ports = {f[34:36] for f in sample}
        if len(ports) < SAMPLE // 4:
            bad.append(f"only {len(ports)} UDP source ports in {SAMPLE} frames: they must differ by flow")
    for why in bad[:3]:
        info(f"{dut.name}: {why}")
    return len(bad)


def _encapsulated(octets, world, frames, number, moving):
    """Why a frame is not the result of correct encapsulation, or None."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.layers.vxlan import VXLAN

    outer = Ether(octets)
    if not (IP in outer and UDP in outer and outer[UDP].dport == VXLAN_PORT):
        return f"not VXLAN: {outer.summary()}"
    vxlan = VXLAN(bytes(outer[UDP].payload))
    inner = bytes(vxlan.payload)
    found = frames.get(inner)
    if found is None:
        return f"the inner frame is not a frame of the source: {inner.hex()}"
    host = world.host(found)
    if moving:
        host = next((h for h in range(world.hosts) if world.vtep(h) == outer[IP].dst), host)
    head = octets[14:34]
    facts = {
        "VNI": (vxlan.vni, VNI), "flags": (int(vxlan.flags), 8), "destination": (outer[IP].dst, world.vtep(host)),
        "source": (outer[IP].src, own(number)[2]), "next hop": (outer.dst, mac_text(world.host_mac(host))),
        "IP checksum": (outer[IP].chksum, checksum(head[:10] + b"\0\0" + head[12:])),
        "IP length": (outer[IP].len, len(octets) - 14), "UDP length": (outer[UDP].len, len(octets) - 34),
        "unicast": (ipaddress.ip_address(outer[IP].dst).is_multicast, False),
    }
    return "; ".join(f"{k} is {a}, not {b}" for k, (a, b) in facts.items() if a != b) or None
