"""Captures (tcpdump to pcap) and what tshark finds in them: wrong checksums, warnings of the dissectors,
address requests that crossed the underlay. tshark knows nothing of our code; that is the point."""

import re
import time

from .lab import Failure, sh
from .proc import Process

CHECKSUMS = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
             "-o", "tcp.analyze_sequence_numbers:FALSE", "-o", "tcp.reassemble_out_of_order:FALSE"]
BAD = ("ip.checksum.status == 0 || udp.checksum.status == 0 || tcp.checksum.status == 0 || "
       "icmp.checksum.status == 0 || icmpv6.checksum.status == 0")
WARNING = 0x600000  # tshark's PI_WARN; PI_ERROR is above


class Capture:
    """tcpdump on one interface, running until `stop`."""

    def __init__(self, lab, ns, dev, name=None, only=""):
        self.path = lab.logs / f"{name or ns.name + '-' + dev}.pcap"
        self.path.unlink(missing_ok=True)
        self.process = Process(lab, f"tcpdump-{ns.name}-{dev}",
                               ["tcpdump", "-i", dev, "-n", "-s", "0", "-B", "65536", "-U", "-Z", "root", "-w",
                                self.path, *only.split()], ns=ns)
        self.process.wait_line("listening on")

    def stop(self):
        """Ends the capture; raises if the kernel had to drop frames, since then nothing could be concluded."""
        time.sleep(0.3)
        self.process.stop()
        m = re.search(r"(\d+) packets? dropped by kernel", self.process.log.read_text())
        if m and int(m[1]):
            raise Failure(f"{self.path.name} is incomplete: the kernel dropped {m[1]} frames of the capture")
        return self


def tshark(path, keep, *fields, options=(), occurrence="a"):
    """Frames that match a display filter, each as a list of the fields' values."""
    argv = ["tshark", "-n", "-r", path, *options, "-Y", keep, "-T", "fields", "-E", f"occurrence={occurrence}"]
    for f in fields or ("frame.number",):
        argv += ["-e", f]
    return [line.split("\t") for line in sh(*argv, timeout=300).splitlines()]


def count(path, keep, options=()):
    """How many frames match a display filter."""
    return len(tshark(path, keep, options=options))


def bad_checksums(path):
    """Frames with a wrong checksum at any layer, outer or inner, as [number, what tshark says]."""
    return tshark(path, BAD, "frame.number", "_ws.col.Protocol", "_ws.col.Info", options=CHECKSUMS)


def warnings(path):
    """VXLAN frames about which a dissector warns, as [number, message]."""
    return tshark(path, f"vxlan && _ws.expert.severity >= {WARNING}", "frame.number", "_ws.expert.message",
                  options=CHECKSUMS)


def not_vxlan(path, port=4789):
    """Frames to or from the VXLAN port that tshark does not take for VXLAN."""
    return count(path, f"udp.port == {port} && !vxlan && !icmp && !icmpv6")


def address_requests(path, known):
    """ARP requests and neighbour solicitations inside VXLAN that ask for one of `known`, a set of (VNI, IP): whom
    the tables know, nobody needs to ask across the underlay. Probes and announcements (no sender address, or
    sender and target the same) are not requests and not counted. Returns [number, VNI, target]."""
    arp = "(vxlan && arp.opcode == 1 && arp.src.proto_ipv4 != 0.0.0.0 && !(arp.isgratuitous == 1))"
    nd = "(vxlan && icmpv6.type == 135 && !(ipv6.src == ::))"
    rows = tshark(path, f"{arp} || {nd}", "frame.number", "vxlan.vni", "arp.dst.proto_ipv4",
                  "icmpv6.nd.ns.target_address")
    asked = [(r[0], int(r[1]), r[2] or r[3]) for r in rows]
    return [[n, str(vni), ip] for n, vni, ip in asked if (vni, ip) in known]


def longest(path, keep="frame"):
    """The length of the longest frame that matches."""
    return max((int(r[0]) for r in tshark(path, keep, "frame.len")), default=0)
