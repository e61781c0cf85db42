#!/usr/bin/python3
"""Writes golden.txt: frames built by scapy, an implementation independent of ours, one `name hex` per line.

Run by hand when a case is added (needs scapy); the tests read only golden.txt.
"""

import struct
from pathlib import Path

from scapy.all import (
    ARP, ICMP, TCP, UDP, Dot1AD, Dot1Q, Ether, ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest,
    ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6ND_RS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig, IP, IPOption_Router_Alert, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, Raw, raw,
)
from scapy.layers.vxlan import VXLAN

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
A4, B4 = "192.168.0.10", "192.168.0.11"
A6, B6 = "fd00:1::a", "fd00:1::b"
GA, GB = "02:00:00:00:00:01", "02:00:00:00:00:02"
ALL = "ff:ff:ff:ff:ff:ff"
frames = {}


def put(name, packet):
    frames[name] = raw(packet)


def data(n):
    return Raw(bytes((7 * i + 3) % 256 for i in range(n)))


eth = Ether(src=A, dst=B)
ip4, ip6 = IP(src=A4, dst=B4, id=0x1234), IPv6(src=A6, dst=B6)

# Tenant frames.
put("tcp4", eth / IP(src=A4, dst=B4, id=7, flags="DF", tos=0xB9) / TCP(
    sport=40000, dport=443, seq=1000, ack=2000, flags="PA", options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]) / data(101))
put("udp4", eth / ip4 / UDP(sport=5000, dport=53) / data(33))
put("udp4_padded", Ether(raw(eth / ip4 / UDP(sport=5000, dport=53) / data(3))) / Raw(b"\xaa" * 15))
put("udp4_ip_options", eth / IP(src=A4, dst=B4, options=[IPOption_Router_Alert()]) / UDP(sport=5, dport=6) / data(8))
put("tcp4_vlan", Ether(src=A, dst=B) / Dot1Q(vlan=100, prio=5) / ip4 / TCP(sport=1, dport=2, flags="S"))
put("tcp4_qinq", Ether(src=A, dst=B) / Dot1AD(vlan=7) / Dot1Q(vlan=100) / ip4 / TCP(sport=1, dport=2, flags="S"))
put("tcp6", eth / IPv6(src=A6, dst=B6, tc=0x2E, fl=0x12345, hlim=61) / TCP(sport=40000, dport=443, flags="FA") / data(50))
put("udp6", eth / ip6 / UDP(sport=5000, dport=53) / data(7))
put("udp6_extensions", eth / ip6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(sport=5000, dport=53) / data(7))
put("udp6_routing", eth / ip6 / IPv6ExtHdrRouting(addresses=["fd00:1::c"]) / UDP(sport=5000, dport=53) / data(7))
put("frag4_first", eth / IP(src=A4, dst=B4, id=9, flags="MF", proto=17) / Raw(raw(UDP(sport=5, dport=6, len=100, chksum=1) / data(24))))
put("frag4_later", eth / IP(src=A4, dst=B4, id=9, frag=4, proto=17) / data(60))
put("frag6_first", eth / ip6 / IPv6ExtHdrFragment(m=1, id=3, nh=17) / Raw(raw(UDP(sport=5, dport=6, len=100, chksum=1) / data(24))))
put("frag6_later", eth / ip6 / IPv6ExtHdrFragment(offset=4, id=3, nh=17) / data(60))
put("frag6_atomic", eth / ip6 / IPv6ExtHdrFragment(offset=0, m=0, id=3) / UDP(sport=5, dport=6) / data(9))
put("icmp4_echo", eth / IP(src=A4, dst=B4, ttl=17, id=0) / ICMP(type=8, id=77, seq=3) / data(57))
put("icmp4_echo_reply", Ether(src=B, dst=A) / IP(src=B4, dst=A4, ttl=64, id=0) / ICMP(type=0, id=77, seq=3) / data(57))
put("icmp6_echo", eth / IPv6(src=A6, dst=B6, hlim=17) / ICMPv6EchoRequest(id=77, seq=3, data=raw(data(57))))
put("icmp6_echo_reply", Ether(src=B, dst=A) / IPv6(src=B6, dst=A6, hlim=64) / ICMPv6EchoReply(id=77, seq=3, data=raw(data(57))))
put("icmp6_unreachable", eth / ip6 / ICMPv6DestUnreach(code=4) / data(48))

# A UDP datagram whose checksum computes to zero and is sent as ffff.
for i in range(65536):
    p = eth / ip4 / UDP(sport=5000, dport=53) / Raw(i.to_bytes(2, "big"))
    if raw(p)[40:42] == b"\xff\xff":
        put("udp4_checksum_ffff", p)
        break

# ARP.
put("arp_request", Ether(src=A, dst=ALL) / ARP(op=1, hwsrc=A, psrc=A4, pdst=B4, hwdst="00:00:00:00:00:00"))
put("arp_reply", Ether(src=B, dst=A) / ARP(op=2, hwsrc=B, psrc=B4, hwdst=A, pdst=A4))
put("arp_probe", Ether(src=A, dst=ALL) / ARP(op=1, hwsrc=A, psrc="0.0.0.0", pdst=B4, hwdst="00:00:00:00:00:00"))
put("arp_probe_reply", Ether(src=B, dst=A) / ARP(op=2, hwsrc=B, psrc=B4, hwdst=A, pdst="0.0.0.0"))
put("arp_announce", Ether(src=A, dst=ALL) / ARP(op=1, hwsrc=A, psrc=A4, pdst=A4, hwdst="00:00:00:00:00:00"))
put("arp_gratuitous_reply", Ether(src=A, dst=ALL) / ARP(op=2, hwsrc=A, psrc=A4, pdst=A4, hwdst=ALL))
put("rarp", Ether(src=A, dst=ALL, type=0x8035) / ARP(op=3, hwsrc=A, hwdst=A, psrc="0.0.0.0", pdst="0.0.0.0"))

# ND. fd00:1::b has the solicited-node group ff02::1:ff00:b.
SN, SN_MAC = "ff02::1:ff00:b", "33:33:ff:00:00:0b"
put("ns", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("ns_unicast", Ether(src=A, dst=B) / IPv6(src=A6, dst=B6, hlim=255) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("na", Ether(src=B, dst=A) / IPv6(src=B6, dst=A6, hlim=255) / ICMPv6ND_NA(tgt=B6, R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=B))
put("na_router", Ether(src=B, dst=A) / IPv6(src=B6, dst=A6, hlim=255) / ICMPv6ND_NA(tgt=B6, R=1, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=B))
put("ns_dad", Ether(src=A, dst=SN_MAC) / IPv6(src="::", dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6))
put("na_dad", Ether(src=B, dst="33:33:00:00:00:01") / IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=B6, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=B))
put("na_announce_router", Ether(src=B, dst="33:33:00:00:00:01") / IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=B6, R=1, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=B))
put("ns_hop_limit", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=254) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("ns_bad_checksum", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6, cksum=1) / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("ns_code", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6, code=1) / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("ns_multicast_target", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt="ff02::1") / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("ns_option_zero", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6) / Raw(b"\x01\x00" + b"\0" * 6))
put("ns_option_overrun", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6) / Raw(b"\x0e\x02" + b"\0" * 6))
put("ns_option_group_mac", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr="01:00:00:00:00:01"))
put("ns_dad_with_mac", Ether(src=A, dst=SN_MAC) / IPv6(src="::", dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6) / ICMPv6NDOptSrcLLAddr(lladdr=A))
put("ns_dad_unicast", Ether(src=A, dst=B) / IPv6(src="::", dst=B6, hlim=255) / ICMPv6ND_NS(tgt=B6))
put("na_multicast_solicited", Ether(src=B, dst="33:33:00:00:00:01") / IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=B6, S=1) / ICMPv6NDOptDstLLAddr(lladdr=B))
put("ns_short", Ether(src=A, dst=SN_MAC) / IPv6(src=A6, dst=SN, hlim=255, nh=58) / Raw(raw(IPv6(src=A6, dst=SN, hlim=255) / ICMPv6ND_NS(tgt=B6))[40:56]))
put("rs", Ether(src=A, dst="33:33:00:00:00:02") / IPv6(src=A6, dst="ff02::2", hlim=255) / ICMPv6ND_RS())
put("ra", Ether(src=B, dst="33:33:00:00:00:01") / IPv6(src=B6, dst="ff02::1", hlim=255) / ICMPv6ND_RA())

# Too big: the frame, and the error its sender gets (MTU 1400 and 1300).
big4 = eth / IP(src=A4, dst=B4, id=5, flags="DF") / UDP(sport=9, dport=10) / data(1450)
put("big4", big4)
put("big4_error", Ether(src=B, dst=A) / IP(src=B4, dst=A4, tos=0xC0, id=0, flags="DF", ttl=64) / ICMP(type=3, code=4, nexthopmtu=1400) / Raw(raw(big4)[14:14 + 548]))
big4v = Ether(src=A, dst=B) / Dot1Q(vlan=100) / IP(src=A4, dst=B4, id=5, flags="DF") / UDP(sport=9, dport=10) / data(40)
put("big4_vlan", big4v)
put("big4_vlan_error", Ether(src=B, dst=A) / Dot1Q(vlan=100) / IP(src=B4, dst=A4, tos=0xC0, id=0, flags="DF", ttl=64) / ICMP(type=3, code=4, nexthopmtu=60) / Raw(raw(big4v)[18:]))
big6 = eth / ip6 / UDP(sport=9, dport=10) / data(1450)
put("big6", big6)
put("big6_error", Ether(src=B, dst=A) / IPv6(src=B6, dst=A6, hlim=64) / ICMPv6PacketTooBig(mtu=1300) / Raw(raw(big6)[14:14 + 1232]))

# VXLAN. The inner frame is `udp4` with its ECN field ECT(0).
inner = eth / IP(src=A4, dst=B4, id=0x1234, tos=0xB9 & 0xFC | 2) / UDP(sport=5000, dport=53) / data(33)
put("inner", inner)
udp = UDP(sport=50000, dport=4789, chksum=0)
vx = VXLAN(flags=8, vni=0x123456)
oeth = Ether(src=GA, dst=GB)
o4 = IP(src="10.0.0.1", dst="10.0.0.2", id=0, flags="DF", ttl=64, tos=0xBA)
o6 = IPv6(src="fd00::1", dst="fd00::2", hlim=64, tc=0xBA, fl=50000)
put("vxlan4", oeth / o4 / udp / vx / inner)
put("vxlan4_vlan", oeth / Dot1Q(vlan=30) / o4 / udp / vx / inner)
put("vxlan4_checksum", oeth / o4 / UDP(sport=50000, dport=4789) / vx / inner)
put("vxlan4_padded", Ether(raw(oeth / o4 / udp / vx / Ether(src=A, dst=B, type=0x88B5))) / Raw(b"\x55" * 9))
put("vxlan4_fragment", oeth / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / udp / vx / inner)
put("vxlan4_reserved", oeth / o4 / udp / Raw(b"\xff\xff\xff\xff\0\0\x07\xff") / inner)
put("vxlan4_no_i", oeth / o4 / udp / Raw(b"\xf7\0\0\0\0\0\x07\0") / inner)
put("vxlan4_vni0", oeth / o4 / udp / VXLAN(flags=8, vni=0) / inner)
put("vxlan4_inner_runt", oeth / o4 / udp / vx / Raw(b"\0" * 13))
put("vxlan4_short", oeth / o4 / udp / Raw(b"\x08\0\0\0\0\0\x07"))
put("vxlan4_udp_len", oeth / o4 / UDP(sport=50000, dport=4789, chksum=0, len=200) / vx / inner)
put("vxlan4_ip_checksum", oeth / IP(src="10.0.0.1", dst="10.0.0.2", chksum=1) / udp / vx / inner)
put("vxlan4_martian", oeth / IP(src="224.0.0.1", dst="10.0.0.2") / udp / vx / inner)
put("vxlan4_options", oeth / IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_Router_Alert()]) / udp / vx / inner)
put("vxlan4_other_port", oeth / o4 / UDP(sport=50000, dport=4790, chksum=0) / vx / inner)
put("vxlan6", oeth / o6 / UDP(sport=50000, dport=4789) / vx / inner)
put("vxlan6_vlan", oeth / Dot1Q(vlan=30) / o6 / UDP(sport=50000, dport=4789) / vx / inner)
put("vxlan6_zero", oeth / o6 / udp / vx / inner)
put("vxlan6_fragment", oeth / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrFragment(m=1, nh=17) / udp / vx / inner)
put("vxlan6_extension", oeth / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrDestOpt() / UDP(sport=50000, dport=4789) / vx / inner)

# Marks in the last reserved byte: 1 redirected, 2 end marker, 4 a shim names the node B.
shim = Raw(bytes.fromhex(B.replace(":", "")) + b"\0\0")


def marked(bits):
    return VXLAN(flags=8, vni=0x123456, reserved2=bits)


put("vxlan4_hop", oeth / o4 / udp / marked(1) / inner)
put("vxlan4_node", oeth / o4 / udp / Raw(raw(marked(5))) / shim / inner)
put("vxlan4_node_checksum", oeth / o4 / UDP(sport=50000, dport=4789) / Raw(raw(marked(4))) / shim / inner)
put("vxlan6_hop", oeth / o6 / UDP(sport=50000, dport=4789) / marked(1) / inner)
put("vxlan6_node", oeth / o6 / UDP(sport=50000, dport=4789) / Raw(raw(marked(5))) / shim / inner)
put("vxlan4_node_zero", oeth / o4 / udp / Raw(raw(marked(4))) / Raw(b"\0" * 8) / inner)
put("vxlan4_node_group", oeth / o4 / udp / Raw(raw(marked(4))) / Raw(b"\x01\0\x5e\0\0\x01\0\0") / inner)
put("vxlan4_node_cut", oeth / o4 / udp / Raw(raw(marked(4))) / Raw(raw(shim)[:7]))
put("vxlan4_node_runt", oeth / o4 / udp / Raw(raw(marked(4))) / shim / Raw(b"\0" * 13))
put("vxlan4_node_control", oeth / o4 / udp / Raw(raw(marked(6))) / shim / inner)


# End markers of the migration of node B.
def marker(kind, flags, queue, queues, host, generation, paused_us):
    body = struct.pack("!BBBBBxIQI", 1, kind, flags, queue, queues, host, generation, paused_us)
    return Ether(src="02:53:54:4f:50:00", dst=B, type=0x88B5) / Raw(body.ljust(46, b"\0"))


put("marker_arrived", marker(1, 0, 0, 1, 7, 0x0102030405060708, 0))
put("marker_end", marker(2, 0, 3, 4, 0xA0B0C0D0, 0, 0))
put("marker_relayed", marker(1, 1, 0, 1, 7, 0x0102030405060708, 123456))
put("vxlan4_marker", oeth / o4 / udp / marked(3) / marker(1, 1, 0, 1, 7, 0x0102030405060708, 123456))

# Segmentation: 3000 bytes at an MSS of 1400, CWR in the first, FIN and PSH in the last.
opts = [("NOP", None), ("NOP", None), ("Timestamp", (5, 6))]
body = raw(data(3000))


def tcp_parts(name, l3):
    put(name, eth / l3(7) / TCP(sport=1, dport=2, seq=0xFFFFFF00, ack=3, flags="FPAC", options=opts) / Raw(body))
    for i, at in enumerate(range(0, 3000, 1400)):
        flags = "A" + ("C" if i == 0 else "") + ("FP" if at + 1400 >= 3000 else "")
        seq = (0xFFFFFF00 + at) % 2**32
        put(f"{name}_{i}", eth / l3(7 + i) / TCP(sport=1, dport=2, seq=seq, ack=3, flags=flags, options=opts) / Raw(body[at:at + 1400]))


tcp_parts("gso4", lambda n: IP(src=A4, dst=B4, id=n, flags="DF", options=[IPOption_Router_Alert()]))
tcp_parts("gso6", lambda n: IPv6(src=A6, dst=B6) / IPv6ExtHdrDestOpt())

out = Path(__file__).with_name("golden.txt")
out.write_text("# Written by golden.py; do not edit.\n" + "".join(f"{k} {v.hex()}\n" for k, v in frames.items()))
print(len(frames), "frames")
