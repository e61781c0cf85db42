"""The workload of the bench: nodes on hosts, as tables for the board, and frames to and from them, as files that a pcap
port serves endlessly.

Node n has a MAC and an IPv4 address and is on a host chosen by a hash of n. MACs are spread over 2^32 values, so that
no table profits from neighbouring keys. All is computed from n, so ten million nodes cost nothing until they are
written. Frame sizes count the FCS, as RFC 2544 does: a frame of 64 bytes has 60 in the file.
"""

import dataclasses
import ipaddress
import random
import struct

from ..traffic.frames import ipv4_udp_header, mac_text, tagged, udp6_frame, udp6_packet, udp_frame

VNI = 100
VXLAN_PORT = 4789
PCAP_MAC = bytes.fromhex("027063617000")  # the MAC of the first net_pcap port
VHOST_MAC = bytes.fromhex("56484f535400")  # the MAC of net_vhost, if it is the first port
IMIX = (64,) * 7 + (594,) * 4 + (1518,)  # the usual "simple IMIX"
SEED = 4711


def own(number):
    """(MAC, IPv4 address, VTEP): the station of appliance `number`, and the VTEP of the appliance."""
    return bytes([2, 0, 0, 0, 0, number]), f"192.168.0.{number}", f"10.0.0.{number}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of traffic: IP versions of tenants and underlay, the VLAN of the underlay, and what the station is behind: a
    vif, a segment, or a trunk in VLAN `trunk`."""

    name: str = "vif"
    tenants: int = 4
    underlay: int = 4
    underlay_vlan: int = 0
    port: str = "vif"
    trunk: int = 0


class World:
    """`nodes` nodes on `hosts` hosts. They exist only as rows of tables and as addresses in frames."""

    def __init__(self, nodes, hosts, kind=Kind()):
        self.nodes, self.hosts, self.kind = nodes, hosts, kind

    def own(self, number):
        """As `own`, with addresses of this kind."""
        mac, ip, vtep = own(number)
        if self.kind.tenants == 6:
            ip = f"fd01::{number:x}"
        return mac, ip, f"fd00::{number:x}" if self.kind.underlay == 6 else vtep

    def own_prefix(self, number):
        """The VTEP with its prefix."""
        return f"{self.own(number)[2]}/{64 if self.kind.underlay == 6 else 16}"

    def mac(self, node):
        return b"\x02\x01" + (node * 2654435761 & 0xFFFFFFFF).to_bytes(4, "big")

    def ip(self, node):
        if self.kind.tenants == 6:
            return (0xFD01 << 112 | 0xB000001 + node).to_bytes(16, "big")  # fd01::b00:1 and up
        return (0x0B000001 + node).to_bytes(4, "big")  # 11.0.0.1 and up

    def host(self, node):
        return (node * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) % 0xFFFFFFFB % self.hosts

    def vtep(self, host):
        if self.kind.underlay == 6:
            return f"fd00::{1 + host // 250:x}:{1 + host % 250:x}"
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
            f.writelines(f"{VNI},{mac_text(self.mac(n))},far-{self.host(n)},{ipaddress.ip_address(self.ip(n))}\n"
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
    mac, ip, _ = world.own(number)
    ip, kind = ipaddress.ip_address(ip).packed, world.kind
    make = udp6_frame if kind.tenants == 6 else udp_frame
    for i, node in enumerate(world.chosen(frames)):
        frame = make(world.mac(node), mac, world.ip(node), ip, 1024 + i % 60000, sizes[i % len(sizes)])
        yield node, tagged(frame, kind.trunk)


def decap_frames(world, number, frames, sizes=(64,), underlay_mac=PCAP_MAC):
    """Yields (node, datagram, the frame in it): from the nodes, by the VTEPs of their hosts, to the station of
    appliance `number`, whose underlay port has `underlay_mac`. UDP source ports differ by flow (RFC 7348 section 5)."""
    mac, ip, vtep = world.own(number)
    ip, vtep = ipaddress.ip_address(ip).packed, ipaddress.ip_address(vtep).packed
    dice, kind = random.Random(SEED), world.kind
    make = udp6_frame if kind.tenants == 6 else udp_frame
    for i, node in enumerate(world.chosen(frames)):
        inner = make(mac, world.mac(node), ip, world.ip(node), 1024 + i % 60000, sizes[i % len(sizes)])
        host = world.host(node)
        from_, ports = ipaddress.ip_address(world.vtep(host)).packed, (dice.randrange(49152, 65536), VXLAN_PORT)
        vxlan = struct.pack("!II", 0x08000000, VNI << 8) + inner
        if kind.underlay == 6:
            outer = b"\x86\xdd" + udp6_packet(from_, vtep, ports, vxlan)
        else:
            udp = struct.pack("!HHHH", *ports, 8 + len(vxlan), 0)
            outer = b"\x08\x00" + ipv4_udp_header(from_, vtep, 28 + len(vxlan), 0x4000) + udp + vxlan
        yield node, tagged(underlay_mac + world.host_mac(host) + outer, kind.underlay_vlan), inner
