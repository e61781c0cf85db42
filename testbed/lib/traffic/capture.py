"""Captures (by tcpdump), and what tshark finds in them: wrong checksums, warnings of its dissectors, address requests
on the underlay. tshark shares no code with ours, so it is an independent check."""

import re
import time

from ..lab import Failure, info, sh
from ..lab.process import Process

OPTIONS = ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE",
           "tcp.analyze_sequence_numbers:FALSE", "tcp.desegment_tcp_streams:FALSE"]
OPAQUE = ["tcp.port==5000", "tcp.port==5201", "udp.port==7007"]  # our payload has no protocol that tshark could know
STATUS = ("ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "icmp.checksum.status",
          "icmpv6.checksum.status")
BAD = "0"
# Zero has two forms in ones' complement. Linux (skb_checksum_help) sends 0xffff for a TCP checksum of zero, which is
# correct for a receiver; tshark reports it.
OTHER_ZERO = "0xffff instead of 0x0000"
EXPERT = ("_ws.expert.severity", "_ws.expert.group", "_ws.expert.message")
WARNING = 0x600000  # tshark's PI_WARN; PI_ERROR is above
SEQUENCE = 0x2000000  # tshark's PI_SEQUENCE: the course of a TCP connection, such as resets
FIELDS = ("frame.number", "frame.len", "ip.src", "ipv6.src", "udp.dstport", "vxlan.vni", "arp.opcode",
          "arp.isgratuitous", "arp.src.proto_ipv4", "arp.dst.proto_ipv4", "icmp.type", "icmpv6.type",
          "icmpv6.nd.ns.target_address", *STATUS, *EXPERT)


class Capture:
    """tcpdump on an interface, until `stop`."""

    def __init__(self, lab, ns, dev, name=None, only=""):
        self.path = lab.logs / f"{name or ns.name + '-' + dev}.pcap"
        self.path.unlink(missing_ok=True)
        self.process = Process(lab, f"tcpdump-{ns.name}-{dev}",
                               ["tcpdump", "-i", dev, "-n", "-s", "0", "-B", "65536", "-U", "-Z", "root", "-w",
                                self.path, *only.split()], ns=ns)
        self.process.wait_line("listening on")

    def stop(self):
        """Ends the capture; raises if the kernel dropped frames of it."""
        time.sleep(0.3)
        self.process.stop()
        m = re.search(r"(\d+) packets? dropped by kernel", self.process.log.read_text())
        if m and int(m[1]):
            raise Failure(f"{self.path.name} is incomplete: the kernel dropped {m[1]} frames of the capture")
        return self


class Frame(dict):
    """A frame as tshark reads it: the values of each field, the outermost first."""

    def __missing__(self, key):
        return []

    @property
    def vni(self):
        """The VNI, or None if the frame is not VXLAN for tshark."""
        return int(self["vxlan.vni"][0]) if self["vxlan.vni"] else None

    @property
    def bad_checksum(self):
        """The first layer, outer or inner, with a wrong checksum."""
        for s in STATUS:
            if BAD in self[s] and not (s.startswith("tcp") and any(OTHER_ZERO in m for m in self[EXPERT[2]])):
                return s.split(".")[0]
        return None

    @property
    def warning(self):
        """The first warning or error of a dissector, without those about the course of a TCP connection."""
        for severity, group, message in zip(*(self[e] for e in EXPERT)):
            if int(severity) >= WARNING and int(group) != SEQUENCE and OTHER_ZERO not in message:
                return message
        return None

    @property
    def requested(self):
        """(VNI, IP) that an ARP request or neighbour solicitation in VXLAN asks for. Probes and announcements (no
        sender address, or sender and target the same) do not count."""
        if self.vni is None:
            return None
        if "1" in self["arp.opcode"] and self["arp.src.proto_ipv4"] != ["0.0.0.0"]:
            if self["arp.src.proto_ipv4"] != self["arp.dst.proto_ipv4"]:
                return self.vni, self["arp.dst.proto_ipv4"][0]
        if "135" in self["icmpv6.type"] and self["ipv6.src"][-1:] != ["::"] and self["icmpv6.nd.ns.target_address"]:
            return self.vni, self["icmpv6.nd.ns.target_address"][0]
        return None


class Reading:
    """A capture as tshark reads it."""

    def __init__(self, path):
        argv = ["tshark", "-n", "-r", path, "-T", "fields", "-E", "aggregator=|"]
        for o in OPTIONS:
            argv += ["-o", o]
        for o in OPAQUE:
            argv += ["-d", f"{o},data"]
        for f in FIELDS:
            argv += ["-e", f]
        self.path = path
        self.frames = []
        for line in sh(*argv, timeout=300).splitlines():
            values = line.split("\t")
            self.frames.append(Frame({f: v.split("|") for f, v in zip(FIELDS, values) if v}))

    def _rows(self, what):
        out = []
        for f in self.frames:
            value = what(f)
            if value:
                out.append(f"frame {f['frame.number'][0]} of {self.path.name}: {value}")
        return out

    def bad_checksums(self):
        """Frames with a wrong checksum at any layer."""
        return self._rows(lambda f: f.bad_checksum)

    def warnings(self):
        """VXLAN frames about which a dissector warns."""
        return self._rows(lambda f: f.vni is not None and f.warning)

    def not_vxlan(self, port="4789"):
        """Frames to the VXLAN port that are not VXLAN for tshark."""
        return self._rows(lambda f: f.vni is None and f["udp.dstport"][:1] == [port] and not f["icmp.type"]
                          and not f["icmpv6.type"] and "no VXLAN")

    def address_requests(self, known):
        """Requests in VXLAN for one of `known`, a set of (VNI, IP): the appliances must answer these from their tables.
        """
        return self._rows(lambda f: f.requested in known and f"asks for {f.requested}")

    def vxlan(self, vni=None, outer=""):
        """How many VXLAN frames there are, of a network, from outer source addresses with this beginning."""
        sources = "ipv6.src" if ":" in outer else "ip.src"
        return sum(f.vni is not None and vni in (None, f.vni) and "".join(f[sources][:1]).startswith(outer)
                   for f in self.frames)

    def longest(self):
        """The length of the longest frame."""
        return max((int(f["frame.len"][0]) for f in self.frames), default=0)


def print_findings(*findings):
    """Prints the first rows of each (what, rows)."""
    for what, rows in findings:
        for row in rows[:5]:
            info(f"{what}: {row}")
        if len(rows) > 5:
            info(f"{what}: {len(rows) - 5} more")
