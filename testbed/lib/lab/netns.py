"""Network namespaces, veth pairs and bridges. All are inside namespaces of this run; the machine's own network does not
change. IPv6 is quiet by default (no autoconfiguration, no router solicitation, no duplicate address detection), so that
a capture has little but what the scenario sends."""

import ctypes
import socket

from .run import sh

CLONE_NEWNET = 0x4000_0000
ETH_P_ALL = 3

QUIET_V6 = {
    "autoconf": 0, "accept_ra": 0, "router_solicitations": 0, "accept_dad": 0, "dad_transmits": 0,
}


class Namespace:
    """A network namespace `so<pid>-NAME`: a new one, or the one of process `pid`."""

    def __init__(self, lab, name, pid=None):
        self.lab = lab
        self.name = name
        self.full = f"so{lab.pid}-{name}"
        sh("ip", "netns", *(["attach", self.full, pid] if pid else ["add", self.full]))
        lab.namespaces.append(self)
        self.quiet("default")
        self.ip("link", "set", "lo", "up")

    def command(self, argv):
        """The command that runs `argv` here. Unlike `ip netns exec` it does not change mounts."""
        return ["nsenter", f"--net=/run/netns/{self.full}", "--", *map(str, argv)]

    def run(self, *argv, **kw):
        """Runs a command here, returns its output."""
        return sh(*self.command(argv), **kw)

    def in_order(self, dev):
        """Lets one CPU receive all frames of a device. A veth reorders frames, unlike a cable, when the sender moves to
        another CPU before the first CPU's queue is empty. Does nothing where this cannot be set: in kernels without
        RPS, and in containers."""
        mask = f"/sys/class/net/{dev}/queues/rx-0/rps_cpus"
        sh("ip", "netns", "exec", self.full, "sh", "-c", f"echo 1 > {mask}", check=False)

    def ip(self, *argv):
        """Runs `ip` here."""
        return sh("ip", "-n", self.full, *argv)

    def sysctl(self, key, value):
        """Sets net.KEY here. An interface name in the key must not have a dot."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/{key.replace('.', '/')}")

    def quiet(self, dev):
        """Applies QUIET_V6 to an interface that exists; `default` stands for all new ones."""
        for key, value in QUIET_V6.items():
            self.sysctl(f"ipv6.conf.{dev}.{key}", value)

    def no_ipv6(self, dev):
        """Disables the kernel's IPv6 on this interface; for ends of cables that an appliance owns."""
        self.sysctl(f"ipv6.conf.{dev}.disable_ipv6", 1)

    def plain(self, dev):
        """Disables the offloads of a veth (checksums, segmentation, VLAN tags), so that every frame on it is complete.
        """
        self.run("ethtool", "-K", dev, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off",
                 "sg", "off", "rxvlan", "off", "txvlan", "off", check=False)

    def address(self, dev, *addresses):
        """Adds addresses (with prefix length), usable at once."""
        for a in addresses:
            self.ip("address", "add", a, "dev", dev, *(["nodad"] if ":" in a else []))

    def bridge(self, dev, mtu=9000):
        """Makes a bridge without spanning tree and multicast snooping."""
        self.ip("link", "add", dev, "type", "bridge", "stp_state", 0, "mcast_snooping", 0)
        self.ip("link", "set", dev, "mtu", mtu)
        self.no_ipv6(dev)
        self.ip("link", "set", dev, "up")

    def join(self, dev, other):
        """Makes a cable of two interfaces: what one receives the other sends; the kernel takes no frame. Can be
        repeated when one of them was made anew."""
        for a, b in ((dev, other), (other, dev)):
            self.run("tc", "qdisc", "del", "dev", a, "clsact", check=False)
            self.run("tc", "qdisc", "add", "dev", a, "clsact")
            # Matches every frame: a comparison under mask 0 with bytes of the Ethernet header.
            self.run("tc", "filter", "add", "dev", a, "ingress", "protocol", "all", "u32", "match", "u32", "0", "0",
                     "at", "-16", "action", "mirred", "egress", "redirect", "dev", b)

    def packet_socket(self, dev, receive=False):
        """A socket of this process that sends frames from an interface of this namespace, and receives all if wanted.
        """
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(path):
            with open(path) as f:
                if libc.setns(f.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), f"entering {path}")

        home = "/proc/thread-self/ns/net"
        with open(home) as back:
            enter(f"/run/netns/{self.full}")
            try:
                # Protocol 0 receives nothing.
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL) if receive else 0)
                s.bind((dev, ETH_P_ALL if receive else 0))
            finally:
                libc.setns(back.fileno(), CLONE_NEWNET)
        return s


def veth(a, a_dev, b, b_dev, mtu=1500, a_mac=None, b_mac=None, plain=True):
    """A cable between two namespaces, both ends up. Unless `plain`, it has the kernel's default offloads: checksums and
    segments are incomplete on it."""
    extra_a = ["address", a_mac] if a_mac else []
    extra_b = ["address", b_mac] if b_mac else []
    sh("ip", "-n", a.full, "link", "add", a_dev, "mtu", mtu, *extra_a, "type", "veth",
       "peer", "name", b_dev, "netns", b.full, "mtu", mtu, *extra_b)
    for ns, dev in ((a, a_dev), (b, b_dev)):
        if plain:
            ns.plain(dev)
        ns.in_order(dev)
        ns.ip("link", "set", dev, "up")


def wire_to_bridge(host, host_dev, switch, bridge, port, mtu=1600, mac=None):
    """A cable from a host's underlay interface, on which its kernel has no IPv6, to a port of a switch."""
    veth(host, host_dev, switch, port, mtu=mtu, a_mac=mac)
    host.no_ipv6(host_dev)
    switch.no_ipv6(port)
    switch.ip("link", "set", port, "master", bridge)
