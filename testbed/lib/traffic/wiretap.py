"""Somebody on the underlay, who reads what hosts send each other, keeps datagrams from arriving, and sends what he likes.

    tap = Wiretap(fabric, host)          reads all tunnel datagrams that the host sends
    with tap.hold(length=140): ...       IPv4 datagrams of this length do not arrive meanwhile
    eve = Eve(lab, fabric)
    eve.send(2, 1, payloads)             UDP payloads, as if host 2 had sent them to host 1
"""

import contextlib
import ipaddress
import struct
import threading
import time
from collections import namedtuple

from ..lab.fabric import MAC, VTEP4
from ..lab.netns import Namespace, veth, wire_to_bridge
from .frames import ipv4_udp_header

PORT = 4789
OUTGOING = 4  # PACKET_OUTGOING of Linux: a frame that this side sent
MARKER = bytes(4)  # what handshakes begin with
SINK = "sink0"
INITIATION, RESPONSE, CONTROL, COOKIE = 1, 2, 3, 4

Datagram = namedtuple("Datagram", "at to length payload")


def mac(host):
    """The MAC of host number `host` on the underlay."""
    return bytes.fromhex(MAC.format(host).replace(":", ""))


def vtep(host):
    """Its IPv4 address."""
    return ipaddress.ip_address(VTEP4.format(host)).packed


class Wiretap:
    """All tunnel datagrams over IPv4 that a host sends, as they leave it."""

    def __init__(self, fabric, host):
        self.switch, self.dev, self.datagrams = fabric.switch, f"port{host.number}", []
        self.switch.run("tc", "qdisc", "add", "dev", self.dev, "clsact")
        self.socket = self.switch.packet_socket(self.dev, receive=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                frame, source = self.socket.recvfrom(4096)
            except OSError:
                return
            if source[2] == OUTGOING or frame[12:15] != b"\x08\x00\x45" or frame[23] != 17:
                continue
            if struct.unpack_from("!H", frame, 36)[0] == PORT:
                length = struct.unpack_from("!H", frame, 16)[0]
                self.datagrams.append(Datagram(time.monotonic(), frame[30:34], length, frame[42:14 + length]))

    def since(self, mark, to=None):
        """What came after the first `mark` datagrams; to host number `to`, if given."""
        time.sleep(0.05)
        return [d for d in self.datagrams[mark:] if to is None or d.to == vtep(to)]

    def mark(self):
        """How many there are."""
        return len(self.datagrams)

    @contextlib.contextmanager
    def hold(self, length=None):
        """Datagrams of this IP length do not arrive meanwhile; handshakes, if none is given."""
        match = ("u16", length, "0xffff", "at", 2) if length else ("u32", 0, "0xffffffff", "at", 28)
        # The kernel's `drop` is in a module that is not everywhere.
        self.switch.run("tc", "filter", "add", "dev", self.dev, "ingress", "pref", 10, "protocol", "ip", "u32",
                        "match", "ip", "protocol", 17, "0xff", "match", *match,
                        "action", "mirred", "egress", "redirect", "dev", SINK)
        try:
            yield
        finally:
            self.switch.run("tc", "filter", "del", "dev", self.dev, "ingress", "pref", 10)


def handshakes(datagrams, kind):
    """The payloads of handshakes of this kind."""
    return [d.payload for d in datagrams if d.payload[:4] == MARKER and d.payload[4:5] == bytes([kind])]


class Eve:
    """A station of the underlay that the switch does not learn, so that it can send in any host's name."""

    def __init__(self, lab, fabric):
        self.ns = Namespace(lab, "eve")
        wire_to_bridge(self.ns, "eth0", fabric.switch, "br0", "port-eve", mtu=fabric.mtu)
        fabric.switch.run("bridge", "link", "set", "dev", "port-eve", "learning", "off")
        # A cable whose far end nobody looks at, for what must not arrive.
        veth(fabric.switch, SINK, fabric.switch, "sink1", mtu=fabric.mtu)
        self.socket = self.ns.packet_socket("eth0")
        self.sent = 0

    def frame(self, source, to, payload, port=49_152, length=None):
        """A frame with a UDP datagram from `source`, a host's number or an address, to host number `to`. The UDP header has
        the length of a payload of `length` bytes, if that is given."""
        address = vtep(source) if isinstance(source, int) else ipaddress.ip_address(source).packed
        return (mac(to) + (mac(source) if isinstance(source, int) else b"\x02\x66\0\0\0\x01") + b"\x08\x00"
                + ipv4_udp_header(address, vtep(to), 28 + len(payload))
                + struct.pack("!HHHH", port, PORT, 8 + (len(payload) if length is None else length), 0) + payload)

    def send_frames(self, frames, rate=2_500):
        """Sends frames, so many per second. Returns how many."""
        began, n = time.monotonic(), 0
        for n, frame in enumerate(frames, 1):
            self.socket.send(frame)
            ahead = n / rate - (time.monotonic() - began)
            if ahead > 0.002:
                time.sleep(ahead)
        self.sent += n
        return n

    def send(self, source, to, payloads, rate=2_500):
        """Sends UDP payloads from one host to another."""
        return self.send_frames([self.frame(source, to, p) for p in payloads], rate)
