"""Frames made by hand, and the pcap files that hold them."""

import struct

FCS = 4


def mac_text(octets):
    """A MAC address in its usual form."""
    return ":".join(f"{b:02x}" for b in octets)


def checksum(header):
    """The Internet checksum of an even number of bytes whose checksum field is zero."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ipv4_udp_header(src, dst, octets, flags=0):
    """The IPv4 header of a UDP datagram; `octets` is the length of the whole packet."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, octets, 0, flags, 64, 17, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def udp_frame(dst, src, dst_ip, src_ip, port, size, payload=b""):
    """An Ethernet frame around a UDP datagram from `port`. Its `size` counts the FCS, which it does not have."""
    octets = size - FCS - 14
    return (dst + src + b"\x08\x00" + ipv4_udp_header(src_ip, dst_ip, octets)
            + struct.pack("!HHHH", port, 7, octets - 20, 0) + payload.ljust(octets - 28, b"\0"))


def udp_checksum(src_ip, dst_ip, datagram):
    """The checksum of a UDP datagram whose checksum field is zero, over the IP version of the addresses."""
    pseudo = src_ip + dst_ip + struct.pack("!II", len(datagram), 17)
    return checksum(pseudo + datagram + b"\0" * (len(datagram) % 2)) or 0xFFFF


def udp6_packet(src_ip, dst_ip, ports, payload):
    """An IPv6 packet with a UDP datagram."""
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    udp = udp[:6] + struct.pack("!H", udp_checksum(src_ip, dst_ip, udp)) + udp[8:]
    return struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + src_ip + dst_ip + udp


def udp6_frame(dst, src, dst_ip, src_ip, port, size):
    """As `udp_frame`, over IPv6 and with a checksum. The smallest has 66 bytes."""
    data = max(0, size - FCS - 14 - 48)
    return dst + src + b"\x86\xdd" + udp6_packet(src_ip, dst_ip, (port, 7), bytes(data))


def tagged(frame, vlan):
    """The frame with an 802.1Q tag; the same without a VLAN."""
    return frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:] if vlan else frame


def untagged(frame):
    """The frame without its 802.1Q tag."""
    return frame[:12] + frame[16:]


def write_pcap(path, frames):
    """Writes frames to a file."""
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for n, one in enumerate(frames):
            f.write(struct.pack("<IIII", 0, n % 1000000, len(one), len(one)) + one)


def each_of_pcap(path):
    """The frames of a file one by one, without a last one that is cut off."""
    with open(path, "rb") as f:
        f.seek(24)
        while len(head := f.read(16)) == 16:
            kept = struct.unpack_from("<I", head, 8)[0]
            frame = f.read(kept)
            if len(frame) < kept:
                return
            yield frame


def read_pcap(path):
    """All of them."""
    return list(each_of_pcap(path))
