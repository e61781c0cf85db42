"""Malformed and hostile frames: a list made by hand, and any number of mutations of it from a seeded generator. A
case is (name, bytes). The scenario that sends it says what it should cause.

`from_vif` has what a VM may send, `from_trunk` what a VLAN trunk may bring, `from_underlay` what may come from the
underlay.
"""

import random
import struct

from scapy.all import (ARP, BOOTP, DHCP, ICMP, IP, LLC, SNAP, STP, TCP, UDP, Dot1Q, Ether, ICMPv6EchoRequest,
                       ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr,
                       ICMPv6NDOptSrcLLAddr, ICMPv6PacketTooBig, IPOption, IPv6, IPv6ExtHdrDestOpt,
                       IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, conf)
from scapy.layers.vxlan import VXLAN

conf.verb = 0
BROADCAST = "ff:ff:ff:ff:ff:ff"
MARK = b"STOPOVER-TEST-"


def mark(tag):
    """A payload by which a frame is recognised anywhere."""
    return MARK + tag.encode() + b"-" * 16


class Cases(list):
    def add(self, name, frame):
        """Adds a frame: bytes, or a scapy packet."""
        self.append((name, bytes(frame)))

    def truncated(self, name, frame, shortest=14):
        """Adds the frame cut at each length."""
        data = bytes(frame)
        for n in range(shortest, len(data)):
            self.append((f"{name} cut at {n}", data[:n]))


def bad_ip(cases, head, src4, dst4, src6, dst6):
    """What can be wrong at layer 3 and above; `head` is the layer 2 header."""
    v4, v6 = IP(src=src4, dst=dst4), IPv6(src=src6, dst=dst6)
    udp = UDP(sport=1, dport=2) / Raw(mark("ip"))
    for key, value in (("version", 0), ("version", 6), ("version", 15), ("ihl", 0), ("ihl", 4), ("ihl", 6),
                       ("ihl", 15), ("len", 0), ("len", 19), ("len", 27), ("len", 1500), ("len", 65535), ("ttl", 0),
                       ("ttl", 1), ("chksum", 0), ("chksum", 0xFFFF), ("proto", 0), ("proto", 255), ("flags", 7),
                       ("tos", 255)):
        cases.add(f"IPv4 {key} {value}", head / IP(src=src4, dst=dst4, **{key: value}) / udp)
    for src in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", dst4):
        cases.add(f"IPv4 from {src}", head / IP(src=src, dst=dst4) / udp)
    for dst in ("0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255", src4):
        cases.add(f"IPv4 to {dst}", head / IP(src=src4, dst=dst) / udp)
    for options in (b"\x01\x01\x01\x00", b"\x07\x27\x04" + bytes(36) + b"\x00", b"\x83\x07\x04" + bytes(4) + b"\x00",
                    b"\x44\x00\x00\x00", b"\x94\x04\x00\x00", b"\xff\xff\xff\xff"):
        cases.add(f"IPv4 options {options[:4].hex()}", head / IP(src=src4, dst=dst4, options=IPOption(options)) / udp)
    for flags, frag in (("MF", 0), ("MF", 1), (0, 1), (0, 8191), ("MF", 8191), ("DF+MF", 0)):
        cases.add(f"IPv4 fragment {flags} {frag}", head / IP(src=src4, dst=dst4, flags=flags, frag=frag) / udp)
    for size in (0, 7, 9, 2000, 65535):
        cases.add(f"UDP length {size} over IPv4", head / v4 / UDP(sport=1, dport=2, len=size) / Raw(mark("udp")))
        cases.add(f"UDP length {size} over IPv6", head / v6 / UDP(sport=1, dport=2, len=size) / Raw(mark("udp")))
    cases.add("UDP checksum zero over IPv6", head / v6 / UDP(sport=1, dport=2, chksum=0) / Raw(mark("udp")))
    for dataofs in (0, 4, 6, 15):
        cases.add(f"TCP offset {dataofs}", head / v4 / TCP(dataofs=dataofs, flags="S"))
        cases.add(f"TCP offset {dataofs} over IPv6", head / v6 / TCP(dataofs=dataofs, flags="S"))
    cases.add("TCP all flags", head / v4 / TCP(flags=0x1FF, options=[("MSS", 0)]))
    cases.add("TCP bad option", head / v4 / TCP(dataofs=6) / Raw(b"\x02\x00\x00\x00"))
    for plen in (0, 1, 1500, 65535):
        cases.add(f"IPv6 payload length {plen}", head / IPv6(src=src6, dst=dst6, plen=plen) / udp)
    for version in (0, 4, 15):
        cases.add(f"IPv6 version {version}", head / IPv6(src=src6, dst=dst6, version=version) / udp)
    for hlim in (0, 1):
        cases.add(f"IPv6 hop limit {hlim}", head / IPv6(src=src6, dst=dst6, hlim=hlim) / udp)
    for src in ("::", "::1", "ff02::1", dst6, "::ffff:10.0.0.1"):
        cases.add(f"IPv6 from {src}", head / IPv6(src=src, dst=dst6) / udp)
    cases.add("IPv6 hop-by-hop", head / v6 / IPv6ExtHdrHopByHop() / udp)
    cases.add("IPv6 jumbo", head / IPv6(src=src6, dst=dst6, plen=0, nh=0) / Raw(b"\x11\x00\xc2\x04\x00\x01\x00\x00")
              / udp)
    cases.add("IPv6 routing", head / v6 / IPv6ExtHdrRouting(addresses=[dst6]) / udp)
    cases.add("IPv6 fragment", head / v6 / IPv6ExtHdrFragment(m=1, id=1) / udp)
    cases.add("IPv6 atomic fragment", head / v6 / IPv6ExtHdrFragment(id=1) / udp)
    cases.add("IPv6 late fragment", head / v6 / IPv6ExtHdrFragment(offset=8191, id=1) / udp)
    chain = v6
    for _ in range(60):
        chain = chain / IPv6ExtHdrDestOpt()
    cases.add("IPv6 sixty extension headers", head / chain / udp)
    cases.add("IPv6 extension header beyond the end", head / IPv6(src=src6, dst=dst6, nh=60)
              / Raw(b"\x3c\xff" + bytes(6)))
    cases.add("ICMP too big, forged", head / v4 / ICMP(type=3, code=4, nexthopmtu=68) / Raw(bytes(IP() / UDP())))
    cases.add("ICMP too big of 0", head / v4 / ICMP(type=3, code=4, nexthopmtu=0) / Raw(bytes(28)))
    cases.add("ICMPv6 too big of 0", head / v6 / ICMPv6PacketTooBig(mtu=0) / Raw(bytes(48)))
    cases.add("large ping", head / v4 / ICMP() / Raw(b"x" * 1472))
    for name, frame in (("IPv4 UDP", head / v4 / udp), ("IPv6 UDP", head / v6 / udp),
                        ("IPv4 TCP", head / v4 / TCP(flags="S", options=[("MSS", 1460)])),
                        ("ICMP", head / IP(src=src4, dst=dst4) / ICMP() / Raw(b"xx")),
                        ("ICMPv6", head / v6 / ICMPv6EchoRequest())):
        cases.truncated(name, frame, shortest=len(head))


def bad_arp(cases, src_mac, src4, src6, others4, others6):
    """Wrong address resolution; `others4` and `others6` are addresses of other stations."""
    head = Ether(src=src_mac, dst=BROADCAST)
    ask = {"hwsrc": src_mac, "psrc": src4, "pdst": others4[0]}
    for key, value in (("hwlen", 0), ("hwlen", 5), ("hwlen", 255), ("plen", 0), ("plen", 16), ("plen", 255), ("op", 0),
                       ("op", 3), ("op", 9), ("op", 65535), ("hwtype", 0), ("hwtype", 6), ("ptype", 0x86DD)):
        cases.append((f"ARP {key} {value}", _patched_arp(bytes(head / ARP(**ask)), key, value)))
    cases.truncated("ARP", head / ARP(**ask))
    for ip in others4:
        cases.add(f"ARP announces {ip}", head / ARP(op=1, hwsrc=src_mac, psrc=ip, pdst=ip))
        cases.add(f"ARP replies for {ip}", head / ARP(op=2, hwsrc=src_mac, psrc=ip, pdst=src4))
        cases.add(f"ARP asks as {ip}", head / ARP(op=1, hwsrc=src_mac, psrc=ip, pdst=src4))
        cases.add(f"ARP probes {ip}", head / ARP(op=1, hwsrc=src_mac, psrc="0.0.0.0", pdst=ip))
    for hwsrc in (BROADCAST, "00:00:00:00:00:00", "01:00:5e:00:00:01", "02:66:66:66:66:66"):
        cases.add(f"ARP from {hwsrc}", head / ARP(op=1, hwsrc=hwsrc, psrc=src4, pdst=others4[0]))
    for psrc in ("255.255.255.255", "224.0.0.1", "127.0.0.1"):
        cases.add(f"ARP from {psrc}", head / ARP(op=1, hwsrc=src_mac, psrc=psrc, pdst=others4[0]))
    lla = ICMPv6NDOptSrcLLAddr(lladdr=src_mac)
    for ip in others6:
        to = Ether(src=src_mac, dst="33:33:00:00:00:01")
        cases.add(f"NA for {ip}", to / IPv6(src=ip, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=ip, S=0, O=1)
                  / ICMPv6NDOptDstLLAddr(lladdr=src_mac))
        cases.add(f"NA for {ip} with hop limit 64", to / IPv6(src=ip, dst="ff02::1", hlim=64) / ICMPv6ND_NA(tgt=ip))
        ns = IPv6(src=src6, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=ip)
        cases.add(f"NS for {ip}", to / ns / lla)
        cases.add(f"NS for {ip} with option of length 0", to / ns / Raw(b"\x01\x00" + bytes(6)))
        cases.add(f"NS for {ip} with option beyond the end", to / ns / Raw(b"\x01\xff" + bytes(6)))
        cases.add(f"NS for {ip} as a probe with an option", to / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255)
                  / ICMPv6ND_NS(tgt=ip) / lla)
        cases.add(f"NS for {ip} without checksum", to / IPv6(src=src6, dst="ff02::1:ff00:1", hlim=255)
                  / ICMPv6ND_NS(tgt=ip, cksum=0) / lla)
        cases.truncated(f"NS for {ip}", to / ns / lla)
    cases.add("NS for a multicast address", Ether(src=src_mac, dst="33:33:00:00:00:01")
              / IPv6(src=src6, dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt="ff02::1") / lla)
    cases.add("router advertisement", Ether(src=src_mac, dst="33:33:00:00:00:01")
              / IPv6(src="fe80::bad", dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=9000))


def _patched_arp(frame, key, value):
    offset, fmt = {"hwtype": (14, "!H"), "ptype": (16, "!H"), "hwlen": (18, "!B"), "plen": (19, "!B"),
                   "op": (20, "!H")}[key]
    out = bytearray(frame)
    struct.pack_into(fmt, out, offset, value)
    return bytes(out)


def bad_link(cases, src_mac, dst_mac, src4, dst4):
    """What can be wrong at layer 2."""
    inner = IP(src=src4, dst=dst4) / UDP(sport=1, dport=2) / Raw(mark("link"))
    for src in (BROADCAST, "00:00:00:00:00:00", "01:00:5e:00:00:01", "33:33:00:00:00:01", dst_mac):
        cases.add(f"from MAC {src}", Ether(src=src, dst=dst_mac) / inner)
    for dst in ("00:00:00:00:00:00", src_mac, "02:de:ad:be:ef:00", BROADCAST, "01:00:5e:7f:ff:fa", "33:33:ff:00:00:01"):
        cases.add(f"to MAC {dst}", Ether(src=src_mac, dst=dst) / inner)
    cases.add("pause", Ether(src=src_mac, dst="01:80:c2:00:00:01", type=0x8808) / Raw(b"\x00\x01\xff\xff" + bytes(42)))
    cases.add("LLDP", Ether(src=src_mac, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(46)))
    cases.add("LACP", Ether(src=src_mac, dst="01:80:c2:00:00:02", type=0x8809) / Raw(bytes(110)))
    cases.add("spanning tree", Ether(src=src_mac, dst="01:80:c2:00:00:00", type=38) / LLC(dsap=0x42, ssap=0x42) / STP())
    cases.add("SNAP", Ether(src=src_mac, dst=dst_mac, type=60) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP()
              / Raw(bytes(46)))
    for kind in (0x0000, 0x05DC, 0x05DD, 0x05FF, 0x0600, 0x8847, 0x88A8, 0x22F3, 0xFFFF):
        cases.add(f"type {kind:#06x}", Ether(src=src_mac, dst=dst_mac, type=kind) / Raw(mark("type")))
    for vlan in (0, 1, 10, 20, 30, 4095):
        cases.add(f"VLAN {vlan}", Ether(src=src_mac, dst=dst_mac) / Dot1Q(vlan=vlan) / inner)
    cases.add("VLAN in VLAN", Ether(src=src_mac, dst=dst_mac) / Dot1Q(vlan=10) / Dot1Q(vlan=20) / inner)
    deep = Ether(src=src_mac, dst=dst_mac)
    for _ in range(50):
        deep = deep / Dot1Q(vlan=10)
    cases.add("fifty VLAN tags", deep / inner)
    cases.truncated("VLAN", Ether(src=src_mac, dst=dst_mac) / Dot1Q(vlan=10) / inner)
    cases.add("empty", Ether(src=src_mac, dst=dst_mac, type=0x0800))


def from_vif(me, peer, others4, others6):
    """What a VM with (MAC, IPv4, IPv6) `me` may send to its neighbour `peer`, and with addresses of others."""
    cases, (mac, src4, src6), (dst_mac, dst4, dst6) = Cases(), me, peer
    head = Ether(src=mac, dst=dst_mac)
    bad_ip(cases, head, src4, dst4, src6, dst6)
    bad_arp(cases, mac, src4, src6, others4, others6)
    bad_link(cases, mac, dst_mac, src4, dst4)
    for ip in others4:
        cases.add(f"spoofed source {ip}", head / IP(src=ip, dst=dst4) / UDP(sport=1, dport=2) / Raw(mark("spoof")))
    for ip in others6:
        cases.add(f"spoofed source {ip}", head / IPv6(src=ip, dst=dst6) / UDP(sport=1, dport=2) / Raw(mark("spoof")))
    for src in ("02:66:66:66:66:66", dst_mac, "02:00:00:00:00:07"):
        cases.add(f"spoofed source {src}", Ether(src=src, dst=dst_mac) / IP(src=src4, dst=dst4) / UDP(sport=1, dport=2)
                  / Raw(mark("spoof")))
    cases.add("DHCP", Ether(src=mac, dst=BROADCAST) / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
              / BOOTP(op=1) / DHCP(options=[("message-type", "discover"), "end"]))
    cases.add("MLD", Ether(src=mac, dst="33:33:00:00:00:16") / IPv6(src="::", dst="ff02::16", hlim=1)
              / IPv6ExtHdrHopByHop() / ICMPv6MLReport2())
    cases.add("VXLAN from a VM", head / IP(src=src4, dst=dst4) / UDP(sport=1, dport=4789) / VXLAN(vni=200, flags=8)
              / Ether(src=mac, dst=dst_mac) / IP(src=src4, dst=dst4) / UDP() / Raw(mark("inner")))
    for size in (1501, 1515, 1600, 1700, 1900, 2048, 3000, 8000):
        for flags in (0, "DF"):
            cases.add(f"IPv4 packet of {size} {flags or ''}", head / IP(src=src4, dst=dst4, flags=flags)
                      / UDP(sport=1, dport=2) / Raw(bytes(size - 28)))
        cases.add(f"IPv6 packet of {size}", head / IPv6(src=src6, dst=dst6) / UDP(sport=1, dport=2)
                  / Raw(bytes(size - 48)))
        cases.add(f"frame of {size} without IP", Ether(src=mac, dst=dst_mac, type=0x88B5) / Raw(bytes(size)))
    return cases


def arp_storm(mac, src4, number=2000):
    """Requests for `number` addresses that do not exist."""
    base = bytearray(bytes(Ether(src=mac, dst=BROADCAST) / ARP(hwsrc=mac, psrc=src4, pdst="0.0.0.0")))
    cases = Cases()
    for n in range(number):
        base[38:42] = bytes([192, 168, 1 + n // 250, 1 + n % 250])
        cases.append(("ARP storm", bytes(base)))
    return cases


def from_trunk(vlans, me4, me6, victims, peer):
    """What a VLAN trunk may bring. `victims` are MACs of stations elsewhere in the first VLAN's network."""
    cases, (dst_mac, dst4, dst6) = Cases(), peer
    mac = "02:aa:00:00:00:01"
    tagged = Ether(src=mac, dst=dst_mac) / Dot1Q(vlan=vlans[0])
    bad_ip(cases, tagged, me4, dst4, me6, dst6)
    bad_link(cases, mac, dst_mac, me4, dst4)
    for vlan in (0, 1, 30, 4095):
        cases.add(f"unmapped VLAN {vlan}", Ether(src=mac, dst=BROADCAST) / Dot1Q(vlan=vlan) / IP(src=me4, dst=dst4)
                  / UDP(sport=1, dport=2) / Raw(mark("vlan")))
    for victim in victims:
        cases.add(f"stolen MAC {victim}", Ether(src=victim, dst=BROADCAST) / Dot1Q(vlan=vlans[0], type=0x88B5)
                  / Raw(mark("stolen")))
    for n in range(40):  # a station that moves between networks
        cases.add("flapping station", Ether(src=mac, dst=BROADCAST) / Dot1Q(vlan=vlans[n % len(vlans)], type=0x88B5)
                  / Raw(mark("flap")))
    base = bytearray(bytes(Ether(src="02:bb:00:00:00:00", dst=dst_mac) / Dot1Q(vlan=vlans[0], type=0x88B5)
                           / Raw(mark("flood"))))
    for n in range(500):
        base[8:12] = struct.pack("!I", n)
        cases.append(("flood of source MACs", bytes(base)))
    return cases


class FromUnderlay(Cases):
    """What may come from the underlay. `vtep` and `faked` are (MAC, IPv4, IPv6) of the appliance under attack and of
    the host whose addresses the attacker uses; `local` and `remote` (MAC, IPv4, IPv6) are stations behind the appliance
    and elsewhere."""

    def __init__(self, vtep, faked, local, remote, vni):
        super().__init__()
        self.vtep, self.faked, self.local, self.remote, self.vni = vtep, faked, local, remote, vni
        self.head = Ether(src=faked[0], dst=vtep[0])
        self.v4, self.v6 = IP(src=faked[1], dst=vtep[1]), IPv6(src=faked[2], dst=vtep[2])
        self.udp = UDP(sport=50000, dport=4789)

    def inner(self, tag, dst=None):
        """A frame of the remote station that carries a mark."""
        dst = dst or self.local
        return (Ether(src=self.remote[0], dst=dst[0]) / IP(src=self.remote[1], dst=dst[1]) / UDP(sport=1, dport=2)
                / Raw(mark(tag)))

    def vx(self, **kw):
        return VXLAN(**{"vni": self.vni, "flags": 8, **kw})

    def vxlan_headers(self, foreign_vni):
        head, v4, v6, udp, vx, inner, vni = self.head, self.v4, self.v6, self.udp, self.vx, self.inner, self.vni
        # By hand, since scapy changes the header's layout with flags of later drafts. With the I flag (8) a receiver
        # ignores all other bits (RFC 7348 section 5); without it, it drops. The tag "valid" marks what must arrive.
        for flags in range(256):
            self.add(f"VXLAN flags {flags:#04x}", head / v4 / udp / Raw(struct.pack("!B3xI", flags, vni << 8))
                     / inner("valid" if flags & 8 else "noflag"))
        # The last three bits have a meaning between appliances, of which `faked` is one (docs/wire-formats.md, "Overlay
        # flags"): only HOP (1) stands in front of an ordinary frame.
        for before, after in ((0xFFFFFF, 0xF8), (1, 1), *((0, marks) for marks in range(2, 8)), (0xFFFFFF, 0xFF)):
            self.add(f"VXLAN reserved {before:#x} {after:#x}",
                     head / v4 / udp / Raw(struct.pack("!II", 8 << 24 | before, vni << 8 | after))
                     / inner("valid" if after & 6 == 0 else "marks"))
        for number in (0, foreign_vni, 0xFFFFFF, vni + 1):
            self.add(f"VNI {number}", head / v4 / udp / vx(vni=number) / inner("vni"))
            self.add(f"VNI {number} over IPv6", head / v6 / udp / vx(vni=number) / inner("vni"))

    def outer_headers(self):
        head, v4, v6, udp, vx, inner = self.head, self.v4, self.v6, self.udp, self.vx, self.inner
        src4, src6, ip4, ip6 = *self.faked[1:], *self.vtep[1:]
        self.add("UDP checksum wrong", head / v4 / UDP(sport=50000, dport=4789, chksum=0x1234) / vx()
                 / inner("checksum"))
        self.add("UDP checksum zero over IPv6", head / v6 / UDP(sport=50000, dport=4789, chksum=0) / vx()
                 / inner("zero"))
        self.add("UDP checksum wrong over IPv6", head / v6 / UDP(sport=50000, dport=4789, chksum=0x1234) / vx()
                 / inner("c"))
        for size in (0, 7, 8, 15, 16, 29, 65535):
            self.add(f"outer UDP length {size}", head / v4 / UDP(sport=50000, dport=4789, len=size) / vx()
                     / inner("udplen"))
            self.add(f"outer UDP length {size} over IPv6", head / v6 / UDP(sport=50000, dport=4789, len=size) / vx()
                     / inner("udplen"))
        for size in (20, 27, 28, 35, 36, 49, 50, 1500):
            self.add(f"outer IPv4 length {size}", head / IP(src=src4, dst=ip4, len=size) / udp / vx() / inner("iplen"))
            self.add(f"outer IPv6 length {size}", head / IPv6(src=src6, dst=ip6, plen=size) / udp / vx()
                     / inner("iplen"))
        for flags, frag in (("MF", 0), (0, 5), ("DF", 0)):
            self.add(f"outer fragment {flags} {frag}", head / IP(src=src4, dst=ip4, flags=flags, frag=frag) / udp / vx()
                     / inner("frag"))
        self.add("outer IPv6 fragment", head / v6 / IPv6ExtHdrFragment(m=1) / udp / vx() / inner("frag"))
        self.add("outer IPv6 extension", head / v6 / IPv6ExtHdrDestOpt() / udp / vx() / inner("ext"))
        self.add("outer IPv4 options", head / IP(src=src4, dst=ip4, options=IPOption(b"\x01\x01\x01\x00")) / udp / vx()
                 / inner("opt"))

    def outer_addresses(self):
        head, v4, udp, vx, inner = self.head, self.v4, self.udp, self.vx, self.inner
        (mac, ip4, _), (src_mac, src4, _) = self.vtep, self.faked
        for src in (ip4, "10.99.99.99", "127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0"):
            self.add(f"VXLAN from {src}", head / IP(src=src, dst=ip4) / udp / vx() / inner("src"))
        for dst in ("10.0.0.77", "224.0.0.1", "255.255.255.255", "10.0.0.255"):
            self.add(f"VXLAN to {dst}", head / IP(src=src4, dst=dst) / udp / vx() / inner("dst"))
        self.add("VXLAN to a wrong MAC", Ether(src=src_mac, dst="02:de:ad:be:ef:01") / v4 / udp / vx() / inner("mac"))
        self.add("VXLAN to the broadcast MAC", Ether(src=src_mac, dst=BROADCAST) / v4 / udp / vx() / inner("mac"))
        self.add("VXLAN by TCP", head / v4 / TCP(dport=4789) / vx() / inner("tcp"))
        self.add("VXLAN on another port", head / v4 / UDP(sport=1, dport=8472) / vx() / inner("port"))
        self.add("VXLAN with a VLAN outside", Ether(src=src_mac, dst=mac) / Dot1Q(vlan=7) / v4 / udp / vx()
                 / inner("vlan"))

    def inner_frames(self):
        head, v4, udp, vx, inner = self.head, self.v4, self.udp, self.vx, self.inner
        local, remote = self.local, self.remote
        # What comes from the underlay never goes back to it.
        self.add("loop to a remote station", head / v4 / udp / vx() / inner("loop", remote))
        self.add("loop to an unknown station", head / v4 / udp / vx()
                 / inner("loop", ("02:77:77:77:77:77", "192.168.0.99", "fd01::99")))
        for n in range(20):
            self.add("loop of a broadcast", head / v4 / udp / vx() / Ether(src=remote[0], dst=BROADCAST, type=0x88B5)
                     / Raw(mark(f"bcast{n}")))
        for src in (BROADCAST, "00:00:00:00:00:00", "01:00:5e:00:00:01", local[0]):
            self.add(f"inner from {src}", head / v4 / udp / vx() / Ether(src=src, dst=local[0], type=0x88B5)
                     / Raw(mark("innersrc")))
        self.add("inner VLAN", head / v4 / udp / vx() / Ether(src=remote[0], dst=local[0]) / Dot1Q(vlan=10)
                 / IP(src=remote[1], dst=local[1]) / UDP() / Raw(mark("innervlan")))
        nested = inner("deep")
        for _ in range(8):
            nested = Ether(src=remote[0], dst=local[0]) / v4 / udp / vx() / nested
        self.add("VXLAN in VXLAN", head / v4 / udp / vx() / nested)
        ask = Ether(src=remote[0], dst=BROADCAST) / ARP(hwsrc=remote[0], psrc=remote[1], pdst=local[1])
        self.add("inner ARP request", head / v4 / udp / vx() / ask)
        self.add("inner ARP announcement", head / v4 / udp / vx() / Ether(src=remote[0], dst=BROADCAST)
                 / ARP(hwsrc=remote[0], psrc=local[1], pdst=local[1]))

    def cut_frames(self):
        head, v4, udp, vx, inner = self.head, self.v4, self.udp, self.vx, self.inner
        whole = head / v4 / udp / vx() / inner("cut")
        self.truncated("VXLAN", whole)
        self.truncated("VXLAN over IPv6", head / self.v6 / udp / vx() / inner("cut"))
        # Cut, with correct lengths: the inner frame itself is short.
        body = bytes(inner("short"))
        for n in range(0, len(body)):
            self.add(f"inner frame of {n}", head / v4 / udp / vx() / Raw(body[:n]))
        for n in range(0, 8):
            self.add(f"VXLAN header of {n}", head / v4 / udp / Raw(bytes(vx())[:n]))
        self.append(("trailer", bytes(whole) + bytes(40)))


def from_underlay(vtep, faked, local, remote, vni, foreign_vni):
    """All of `FromUnderlay`, and what can be wrong in the outer headers of any frame."""
    cases, (mac, ip4, ip6), (src_mac, src4, src6) = FromUnderlay(vtep, faked, local, remote, vni), vtep, faked
    bad_ip(cases, cases.head, src4, ip4, src6, ip6)
    bad_arp(cases, src_mac, src4, src6, [ip4, src4], [ip6, src6])
    bad_link(cases, src_mac, mac, src4, ip4)
    cases.vxlan_headers(foreign_vni)
    cases.outer_headers()
    cases.outer_addresses()
    cases.inner_frames()
    cases.cut_frames()
    return cases


INTERESTING = (0, 1, 2, 3, 4, 5, 7, 8, 14, 15, 16, 20, 31, 32, 40, 60, 63, 64, 127, 128, 254, 255)


def generated(seeds, number, random_seed, fixed=0):
    """`number` mutations of the seeds; the same `random_seed` gives the same ones. Most cases keep the first `fixed`
    bytes (the MACs, so that the frame still arrives). No frame is shorter than an Ethernet header: a packet socket
    would not send it."""
    dice = random.Random(random_seed)
    out = Cases()
    for n in range(number):
        name, frame = dice.choice(seeds)
        b = bytearray(frame)
        low = fixed if len(b) > fixed and dice.random() < 0.9 else 0
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            kind = dice.randrange(8)
            at = dice.randrange(low, len(b)) if len(b) > low else 0
            if kind == 0:
                b[at] ^= 1 << dice.randrange(8)
            elif kind == 1:
                b[at] = dice.choice(INTERESTING)
            elif kind == 2 and at + 1 < len(b):
                struct.pack_into("!H", b, at, dice.choice((0, 1, 8, 20, 28, len(b), len(b) + 1, 1500, 0x7FFF, 0xFFFF)))
            elif kind == 3:
                del b[max(14, at):]
            elif kind == 4:
                del b[at:at + dice.randrange(1, 9)]
            elif kind == 5:
                b[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 9)))
            elif kind == 6:
                part = b[at:at + dice.randrange(1, 40)]
                b[at:at] = part
            else:
                b += bytes(dice.randrange(256) for _ in range(dice.randrange(1, 64)))
        if len(b) < 14:
            b += bytes(14 - len(b))
        out.append((f"generated {n} from {name}", bytes(b[:1514])))
    return out
