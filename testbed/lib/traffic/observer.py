"""A station on a packet socket. It sends ARP requests and neighbour solicitations as a stack does, probes for duplicate
addresses, echo requests to a known MAC, and numbered broadcasts; and it records what it receives, with the time."""

import collections
import socket
import struct
import threading
import time

from scapy.all import ARP, ICMP, IP, UDP, Ether, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr
from scapy.all import ICMPv6NDOptSrcLLAddr, IPv6, Raw, inet_pton

from .frames import mac_text

ALL_NODES, ALL_NODES_MAC, BROADCAST = "ff02::1", "33:33:00:00:00:01", "ff:ff:ff:ff:ff:ff"
MARK = b"stopover-observer"  # the beginning of the payload of a numbered broadcast
OUTGOING = 4  # PACKET_OUTGOING of Linux: a frame that this side sent
PATIENCE = 5  # seconds after which a station counts as never reached

Answer = collections.namedtuple("Answer", "at ip mac")


def is_v6(ip):
    return ":" in ip


def solicited(ip):
    """The solicited-node group of an address and its MAC (RFC 4291 section 2.7.1)."""
    low = inet_pton(socket.AF_INET6, ip)[13:]
    return f"ff02::1:ff{low[0]:02x}:{low[1]:02x}{low[2]:02x}", f"33:33:ff:{low[0]:02x}:{low[1]:02x}:{low[2]:02x}"


def gratuitous(form, mac, ip, sha=None):
    """An announcement of an address, in one of FORMS_V4 or FORMS_V6."""
    sha = sha or mac
    if form == "request":
        return Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=sha, psrc=ip, pdst=ip)
    if form == "request-own-target":
        return Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=sha, psrc=ip, hwdst=sha, pdst=ip)
    if form == "request-ones":
        return Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=sha, psrc=ip, hwdst=BROADCAST, pdst=ip)
    if form == "reply":
        return Ether(src=mac, dst=BROADCAST) / ARP(op=2, hwsrc=sha, psrc=ip, hwdst=BROADCAST, pdst=ip)
    if form == "reply-own-target":
        return Ether(src=mac, dst=BROADCAST) / ARP(op=2, hwsrc=sha, psrc=ip, hwdst=sha, pdst=ip)
    na = ICMPv6ND_NA(tgt=ip, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=sha)
    if form == "na":
        return Ether(src=mac, dst=ALL_NODES_MAC) / IPv6(src=ip, dst=ALL_NODES, hlim=255) / na
    raise ValueError(form)


FORMS_V4 = ("request", "request-own-target", "request-ones", "reply", "reply-own-target")
FORMS_V6 = ("na",)


class Observer:
    """Sends from the `eth0` of a tenant with the tenant's MAC and addresses; a thread receives."""

    def __init__(self, tenant, dev="eth0"):
        self.tenant, self.mac, self.dev = tenant, tenant.mac, dev
        self.v4 = next(ip for ip in tenant.ips if not is_v6(ip))
        self.v6 = next(ip for ip in tenant.ips if is_v6(ip))
        self.socket = tenant.ns.packet_socket(dev, receive=True)
        self.answers, self.echoes, self.announced, self.copies = [], [], [], collections.Counter()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def name(self):
        return self.tenant.name

    def send(self, frame):
        self.socket.send(bytes(frame))

    def resolve(self, ip, seconds=0.3):
        """Asks for an address as a stack without a neighbour entry does. Returns the MACs of the answers."""
        return self._request(self._request_frame(ip), ip, seconds)

    def resolve_at(self, ip, mac, seconds=0.3):
        """Asks one station alone, as a stack does that verifies a neighbour entry."""
        return self._request(self._request_frame(ip, to=mac), ip, seconds)

    def probe(self, ip, times=3, pause=0.3):
        """Probes for a duplicate address (RFC 5227 section 2.1.1, RFC 4862 section 5.4). Returns the MACs that
        answered."""
        if is_v6(ip):
            group, group_mac = solicited(ip)
            frame = (Ether(src=self.mac, dst=group_mac) / IPv6(src="::", dst=group, hlim=255)
                     / ICMPv6ND_NS(tgt=ip))
        else:
            frame = Ether(src=self.mac, dst=BROADCAST) / ARP(op=1, hwsrc=self.mac, psrc="0.0.0.0", pdst=ip)
        # A station defends its address with a multicast (RFC 4862 section 5.4.4).
        return self._request(frame, ip, pause, times, self.announced)

    def _request_frame(self, ip, to=None):
        if is_v6(ip):
            group, group_mac = (ip, to) if to else solicited(ip)
            return (Ether(src=self.mac, dst=group_mac) / IPv6(src=self.v6, dst=group, hlim=255)
                    / ICMPv6ND_NS(tgt=ip) / ICMPv6NDOptSrcLLAddr(lladdr=self.mac))
        return Ether(src=self.mac, dst=to or BROADCAST) / ARP(op=1, hwsrc=self.mac, psrc=self.v4, pdst=ip)

    def _request(self, frame, ip, seconds, times=1, also=()):
        began, frame = time.monotonic(), bytes(frame)
        for _ in range(times):
            self.socket.send(frame)
            time.sleep(seconds)
        return {a.mac for a in [*self.answers, *also] if a.at >= began and a.ip == ip}

    def echo(self, ip, mac):
        """An echo request to this MAC, without address resolution."""
        if is_v6(ip):
            return bytes(Ether(src=self.mac, dst=mac) / IPv6(src=self.v6, dst=ip) / ICMPv6EchoRequest(id=7))
        return bytes(Ether(src=self.mac, dst=mac) / IP(src=self.v4, dst=ip) / ICMP(id=7))

    def broadcast(self, number):
        """Sends a numbered broadcast. The others count its copies."""
        self.send(Ether(src=self.mac, dst=BROADCAST) / IP(src=self.v4, dst="255.255.255.255") / UDP(sport=9, dport=9)
                  / Raw(MARK + struct.pack("!I", number)))

    def _listen(self):
        while True:
            try:
                frame, source = self.socket.recvfrom(2048)
            except OSError:
                return
            now = time.monotonic()
            if source[2] != OUTGOING:
                self._handle(frame, now)

    def _handle(self, frame, now):
        ethertype = frame[12:14]
        if ethertype == b"\x08\x06" and len(frame) >= 42:
            ip, mac = socket.inet_ntop(socket.AF_INET, frame[28:32]), mac_text(frame[22:28])
            if frame[:1] == b"\xff":
                self.announced.append(Answer(now, ip, mac))
            elif frame[20:22] == b"\x00\x02":
                self.answers.append(Answer(now, ip, mac))
        elif ethertype == b"\x08\x00" and len(frame) >= 42:
            if frame[23] == 1 and frame[34] == 0:
                self.echoes.append(Answer(now, socket.inet_ntop(socket.AF_INET, frame[26:30]), mac_text(frame[6:12])))
            elif frame[23] == 17 and MARK in frame[42:80]:
                at = frame.index(MARK) + len(MARK)
                self.copies[struct.unpack("!I", frame[at:at + 4])[0]] += 1
        elif ethertype == b"\x86\xdd" and len(frame) >= 62 and frame[20] == 58:
            if frame[54] == 129:
                self.echoes.append(Answer(now, socket.inet_ntop(socket.AF_INET6, frame[22:38]), mac_text(frame[6:12])))
            elif frame[54] == 136 and len(frame) >= 78:
                option = frame[78:86]
                mac = option[2:8] if len(option) == 8 and option[0] == 2 else frame[6:12]
                answer = Answer(now, socket.inet_ntop(socket.AF_INET6, frame[62:78]), mac_text(mac))
                (self.announced if frame[:1] == b"\x33" else self.answers).append(answer)


class Reach:
    """Observers that send echo requests to each address of a station every few milliseconds, until each has an answer.
    `since`: the time of the event, by address."""

    PAUSE = 0.01

    def __init__(self, observers, mac, since):
        self.observers, self.since = observers, since
        self.frames = {(o, ip): o.echo(ip, mac) for o in observers for ip in since}

    def times(self, patience=PATIENCE):
        """Milliseconds until the first answer, by address and name of the observer; `patience` where there was none."""
        found, end = {ip: {} for ip in self.since}, max(self.since.values()) + patience
        waiting = dict(self.frames)
        while waiting and time.monotonic() < end:
            for (o, ip), frame in list(waiting.items()):
                o.socket.send(frame)
                first = next((e.at for e in list(o.echoes) if e.ip == ip and e.at >= self.since[ip]), None)
                if first is not None:
                    found[ip][o.name] = (first - self.since[ip]) * 1e3
                    del waiting[o, ip]
            time.sleep(self.PAUSE)
        for o, ip in waiting:
            found[ip][o.name] = patience * 1e3
        return found
