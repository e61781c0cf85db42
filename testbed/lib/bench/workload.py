"""The workload of the bench: nodes on hosts, as tables for the board, and frames to and from them, as files that a pcap
port serves endlessly.

Node n has a MAC and an IPv4 address and is on a host chosen by a hash of n. MACs are spread over 2^32 values, so that
no table profits from neighbouring keys. All is computed from n, so ten million nodes cost nothing until they are
written. Frame sizes count the FCS, as RFC 2544 does: a frame of 64 bytes has 60 in the file.
"""

import random
import socket
import struct

from ..traffic.frames import ipv4_udp_header, mac_text, udp_frame

VNI = 100
VXLAN_PORT = 4789
PCAP_MAC = bytes.fromhex("027063617000")  # the MAC of the first net_pcap port
VHOST_MAC = bytes.fromhex("56484f535400")  # the MAC of net_vhost, if it is the first port
IMIX = (64,) * 7 + (594,) * 4 + (1518,)  # the usual "simple IMIX"
SEED = 4711


def own(number):
    """(MAC, IPv4 address, VTEP): the station of appliance `number`, and the VTEP of the appliance."""
    return bytes([2, 0, 0, 0, 0, number]), f"192.168.0.{number}", f"10.0.0.{number}"


class World:
    """`nodes` nodes on `hosts` hosts. They exist only as rows of tables and as addresses in frames."""

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
        """Static neighbour entries for all VTEPs, for the configuration of an underlay port."""
        return [{"ip": self.vtep(h), "mac": mac_text(self.host_mac(h))} for h in range(self.hosts)]

    def load(self, directory, board):
        """Loads all hosts and nodes into a board."""
        hosts, nodes = directory / "hosts.csv", directory / "nodes.csv"
        with open(hosts, "w") as f:
            f.write("name,vteps\n")
            f.writelines(f"far-{h},{self.vtep(h)}\n" for h in range(self.hosts))
        with open(nodes, "w") as f:
            f.write("vni,mac,host,ips\n")
            f.writelines(f"{VNI},{mac_text(self.mac(n))},far-{self.host(n)},{socket.inet_ntoa(self.ip(n))}\n"
                         for n in range(self.nodes))
        board.cli("host", "load", hosts)
        board.cli("node", "load", nodes, timeout=600)

    def chosen(self, frames):
        """The nodes that the frames of a file are for, in random order: all nodes, repeated as often as the file has
        room, or a random sample."""
        dice = random.Random(SEED)
        if frames < self.nodes:
            return dice.sample(range(self.nodes), frames)
        nodes = [n for _ in range(-(-frames // self.nodes)) for n in range(self.nodes)][:frames]
        dice.shuffle(nodes)
        return nodes


def encap_frames(world, number, frames, sizes=(64,)):
    """Yields (node, frame): from the station of appliance `number` to the nodes."""
    mac, ip, _ = own(number)
    ip = socket.inet_aton(ip)
    for i, node in enumerate(world.chosen(frames)):
        yield node, udp_frame(world.mac(node), mac, world.ip(node), ip, 1024 + i % 60000, sizes[i % len(sizes)])


def decap_frames(world, number, frames, sizes=(64,), underlay_mac=PCAP_MAC):
    """Yields (node, datagram, the frame in it): from the nodes, by the VTEPs of their hosts, to the station of
    appliance `number`, whose underlay port has `underlay_mac`. UDP source ports differ by flow (RFC 7348 section 5)."""
    mac, ip, vtep = own(number)
    ip, vtep, dice = socket.inet_aton(ip), socket.inet_aton(vtep), random.Random(SEED)
    for i, node in enumerate(world.chosen(frames)):
        inner = udp_frame(mac, world.mac(node), ip, world.ip(node), 1024 + i % 60000, sizes[i % len(sizes)])
        host = world.host(node)
        udp = struct.pack("!HHHH", dice.randrange(49152, 65536), VXLAN_PORT, 16 + len(inner), 0)
        outer = (underlay_mac + world.host_mac(host) + b"\x08\x00"
                 + ipv4_udp_header(socket.inet_aton(world.vtep(host)), vtep, 36 + len(inner), 0x4000))
        yield node, outer + udp + struct.pack("!II", 0x08000000, VNI << 8) + inner, inner
