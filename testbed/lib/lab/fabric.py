"""The topology of the lab. A host is a namespace with an appliance; an underlay switch joins the hosts. A tenant is a
namespace with one interface, `eth0`, cabled to a host or to the switch of a site behind a host.

    tenant eth0 ── vm0 [host: appliance] ul0 ── port [switch: br0] ── ... other hosts
"""

import json

from ..product import ron
from ..product.stopover import MEMORY_MIB, Appliance, Board
from ..traffic.mesh import Station
from .netns import Namespace, veth, wire_to_bridge
from .process import Process
from .run import REPO

TOOL = REPO / "testbed" / "tools" / "vlan_switch.py"
VTEP4, VTEP6, MAC = "10.0.0.{}", "fd00::{}", "02:0a:00:00:00:{:02x}"


def mac(n):
    """The MAC of station n."""
    return f"02:00:00:00:00:{n:02x}"


def ips(n):
    """The addresses of station n, in every network."""
    return [f"192.168.0.{n}", f"fd01::{n}"]


def cidrs(n):
    """The same with prefix length."""
    v4, v6 = ips(n)
    return [f"{v4}/24", f"{v6}/64"]


class Fabric:
    """The underlay switch and the hosts on it."""

    def __init__(self, lab, mtu=1600):
        self.lab, self.mtu = lab, mtu
        self.switch = Namespace(lab, "switch")
        self.switch.bridge("br0")
        self.hosts = []

    def host(self, name, board, v4=True, v6=True, mtu=None, lcores=2, queues=1, tunnels=None, **underlay):
        """A host with an appliance. Its underlay port `ul0` has the VTEP addresses 10.0.0.N and fd00::N, the MAC
        02:0a:00:00:00:N and `queues` queues. All its lcores but one forward. `tunnels`: keys of that structure."""
        number = len(self.hosts) + 1
        ns = Namespace(self.lab, f"host-{name}")
        ns.sysctl("ipv6.conf.default.disable_ipv6", 1)  # also on the taps that the appliance will make
        wire_to_bridge(ns, "ul0", self.switch, "br0", f"port{number}", mtu=self.mtu, mac=MAC.format(number))
        a = Appliance(self.lab, name, ns, board, lcores=lcores)
        a.number = number
        if tunnels is not None:
            a.config["tunnels"] = tunnels
        a.vteps = [VTEP4.format(number)] * v4 + [VTEP6.format(number)] * v6
        with_length = [f"{v}/64" if ":" in v else f"{v}/24" for v in a.vteps]
        a.af_packet("ul0", "ul0", ron.tagged("underlay", addresses=with_length, **underlay), queues=queues,
                    mtu=mtu or self.mtu)
        self.hosts.append(a)
        return a


def three_hosts(lab, spare_mib=64, underlay_mtu=1600, **options):
    """A board, a fabric and the three hosts gw-a, gw-b and gw-c on it, not started. `options` as of `Fabric.host`."""
    lab.hugepages(3 * MEMORY_MIB + spare_mib)
    board, fabric = Board(lab), Fabric(lab, underlay_mtu)
    return board, fabric, [fabric.host(f"gw-{n}", board, **options) for n in "abc"]


class Tenant(Station):
    """A station in a namespace of its own; `ips` with prefix length."""

    @classmethod
    def numbered(cls, lab, name, vni, n, number=None):
        """Station n of a network. `number`, which is n if not given, must be unique among all stations of the run."""
        return cls(lab, name, number or n, vni, mac(n), cidrs(n))

    def __init__(self, lab, name, number, vni, mac, ips):
        super().__init__(Namespace(lab, name), number, vni, [ip.split("/")[0] for ip in ips])
        self.vni, self.mac, self.cidrs = vni, mac, ips

    def plug_vif(self, appliance, guard=True, shared=(), **more):
        """Connects it to a new vif port of the appliance."""
        dev = f"vm{self.id}"
        veth(self.ns, "eth0", appliance.ns, dev, a_mac=self.mac, plain=False)
        role = ron.tagged("vif", vni=self.vni, mac=self.mac, addresses=self.ips, guard=guard,
                          **({"shared_addresses": list(shared)} if shared else {}))
        appliance.cabled(dev, dev, role, **more)
        return self._up()

    def plug_site(self, site):
        """Connects it to the switch of a site."""
        self.dev_at_site = f"st{self.id}"
        veth(self.ns, "eth0", site.ns, self.dev_at_site, a_mac=self.mac, plain=site.plain)
        site.ns.no_ipv6(self.dev_at_site)
        site.attach(self)
        return self._up()

    def _up(self):
        self.ns.address("eth0", *self.cidrs)
        return self


class Site:
    """A site behind a segment port of an appliance: a namespace with a switch, for stations. Without `vlans` the switch
    is a Linux bridge and the port belongs to network `vni`. With `vlans` (VLAN to VNI) the port is a trunk and the
    switch is the tool `vlan_switch.py`, since not every kernel has 802.1Q. The appliance's configuration has the
    `declared` stations; the appliance must learn the others."""

    def __init__(self, lab, appliance, name, vni=None, vlans=None, declared=()):
        self.lab, self.name, self.vlans, self.access = lab, name, vlans, {}
        self.ns = Namespace(lab, name)
        self.plain = bool(vlans)  # the tool sends frames as it receives them
        veth(self.ns, "up0", appliance.ns, name, plain=self.plain)
        self.ns.no_ipv6("up0")
        role = {"vlans": ron.Map(vlans)} if vlans else {"vni": vni}
        if declared:
            role["stations"] = [{"mac": s.mac, "vni": s.vni, "addresses": s.ips} for s in declared]
        appliance.cabled(name, name, ron.tagged("segment", **role))
        if not vlans:
            self.ns.bridge("br0")
            self.ns.ip("link", "set", "up0", "master", "br0")

    def attach(self, tenant):
        """Connects a tenant's cable to the switch."""
        if self.vlans:
            self.access[tenant.dev_at_site] = next(v for v, vni in self.vlans.items() if vni == tenant.vni)
        else:
            self.ns.ip("link", "set", tenant.dev_at_site, "master", "br0")

    def unplug(self, tenant, other):
        """Unplugs a tenant from this site's bridge. The end of its cable is then at site `other`, in no bridge."""
        self.ns.ip("link", "set", tenant.dev_at_site, "netns", other.ns.full)

    def replug(self, tenant):
        """Plugs a tenant that `unplug` brought here into the bridge."""
        self.ns.no_ipv6(tenant.dev_at_site)
        self.ns.ip("link", "set", tenant.dev_at_site, "master", "br0", "up")

    def start(self):
        """Starts the switch of a trunk, after all stations are attached."""
        if self.vlans:
            job = json.dumps({"trunk": "up0", "access": self.access})
            Process(self.lab, f"switch-{self.name}", ["/usr/bin/python3", TOOL, job], ns=self.ns).wait_line("ready")
        return self
