"""Thousands of stations at two sites. Each sends one frame per second from a packet socket of the site where it is."""

import struct
import threading
import time

from .frames import mac_text

ETHERTYPE = b"\x88\xb5"  # local experimental: no kernel takes these frames


def garp(mac, ip):
    """A gratuitous ARP request."""
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, ip, bytes(6), ip)
    return (b"\xff" * 6 + mac + b"\x08\x06" + arp).ljust(60, b"\0")


def data(src, dst):
    """A frame without an IP packet."""
    return (dst + src + ETHERTYPE).ljust(60, b"\0")


class Station:
    """Station `number` of network `vni`, at site 0 or 1. It sends to the MAC `peer`."""

    def __init__(self, number, site, vni, peer):
        self.number, self.site = number, site
        mac = bytes([2, 0x10, 0, 0, number >> 8, number & 0xFF])
        self.name, self.node = mac_text(mac), f"{vni}/{mac_text(mac)}"
        self.silent_until = 0.0
        self.announcement = garp(mac, bytes([10, 1, number >> 8, number & 0xFF]))
        self.frame = data(mac, peer)


class Crowd(threading.Thread):
    """All stations, and a thread that sends for them. `sockets` are the packet sockets of the two sites."""

    def __init__(self, sockets, number, vni, peer):
        super().__init__(daemon=True)
        self.sockets = sockets
        self.stations = [Station(n, n % 2, vni, peer) for n in range(number)]
        self.ended = False

    def run(self):
        began, sent = time.monotonic(), 0
        while not self.ended:
            now = time.monotonic()
            due = int((now - began) * len(self.stations))
            for n in range(sent, min(due, sent + len(self.stations))):
                station = self.stations[n % len(self.stations)]
                if station.silent_until <= now:
                    self.send(station, station.frame)
            sent = due
            time.sleep(0.005)

    def send(self, station, frame):
        try:
            self.sockets[station.site].send(frame)
        except OSError:
            pass  # the queue is full: a frame may be lost

    def move(self, group, silent=0.0):
        """Moves stations to the other site. There they are silent for so many seconds, or announce themselves at once.
        """
        now = time.monotonic()
        for station in group:
            station.silent_until = now + silent
            station.site = 1 - station.site
            if not silent:
                self.send(station, station.announcement)

    def silence(self, group, seconds):
        """Lets stations send nothing for a while."""
        now = time.monotonic()
        for station in group:
            station.silent_until = now + seconds
