"""Do the right frames come out? Each data path once more, its sink a pcap file for a moment, and what is in it read
back by scapy, which knows nothing of any of them."""

import ipaddress
import random
import time

from ..lab import Failure, say
from .workload import SEED, VNI, VXLAN_PORT, checksum, own, read_pcap, text

SAMPLE = 200
RUN_S = 0.02


def sink(path):
    """The vdev that writes to a file."""
    return f"net_pcap1,tx_pcap={path}"


def check(contender, path, world, expected, moving=False):
    """Lets a contender, built with `sink(path)`, write for a moment, ends it, and compares a sample of the file with
    `expected`: frames by node for "encap", the set of inner frames for "decap". Returns how many frames are wrong.
    `moving`: nodes move meanwhile, so a frame may be for any of the hosts."""
    contender.start()
    contender.resume()
    time.sleep(RUN_S)
    counted = contender.counters()
    contender.quit()
    frames = read_pcap(path)
    path.unlink()
    frames = frames[len(frames) // 2:]
    if len(frames) < SAMPLE:
        raise Failure(f"{contender.name} wrote {len(frames)} frames to the file that was its sink; received, sent, "
                      f"dropped: {counted}")
    return wrong(contender, frames, world, expected, moving)


def wrong(contender, frames, world, expected, moving=False):
    """How many of a sample of the frames that came out of a contender are not as expected; see `check`."""
    sample = random.Random(SEED).sample(frames, SAMPLE)
    if contender.direction == "decap":
        bad = [f"not a frame that was given: {f.hex()}" for f in sample if f not in expected]
    else:
        bad = [why for f in sample if (why := _encapsulated(f, world, expected, contender.number, moving))]
        ports = {f[34:36] for f in sample}
        if len(ports) < SAMPLE // 4:
            bad.append(f"only {len(ports)} UDP source ports in {SAMPLE} frames: flows are not told apart")
    for why in bad[:3]:
        say(f"{contender.name}: {why}")
    return len(bad)


def _encapsulated(octets, world, frames, number, moving):
    """Why a frame is not what encapsulation should have made, or None."""
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
        return f"the frame inside is not one that was given: {inner.hex()}"
    host = world.host(found)
    if moving:
        host = next((h for h in range(world.hosts) if world.vtep(h) == outer[IP].dst), host)
    head = octets[14:34]
    facts = {
        "VNI": (vxlan.vni, VNI), "flags": (int(vxlan.flags), 8), "destination": (outer[IP].dst, world.vtep(host)),
        "source": (outer[IP].src, own(number)[2]), "next hop": (outer.dst, text(world.host_mac(host))),
        "IP checksum": (outer[IP].chksum, checksum(head[:10] + b"\0\0" + head[12:])),
        "IP length": (outer[IP].len, len(octets) - 14), "UDP length": (outer[UDP].len, len(octets) - 34),
        "unicast": (ipaddress.ip_address(outer[IP].dst).is_multicast, False),
    }
    return "; ".join(f"{k} is {a}, not {b}" for k, (a, b) in facts.items() if a != b) or None
