"""Datagrams of tunnels, altered or made up by somebody without keys (docs/wire-formats.md). All are UDP payloads."""

import hashlib
import hmac
import random
import struct

MAC = 16  # bytes of each of the two MACs at the end of a piece of a handshake
HEADER = 16  # bytes of a handshake's header
MOST = 1152  # bytes of a datagram of a handshake
INDEX_BITS = 20  # of an SPI
MAC_LABEL = b"stopover tunnel 1 mac"


def bit_flips(payload, bits=None):
    """A payload with one bit changed: each one, or these."""
    for bit in range(8 * len(payload)) if bits is None else bits:
        changed = bytearray(payload)
        changed[bit // 8] ^= 0x80 >> bit % 8
        yield bytes(changed)


def cut(payload):
    """A payload cut at each length."""
    return [payload[:n] for n in range(len(payload))]


def spi_of(payload):
    """The SPI of an ESP datagram."""
    return struct.unpack_from("!I", payload)[0]


def other_generations(payload, count, rng):
    """The same datagram in so many other generations of its SPI."""
    spi, out = spi_of(payload), []
    for generation in rng.sample(range(1, 512), min(count, 511)):
        changed = spi ^ (generation & 0x7F) << INDEX_BITS ^ (generation >> 7) << 28
        out.append(struct.pack("!I", changed) + payload[4:])
    return out


def other_indexes(payload, count, rng, used=64):
    """The same datagram under so many other indexes, above those in use."""
    spi = spi_of(payload) & ~(2 ** INDEX_BITS - 1)
    return [struct.pack("!I", spi | rng.randrange(used, 2 ** INDEX_BITS)) + payload[4:] for _ in range(count)]


def random_esp(count, rng):
    """Datagrams that look like ESP."""
    return [struct.pack("!I", rng.getrandbits(32) & 0xF7FFFFFF | 0xC0000000) + rng.randbytes(4 * rng.randrange(8, 300))
            for _ in range(count)]


def with_mac(datagram, public_key):
    """A piece of a handshake with the first MAC that it must have for the host with this public key: anybody who knows that
    can compute it. The second MAC is empty."""
    covered = datagram[:-2 * MAC]
    key = hashlib.sha256(MAC_LABEL + public_key).digest()
    return covered + hmac.digest(key, covered, "sha256")[:MAC] + bytes(MAC)


def initiation(rng, number, pieces=2, body=200):
    """A piece of an initiation with random contents, of a session that nobody has."""
    return (bytes(4) + bytes([1, 1, number, pieces]) + rng.randbytes(4) + bytes(4) + rng.randbytes(body) + bytes(2 * MAC))


def broken_headers(piece, rng, count):
    """A piece of a handshake with random kind, version and piece numbers."""
    return [piece[:4] + bytes(rng.choice((0, 1, 2, 3, 4, 5, 255)) for _ in range(4)) + piece[8:] for _ in range(count)]


def plain_vxlan(frame, vni, rng):
    """Plain VXLAN around a frame, with any reserved bits and overlay flags."""
    reserved = rng.choice((bytes(3), rng.randbytes(3)))
    flags = rng.choice((0, 0, 1, 2, 4, 5, 0xF8, rng.randrange(256)))
    return bytes([rng.choice((0x08, 0x08, 0x0C, 0xFF))]) + reserved + struct.pack("!I", vni << 8 | flags) + frame


def seeded(seed):
    """A generator that gives the same each time."""
    return random.Random(seed)
