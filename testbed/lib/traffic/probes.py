"""Numbered frames from one station, and what arrives of them at others. A watching station records everything: a frame that is
damaged, comes twice, or is nobody's, counts."""

import collections
import struct
import threading

from ..lab import info

ETHERTYPE = b"\x88\xb5"  # for local experiments: no kernel answers it
MARK = b"stopover-probes-"
SIZE = 66  # of a frame; no other one of the stations is as long
OUTGOING = 4  # PACKET_OUTGOING of Linux: a frame that this side sent


def octets(mac):
    return bytes.fromhex(mac.replace(":", ""))


def sealed_length(frame):
    """The IPv4 length of the ESP datagram that carries a frame of so many bytes (docs/wire-formats.md)."""
    text = 8 + 8 + frame
    return 20 + 8 + 16 + text + -(text + 2) % 4 + 2 + 16


HELD_LENGTH = sealed_length(SIZE)


class Probes:
    """Frames with numbers that no other frame has, from any station."""

    def __init__(self):
        self.frames = []

    def make(self, count, source, to, size=SIZE):
        """Frames as `source` sends them. Returns their numbers."""
        first = len(self.frames)
        for n in range(first, first + count):
            frame = octets(to.mac) + octets(source.mac) + ETHERTYPE + MARK + struct.pack("!I", n)
            self.frames.append(frame.ljust(size, b"\0"))
        return range(first, first + count)


class Watch:
    """What arrives at a station: probes by their numbers, `damaged` ones, and frames that are `strange`: neither probes nor
    what the kernels of stations and the streams send each other."""

    def __init__(self, station, probes, stream_ports):
        self.name, self.probes, self.stream_ports = station.name, probes, stream_ports
        self.arrived, self.damaged, self.strange, self.over = collections.Counter(), 0, 0, False
        self.socket = station.ns.packet_socket("eth0", receive=True)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                frame, source = self.socket.recvfrom(4096)
            except OSError:
                return
            if self.over:
                return
            if source[2] != OUTGOING:
                self._record(frame)

    def _record(self, frame):
        if frame[14:30] == MARK and len(frame) >= 34:
            number = struct.unpack_from("!I", frame, 30)[0]
            if number < len(self.probes.frames) and frame == self.probes.frames[number]:
                self.arrived[number] += 1
                return
            self.damaged += 1
        elif MARK in frame:
            self.damaged += 1
        elif frame[12:14] == b"\x08\x06" or frame[12:14] == b"\x86\xdd" and frame[20] in (0, 58):
            return  # ARP, ND, MLD
        elif frame[12:14] == b"\x08\x00" and frame[23] == 17 and struct.unpack_from("!H", frame, 36)[0] in self.stream_ports:
            return
        else:
            self.strange += 1
        info(f"{self.name} received what nobody sent: {frame[:80].hex()}")

    def stop(self):
        """Counts nothing from now on."""
        self.over = True

    def never(self, numbers):
        """How often probes arrived that must not."""
        return sum(self.arrived[n] for n in numbers)

    def twice(self):
        """How many more copies than one arrived of all probes."""
        return sum(n - 1 for n in self.arrived.values() if n > 1)

    def missing(self, numbers):
        """How many of these have not arrived."""
        return sum(not self.arrived[n] for n in numbers)
