"""The lab's shape: hosts, each a namespace with an appliance in it, joined by an underlay switch; tenants, each a
namespace with one interface `eth0`, cabled to a host or to the switch of a site behind one.

    tenant eth0 ── vm0 [host: appliance] ul0 ── port [switch: br0] ── ... other hosts
"""

import json

from ..product import ron
from ..product.stopover import Appliance
from ..traffic.mesh import Station
from .netns import Namespace, veth, wire_to_bridge
from .process import Process
from .run import REPO

TOOL = REPO / "testbed" / "tools" / "vlan_switch.py"
VTEP4, VTEP6, MAC = "10.0.0.{}", "fd00::{}", "02:0a:00:00:00:{:02x}"


class Fabric:
    """The underlay switch and the numbering of hosts."""

    def __init__(self, lab, mtu=1600):
        self.lab, self.mtu = lab, mtu
        self.switch = Namespace(lab, "switch")
        self.switch.bridge("br0")
        self.hosts = []

    def host(self, name, board, v4=True, v6=True, mtu=None, lcores=2, queues=1, **underlay):
        """A host with an appliance whose underlay port `ul0` owns VTEP addresses 10.0.0.N and fd00::N and has
        the MAC 02:0a:00:00:00:N and `queues` queues. Of its lcores all but one forward."""
        number = len(self.hosts) + 1
        ns = Namespace(self.lab, f"host-{name}")
        ns.sysctl("ipv6.conf.default.disable_ipv6", 1)  # on taps, too, which the appliance will make
        wire_to_bridge(ns, "ul0", self.switch, "br0", f"port{number}", mtu=self.mtu, mac=MAC.format(number))
        a = Appliance(self.lab, name, ns, board, lcores=lcores)
        a.number = number
        a.vteps = [VTEP4.format(number)] * v4 + [VTEP6.format(number)] * v6
        with_length = [f"{v}/64" if ":" in v else f"{v}/24" for v in a.vteps]
        a.af_packet("ul0", "ul0", ron.tagged("underlay", addresses=with_length, **underlay), queues=queues,
                    mtu=mtu or self.mtu)
        self.hosts.append(a)
        return a


class Tenant(Station):
    """A station in a namespace of its own; `ips` with prefix length."""

    def __init__(self, lab, name, number, vni, mac, ips):
        super().__init__(Namespace(lab, name), number, vni, [ip.split("/")[0] for ip in ips])
        self.vni, self.mac, self.cidrs = vni, mac, ips

    def plug_vif(self, appliance, guard=True, shared=(), **more):
        """A vif port of the appliance, cabled to this tenant."""
        dev = f"vm{self.id}"
        veth(self.ns, "eth0", appliance.ns, dev, a_mac=self.mac, plain=False)
        role = ron.tagged("vif", vni=self.vni, mac=self.mac, addresses=self.ips, guard=guard,
                          **({"shared_addresses": list(shared)} if shared else {}))
        appliance.cabled(dev, dev, role, **more)
        return self._up()

    def plug_site(self, site):
        """A port of a site's switch."""
        self.dev_at_site = f"st{self.id}"
        veth(self.ns, "eth0", site.ns, self.dev_at_site, a_mac=self.mac, plain=site.plain)
        site.ns.no_ipv6(self.dev_at_site)
        site.attach(self)
        return self._up()

    def _up(self):
        self.ns.address("eth0", *self.cidrs)
        return self


class Site:
    """A site behind one segment port of an appliance: a namespace with a switch and stations. Without `vlans` the
    switch is a Linux bridge and the port belongs to network `vni`; with `vlans` (VLAN to VNI) the port is a
    trunk and the switch our own tool, since not every kernel has 802.1Q. `declared` stations stand in the
    appliance's configuration, others it must learn."""

    def __init__(self, lab, appliance, name, vni=None, vlans=None, declared=()):
        self.lab, self.name, self.vlans, self.access = lab, name, vlans, {}
        self.ns = Namespace(lab, name)
        self.plain = bool(vlans)  # our switch passes frames as it reads them from packet sockets
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
        """Pulls a tenant's cable out of this site's bridge; its loose end hangs at `other`, in no bridge."""
        self.ns.ip("link", "set", tenant.dev_at_site, "netns", other.ns.full)

    def replug(self, tenant):
        """Puts a cable that hangs here loose into the bridge."""
        self.ns.no_ipv6(tenant.dev_at_site)
        self.ns.ip("link", "set", tenant.dev_at_site, "master", "br0", "up")

    def start(self):
        """Starts a trunk's switch, once all its stations are attached."""
        if self.vlans:
            job = json.dumps({"trunk": "up0", "access": self.access})
            Process(self.lab, f"switch-{self.name}", ["/usr/bin/python3", TOOL, job], ns=self.ns).wait_line("ready")
        return self
