"""Looks in captures for what an encrypted tunnel must hide: the payload of streams, and pairs of addresses of stations. Any of
these by chance in a gigabyte of random bytes: less than once in a hundred thousand runs."""

import collections
import ipaddress
import re

from .frames import each_of_pcap

PORT = (4789).to_bytes(2, "big")
PAYLOAD = b"stopover-streams"  # how each datagram of `Streams` begins


def _one_of(texts):
    return b"(?:" + b"|".join(sorted(re.escape(t) for t in texts)) + b")"


def kind(frame):
    """What a frame of the underlay is: `esp`, `handshake`, `plain` VXLAN, or `other`."""
    if frame[12:14] == b"\x08\x00":
        at, protocol = 14 + 4 * (frame[14] & 0xF), frame[23]
    elif frame[12:14] == b"\x86\xdd":
        at, protocol = 54, frame[20]
    else:
        return "other"
    payload = frame[at + 8:]
    if protocol != 17 or frame[at + 2:at + 4] != PORT or len(payload) < 8:
        return "other"
    if payload[0] & 0x08:
        return "plain"
    if payload[:4] == bytes(4):
        return "handshake"
    return "esp" if payload[0] >= 0xC0 else "other"


class Sought:
    """The payload of streams, and the pairs of addresses of these stations as they stand in headers."""

    def __init__(self, stations):
        macs = [bytes.fromhex(s.mac.replace(":", "")) for s in stations]
        ips = [ipaddress.ip_address(ip).packed for s in stations for ip in s.ips]
        pairs = [macs, *([ip for ip in ips if len(ip) == n] for n in (4, 16))]
        self.patterns = [re.compile(p, re.DOTALL) for p in (re.escape(PAYLOAD), *(_one_of(p) * 2 for p in pairs))]

    def bytes_in(self, frame):
        """How many bytes of a frame are such."""
        return sum(len(found) for p in self.patterns for found in p.findall(frame))

    def search(self, path):
        """The number of such bytes in a capture, and its frames by kind."""
        found, kinds = 0, collections.Counter()
        for frame in each_of_pcap(path):
            kinds[kind(frame)] += 1
            found += self.bytes_in(frame)
        return found, kinds
