#!/usr/bin/python3
"""Writes esp.txt: ESP datagrams that scapy seals, an implementation independent of ours.

One case a line: name, key, salt, SPI, 64-bit sequence number, bits of the sequence number, inner UDP datagram, ESP datagram.
Run by hand when a case is added (needs scapy); the tests read only esp.txt.
"""

from pathlib import Path

from scapy.all import IP, UDP, Raw, raw
from scapy.layers.ipsec import ESP, SecurityAssociation

KEYS = {
    "128": bytes(range(16)),
    "256": bytes(range(0x80, 0xA0)),
}
SALT = bytes.fromhex("cafe2024")


def datagram(length):
    return UDP(sport=50000, dport=4789, chksum=0) / Raw(bytes((7 * i + 3) % 256 for i in range(length)))


lines = []
for name, bits, sequence, length, esn in [
    ("short", "128", 1, 58, False), ("extended", "128", 1, 58, True), ("long", "128", 2, 1458, True),
    ("padded_1", "128", 3, 57, True), ("padded_2", "128", 4, 56, True), ("padded_3", "128", 5, 55, True),
    ("high", "128", 0x2_0000_0007, 58, True), ("aes256", "256", 1, 58, True), ("aes256_high", "256", 0xFFFF_FFFF_0000_0001, 1459, True),
]:
    spi = 0xC0100005
    low, high = sequence & 0xFFFF_FFFF, sequence >> 32
    sa = SecurityAssociation(
        ESP, spi=spi, crypt_algo="AES-GCM", crypt_key=KEYS[bits] + SALT, esn_en=esn, esn=high)
    inner = datagram(length)
    sealed = sa.encrypt(IP(src="192.0.2.1", dst="192.0.2.2") / inner, seq_num=low, iv=sequence.to_bytes(8, "big"), esn_en=esn, esn=high)
    text = raw(IP(raw(IP(src="192.0.2.1", dst="192.0.2.2") / inner)).payload)
    lines.append(" ".join([
        name, KEYS[bits].hex(), SALT.hex(), f"{spi:08x}", f"{sequence:016x}", "64" if esn else "32", text.hex(), raw(sealed[ESP]).hex()]))
(Path(__file__).parent / "esp.txt").write_text("# Written by esp.py with scapy 2.5.\n" + "\n".join(lines) + "\n")
