#!/usr/bin/python3
"""Writes seed inputs for the fuzz targets into corpus/ from the golden frames of net.

Input format: two bytes (big-endian) say where the first segment ends, then the frame. Seeds are short and
few; what the fuzzer adds and `cargo fuzz cmin` keeps may be committed beside them, crashes go to crashes/.
"""

import struct
from pathlib import Path

here = Path(__file__).parent
golden = here.parent / "net/testdata/golden.txt"
lines = [line.split() for line in golden.read_text().splitlines() if not line.startswith("#")]
frames = {name: bytes.fromhex(text) for name, text in lines}

SEEDS = {
    "frame_parse": [
        "tcp4", "udp4_padded", "udp4_ip_options", "tcp4_vlan", "tcp4_qinq", "tcp6", "udp6_extensions",
        "udp6_routing", "frag4_first", "frag4_later", "frag6_first", "frag6_later", "icmp4_echo", "icmp6_echo",
        "icmp6_unreachable",
    ],
    "underlay_parse": [
        "vxlan4", "vxlan4_vlan", "vxlan4_checksum", "vxlan4_padded", "vxlan4_fragment", "vxlan4_reserved",
        "vxlan4_inner_runt", "vxlan4_options", "vxlan6", "vxlan6_zero", "vxlan6_extension", "arp_request",
        "vxlan4_hop", "vxlan4_node", "vxlan4_node_checksum", "vxlan6_node", "vxlan4_node_zero", "vxlan4_node_group",
        "vxlan4_node_cut", "vxlan4_node_runt", "vxlan4_node_control", "vxlan4_marker",
    ],
    "marker": ["marker_arrived", "marker_end", "marker_relayed", "arp_request", "inner"],
    "arp_nd": [
        "arp_request", "arp_reply", "arp_probe", "arp_announce", "arp_gratuitous_reply", "rarp", "ns", "na",
        "ns_dad", "ns_option_zero", "ns_option_overrun", "rs", "ra",
    ],
}

for target, names in SEEDS.items():
    folder = here / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"\xff\xff" + frames[name])

# Markers with one byte changed: what is refused, and what has no meaning yet.
for name, at, value in [
    ("node_group", 0, 0x01), ("source", 11, 0x01), ("ethertype", 13, 0xB6), ("version", 14, 2), ("kind", 15, 3),
    ("unknown_flags", 16, 0xFE), ("lane", 17, 4), ("no_lanes", 18, 0), ("most_lanes", 18, 64), ("too_many_lanes", 18, 65),
    ("unused", 19, 0xFF), ("padding", 59, 0xFF),
]:
    frame = bytearray(frames["marker_end"])
    frame[at] = value
    (here / "corpus/marker" / name).write_bytes(b"\xff\xff" + frame)

folder = here / "corpus" / "config"
folder.mkdir(parents=True, exist_ok=True)
for example in sorted((here.parent / "examples").rglob("*.ron")):
    (folder / "-".join(example.relative_to(here.parent / "examples").parts)).write_bytes(example.read_bytes())

# Datagrams of the tunnel's port: one of each kind, and what is almost one.
ESP = bytes.fromhex("c010000500000007000000010000000700010203040506070809101112131415")
folder = here / "corpus" / "datagram"
folder.mkdir(parents=True, exist_ok=True)
for name, datagram in {
    "vxlan": frames["vxlan4"][42:],
    "vxlan_short": b"\x08\0\0\0\0\0\x07",
    "handshake": bytes(4) + b"\x01" * 60,
    "stun": bytes.fromhex("000100002112a442") + b"\x05" * 12,
    "stun_cookie": bytes.fromhex("000100002112a443") + b"\x05" * 12,
    "relayed": bytes.fromhex("4001000401020304"),
    "channel_beyond": bytes.fromhex("5001000401020304"),
    "keepalive": b"\xff",
    "empty": b"",
    "esp": ESP + bytes(16) + bytes.fromhex("0102021101020304"),
    "esp_short": ESP[:32],
    "esp_unaligned": ESP + bytes(15),
    "trailer_udp": bytes.fromhex("c0100005070101 11".replace(" ", "")),
    "trailer_dummy": bytes.fromhex("010203033b"),
    "trailer_long": bytes.fromhex("0102ff11"),
}.items():
    (folder / name).write_bytes(datagram)


def piece(kind, number=0, pieces=1, version=1, length=100):
    """A datagram of a handshake, with wrong MACs."""
    return bytes([0, 0, 0, 0, kind, version, number, pieces]) + b"\0\0\0\x05\0\0\0\x06" + b"\x07" * length + bytes(32)


folder = here / "corpus" / "handshake"
folder.mkdir(parents=True, exist_ok=True)
for name, datagram in {
    "initiation": piece(1, 0, 2, length=1104), "initiation_rest": piece(1, 1, 2, length=190), "response": piece(2),
    "control": piece(3), "control_short": piece(3)[:40], "cookie": piece(4)[:60], "cookie_long": piece(4)[:61],
    "cookie_pieces": piece(4, 0, 2)[:60], "kind": piece(5), "version": piece(1, version=2), "no_pieces": piece(1, 0, 0),
    "piece_beyond": piece(1, 2, 2), "too_many_pieces": piece(1, 4, 5), "no_body": piece(1, length=0), "too_long": piece(1, length=1105),
    "marker": b"\xc0" + piece(1)[1:],
}.items():
    (folder / name).write_bytes(datagram)
folder = here / "corpus" / "tunnel_control"
folder.mkdir(parents=True, exist_ok=True)
for name, text in {
    "confirm": "01c0100005d0100006", "confirm_none": "01", "confirm_cut": "01c01000", "confirm_spi": "0100000005", "confirmed": "02",
    "confirmed_long": "0200", "probe": "0300000001", "alive": "0400000001", "alive_cut": "04000000", "close": "05",
    "moved": "06000000000000000b00000064525400000009" + "0000000c", "moved_group": "06000000000000000b00000064015e00000009" + "0000000c",
    "unknown": "ff",
}.items():
    (folder / name).write_bytes(bytes.fromhex(text))

# What a VMM sends: the number of descriptors, then a message; and what a process tells its successor of that.
def message(request, payload=b"", fds=0):
    return bytes([fds]) + struct.pack("=III", request, 1, len(payload)) + payload


def number(request, value, fds=0):
    return message(request, struct.pack("=Q", value), fds)


def state(request, ring, value=0):
    return message(request, struct.pack("=II", ring, value))


def rings(count, size):
    return b"".join(
        state(8, ring, size) + state(10, ring) + message(9, struct.pack("=IIQQQQ", ring, 0, *[4096 * ring] * 4))
        + number(12, ring, 1) + number(13, ring, 1) + state(18, ring, 1) for ring in range(count))


NEGOTIATED = message(1) + message(15) + number(16, 0x10C2B) + message(17) + message(21, bytes(8), 1) + message(3)
STARTED = NEGOTIATED + number(2, 0x140008000) + message(5, struct.pack("=II4Q", 1, 0, 0, 1 << 27, 0, 0), 1) + rings(2, 1024)
for name, messages in {
    "started": STARTED + number(39, 15),
    "stopped": STARTED + state(11, 0) + state(11, 1),
    "migrates": STARTED + message(6, bytes(16), 1) + number(2, 0x144008000),
    "regions": NEGOTIATED + message(37, struct.pack("=5Q", 0, 1, 2, 3, 4), 1) + message(38, struct.pack("=5Q", 0, 1, 2, 3, 4)),
    "four_rings": NEGOTIATED + rings(4, 256) + number(14, 0x103),
    "reset": STARTED + message(4),
    "post_copy": STARTED + message(28),
}.items():
    folder = here / "corpus" / "vhost_user"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(messages)
for name, piece in {
    "listener": b"\x01P\x01\x00/run/vm1.sock",
    "client": b"\x00P\x01\x01/run/vm1.sock",
    "connection": b"\x01C\x01",
    "step": b"\x01S\x01\x00" + bytes(8) + number(12, 0)[1:],
    "question": b"\x00S\x01\x01" + bytes(8) + message(1)[1:],
    "complete": b"\x00D\x01",
    "end": b"\x00E\x01",
}.items():
    folder = here / "corpus" / "passing"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(piece)
