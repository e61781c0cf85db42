"""Scapy's IPsec, which shares no code with ours, on the SAs of a file that `export_keys` has written."""

import csv
import struct

from scapy.all import IP, UDP, Raw
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.layers.vxlan import VXLAN

PORT = 4789
CIPHER = "AES-GCM with 16 octet ICV [RFC4106]"


def sas(path):
    """The SAs of a file: key with salt, and source, by destination and SPI."""
    found = {}
    with open(path, newline="", encoding="ascii") as f:
        for family, source, to, spi, cipher, key, auth, auth_key in csv.reader(f):
            if (family, cipher, auth, auth_key) != ("IPv4", CIPHER, "NULL", ""):
                raise ValueError(f"a line of {path} is not as docs/tunnels.md has it")
            found[to, int(spi, 16)] = bytes.fromhex(key[2:]), source
    return found


def association(spi, key, **more):
    """Scapy's association, in transport mode with 64-bit sequence numbers."""
    return SecurityAssociation(ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=key, auth_algo="NULL", esn_en=True, **more)


def opened(payload, key):
    """The inner frame of an ESP datagram, whose UDP payload is given. Raises if its tag is wrong."""
    spi, _, iv = struct.unpack_from("!IIQ", payload)
    inner = association(spi, key).decrypt(IP(proto=50) / ESP(payload), esn=iv >> 32)
    datagram = inner[UDP]
    if datagram.dport != PORT:
        raise ValueError(f"what was sealed is for port {datagram.dport}")
    return bytes(VXLAN(bytes(datagram.payload)).payload)


def sealed(frame, vni, ends, spi, key, number, iv=None, port=49_152):
    """An IPv4 packet between two ends: a frame in VXLAN, sealed. The IV is the number, or this one."""
    source, to = ends
    plain = IP(src=source, dst=to) / UDP(sport=port, dport=PORT, chksum=0) / VXLAN(vni=vni, flags="Instance") / Raw(frame)
    udp = UDP(sport=port, dport=PORT)
    made = association(spi, key, nat_t_header=udp).encrypt(plain, seq_num=number & 0xFFFFFFFF, esn=number >> 32,
                                                          iv=iv or struct.pack("!Q", number))
    made = bytes(made)
    # Scapy 2.5 computes the length of the outer UDP header without what follows it.
    return made[:24] + struct.pack("!H", len(made) - 20) + made[26:]
