"""What the bench's data paths are given: nodes on hosts, as tables for the board, and frames to and from them, as
files that a pcap port serves for ever.

Node n has a MAC and an IPv4 address of its own and lives on a host chosen by hashing n; MACs are scattered over
2^32 values, so that no table profits from neighbouring keys. All is computed from n, so a world of ten million nodes
costs nothing until it is written down. Frame sizes count the FCS, as RFC 2544 does: a frame of 64 bytes has 60 in
the file.
"""

import random
import socket
import struct

VNI = 100
VXLAN_PORT = 4789
PCAP_MAC = bytes.fromhex("027063617000")  # net_pcap gives it to the first of its ports
VHOST_MAC = bytes.fromhex("56484f535400")  # net_vhost, if that is the process's first port
FCS = 4
OUTER = 50  # bytes of Ethernet, IPv4, UDP and VXLAN around a frame
IMIX = (64,) * 7 + (594,) * 4 + (1518,)  # the "simple IMIX" that many testers use
SEED = 4711


def text(octets):
    """A MAC address as people write it."""
    return ":".join(f"{b:02x}" for b in octets)


def own(number):
    """(MAC, IPv4 address, VTEP) of the station that appliance `number` serves, and its own."""
    return bytes([2, 0, 0, 0, 0, number]), f"192.168.0.{number}", f"10.0.0.{number}"


class World:
    """`nodes` nodes on `hosts` hosts, none of which exists but as rows of tables and as addresses in frames."""

    def __init__(self, nodes, hosts):
        self.nodes, self.hosts = nodes, hosts

    def mac(self, node):
        return b"\x02\x01" + (node * 2654435761 & 0xFFFFFFFF).to_bytes(4, "big")

    def ip(self, node):
        return (0x0B000001 + node).to_bytes(4, "big")  # 11.0.0.1 and up

    def host(self, node):
        return (node * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) % 0xFFFFFFFB % self.hosts

    def vtep(self, host):
        return f"10.0.{1 + host // 250}.{1 + host % 250}"

    def host_mac(self, host):
        return b"\x02\x02\x00\x00" + host.to_bytes(2, "big")

    def neighbours(self):
        """Static entries for all hosts' VTEPs, as an underlay port's configuration takes them."""
        return [{"ip": self.vtep(h), "mac": text(self.host_mac(h))} for h in range(self.hosts)]

    def load(self, directory, board):
        """Has a board load all hosts and nodes; the files stay in the directory."""
        hosts, nodes = directory / "hosts.csv", directory / "nodes.csv"
        with open(hosts, "w") as f:
            f.write("name,vteps\n")
            f.writelines(f"far-{h},{self.vtep(h)}\n" for h in range(self.hosts))
        with open(nodes, "w") as f:
            f.write("vni,mac,host,ips\n")
            f.writelines(f"{VNI},{text(self.mac(n))},far-{self.host(n)},{socket.inet_ntoa(self.ip(n))}\n"
                         for n in range(self.nodes))
        board.cli("host", "load", hosts)
        board.cli("node", "load", nodes, timeout=600)

    def chosen(self, frames):
        """Which nodes the frames of a file are for: all of them again and again if the file has room, else as many
        at random; in random order either way."""
        dice = random.Random(SEED)
        if frames < self.nodes:
            return dice.sample(range(self.nodes), frames)
        nodes = [n for _ in range(-(-frames // self.nodes)) for n in range(self.nodes)][:frames]
        dice.shuffle(nodes)
        return nodes


def checksum(header):
    """Of an IPv4 header whose checksum field is zero."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _ipv4(src, dst, octets, more=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, octets, 0, more, 64, 17, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def udp_frame(dst, src, dst_ip, src_ip, port, size):
    """An Ethernet frame of `size` bytes with its FCS, which it lacks, around a UDP datagram."""
    octets = size - FCS - 14
    return (dst + src + b"\x08\x00" + _ipv4(src_ip, dst_ip, octets)
            + struct.pack("!HHHH", port, 7, octets - 20, 0) + bytes(octets - 28))


def encap_frames(world, number, frames, sizes=(64,)):
    """Yields (node, frame): from the station of appliance `number` to nodes all over the world."""
    mac, ip, _ = own(number)
    ip = socket.inet_aton(ip)
    for i, node in enumerate(world.chosen(frames)):
        yield node, udp_frame(world.mac(node), mac, world.ip(node), ip, 1024 + i % 60000, sizes[i % len(sizes)])


def decap_frames(world, number, frames, sizes=(64,), underlay_mac=PCAP_MAC):
    """Yields (node, datagram, the frame in it): from nodes all over the world, by their hosts' VTEPs, to the station
    of appliance `number`, whose underlay port has that MAC. UDP source ports differ by flow (RFC 7348 section 5)."""
    mac, ip, vtep = own(number)
    ip, vtep, dice = socket.inet_aton(ip), socket.inet_aton(vtep), random.Random(SEED)
    for i, node in enumerate(world.chosen(frames)):
        inner = udp_frame(mac, world.mac(node), ip, world.ip(node), 1024 + i % 60000, sizes[i % len(sizes)])
        host = world.host(node)
        udp = struct.pack("!HHHH", dice.randrange(49152, 65536), VXLAN_PORT, 16 + len(inner), 0)
        outer = (underlay_mac + world.host_mac(host) + b"\x08\x00"
                 + _ipv4(socket.inet_aton(world.vtep(host)), vtep, 36 + len(inner), 0x4000))
        yield node, outer + udp + struct.pack("!II", 0x08000000, VNI << 8) + inner, inner


def write_pcap(path, frames):
    """Writes frames to a file, returns how many bytes they have."""
    octets = 0
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for n, one in enumerate(frames):
            octets += len(one)
            f.write(struct.pack("<IIII", 0, n % 1000000, len(one), len(one)) + one)
    return octets


def read_pcap(path):
    """The whole frames of a file, whose last may be cut off."""
    data = path.read_bytes()
    at, frames = 24, []
    while at + 16 <= len(data):
        kept = struct.unpack_from("<I", data, at + 8)[0]
        at += 16
        if at + kept > len(data):
            break
        frames.append(data[at:at + kept])
        at += kept
    return frames
